"""Shell completion: the scripts of `conductor completion`, in the shells themselves."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

BINARY = os.environ["CONDUCTOR_BINARY"]
SECONDS = 20

# Completes $@ as bash would at the end of the line, and prints what it offers.
ASK = r"""
source "$SCRIPT"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_conductor
printf '%s\n' "${COMPREPLY[@]}"
"""


def conductor(*arguments):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=SECONDS)


def script(shell):
    result = conductor("completion", shell)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return result.stdout


def flags_of_help(*arguments):
    return set(re.findall(r"^  (?:-\w,)?(--[\w-]+)", conductor(*arguments).stdout, re.MULTILINE))


def subcommands():
    listed = conductor("--help").stdout.split("Subcommands:")[1].split("\n\n")[0]
    return set(re.findall(r"^  (\w+) ", listed, re.MULTILINE))


class Bash(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.home = directory.name
        cls.path = os.path.join(cls.home, "conductor.bash")
        with open(cls.path, "w") as file:
            file.write(script("bash"))
        os.mkdir(os.path.join(cls.home, "files"))
        for name in ("prompt one.json", "prompts.jsonl", "other"):
            open(os.path.join(cls.home, "files", name), "w").close()

    def bash(self, code, *words):
        result = subprocess.run(
            ["bash", "--norc", "-c", code, "bash", *words], capture_output=True, text=True,
            timeout=SECONDS, cwd=os.path.join(self.home, "files"),
            env={"PATH": os.environ["PATH"], "SCRIPT": self.path})
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return [line for line in result.stdout.splitlines() if line]

    def offered(self, *words):
        return self.bash(ASK, "conductor", *words)

    def test_is_registered_for_the_program(self):
        self.assertEqual(self.bash('source "$SCRIPT"; complete -p conductor'),
                         ["complete -F _conductor conductor"])

    def test_the_first_word_is_a_subcommand(self):
        offered = self.offered("")
        self.assertLessEqual(subcommands(), set(offered))
        self.assertIn("--version", offered)
        self.assertEqual(self.offered("ser"), ["serve"])
        self.assertEqual(self.offered("--vers"), ["--version"])

    def test_flags_are_those_of_the_help(self):
        for command in subcommands():
            with self.subTest(command):
                flags = {word for word in self.offered(command, "--")}
                self.assertLessEqual(flags_of_help(command, "--help"), flags)
        self.assertEqual({word for word in self.offered("serve", "--")},
                         flags_of_help("serve", "--help-all"))
        self.assertEqual(self.offered("score", "--min"), ["--min-tokens"])

    def test_files_are_offered_where_a_file_is_expected(self):
        self.assertEqual(sorted(self.offered("score", "--tokens", "prompt")),
                         ["prompt one.json", "prompts.jsonl"])
        self.assertEqual(self.offered("serve", "--config", "oth"), ["other"])
        self.assertEqual(self.offered("score", "--json", "prompts"), ["prompts.jsonl"])
        self.assertEqual(self.offered("score", "--tokens", "=", "oth"), ["other"])
        self.assertEqual(len(self.offered("score", "--tokens", "=")), 3)

    def test_a_command_of_commands_offers_their_names_flags_and_files(self):
        self.assertEqual(self.offered("snapshot", "ver"), ["verify"])
        self.assertEqual(self.offered("snapshot", "verify", "--again"), ["--against"])
        self.assertEqual(self.offered("snapshot", "info", "oth"), ["other"])

    def test_help_is_offered_and_takes_a_command(self):
        self.assertEqual(self.offered("he"), ["help"])
        self.assertEqual(set(self.offered("help", "")), subcommands())

    def test_nothing_is_offered_where_nobody_can_guess(self):
        self.assertEqual(self.offered("serve", "--port", ""), [])
        self.assertEqual(self.offered("score", "--model", "o"), [])
        self.assertEqual(self.offered("serve", "oth"), [])
        self.assertEqual(self.offered("nonsense", ""), [])

    # What parsers take; a word that none of them knows is told with all that they know.
    WORDS = {
        ("replay", "--dialect"): ["mooncake", "sglang", "vllm-array", "vllm-map"],
        ("replay", "--policy"): ["least-loaded", "longest-prefix", "round-robin", "score"],
        ("replay", "--speed"): ["1", "10", "max"],
        ("serve", "--compat"): ["cpp-json", "go", "msgpack"],
        ("serve", "--log-level"): ["DEBUG", "ERROR", "INFO", "WARN"],
        ("serve", "--legacy-min-state"): ["any", "doubtful", "incomplete", "live", "replaying",
                                         "stale"],
        ("proxy", "--policy"): ["least-loaded", "longest-prefix", "round-robin", "score"],
        ("proxy", "--connector"): ["ascend", "ascend-layerwise", "mooncake", "nixl", "none",
                                   "sglang", "store"],
        ("proxy", "--log-level"): ["DEBUG", "ERROR", "INFO", "WARN"],
        ("proxy", "--hash-algo"): ["sha256", "sha256_cbor"],
    }

    def test_words_of_flags_that_take_few_are_offered(self):
        for (command, flag), words in self.WORDS.items():
            with self.subTest(f"{command} {flag}"):
                self.assertEqual(sorted(self.offered(command, flag, "")), words)
        for command in ("tap", "replay", "score", "snapshot"):
            self.assertLessEqual({"vLLM", "SGLang", "Mooncake"},
                                 set(self.offered(command, "--type", "")))
        self.assertEqual(self.offered("replay", "--dialect", "=", "vllm-m"), ["vllm-map"])

    def test_what_is_offered_is_taken(self):
        for (command, flag), words in self.WORDS.items():
            if command == "proxy":
                continue  # it looks at its flags only when it begins
            source = ["any.rec"] if command == "replay" else []
            for word in words:
                refused = conductor(command, *source, flag, word, "--no-such-flag").stderr
                self.assertNotIn(f"'{word}'", refused)
                self.assertIn("--no-such-flag", refused)

    def test_choices_are_offered(self):
        self.assertLessEqual({"bash", "zsh", "fish"}, set(self.offered("completion", "")))
        self.assertEqual(self.offered("completion", "z"), ["zsh"])


class OtherShells(unittest.TestCase):
    def assert_reads(self, shell, *check):
        with tempfile.NamedTemporaryFile("w", suffix=f".{shell}") as file:
            file.write(script(shell))
            file.flush()
            result = subprocess.run([*check, file.name], capture_output=True, text=True,
                                    timeout=SECONDS)
            self.assertEqual((result.returncode, result.stderr), (0, ""))

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
    def test_zsh_reads_its_script(self):
        self.assert_reads("zsh", "zsh", "-f", "-n")

    @unittest.skipUnless(shutil.which("fish"), "fish is not installed")
    def test_fish_reads_its_script(self):
        self.assert_reads("fish", "fish", "--no-config", "--no-execute")

    @unittest.skipUnless(shutil.which("fish"), "fish is not installed")
    def test_fish_offers_what_bash_does(self):
        with tempfile.TemporaryDirectory() as home:
            path = os.path.join(home, "conductor.fish")
            with open(path, "w") as file:
                file.write(script("fish"))

            def offered(line):
                result = subprocess.run(
                    ["fish", "--no-config", "-c", f"source {path}; complete -C '{line}'"],
                    capture_output=True, text=True, timeout=SECONDS, cwd=home,
                    env={"PATH": os.environ["PATH"], "HOME": home})
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                return {entry.split("\t")[0] for entry in result.stdout.splitlines()}

            self.assertLessEqual(subcommands(), offered("conductor "))
            self.assertEqual(offered("conductor score --min"), {"--min-tokens"})
            self.assertEqual(offered("conductor completion z"), {"zsh"})
            self.assertEqual(offered("conductor replay --dialect vllm-"),
                             {"vllm-array", "vllm-map"})
            self.assertEqual(offered("conductor serve --compat c"), {"cpp-json"})
            self.assertEqual(offered("conductor score --tokens conductor.f"), {"conductor.fish"})

    def test_every_flag_is_in_every_script(self):
        for shell in ("zsh", "fish"):
            text = script(shell)
            for command in subcommands():
                self.assertIn(command, text)
            words = {"zsh": ":(go cpp-json msgpack)'", "fish": " -x -a 'go cpp-json msgpack'"}
            self.assertIn(words[shell], text)
            for flag in flags_of_help("serve", "--help-all") | flags_of_help("score", "--help"):
                self.assertIn(f"{flag}[" if shell == "zsh" else f" -l {flag[2:]} ", text)


class Usage(unittest.TestCase):
    def test_another_shell_is_a_usage_error(self):
        result = conductor("completion", "tcsh")
        self.assertEqual(result.returncode, 2)
        self.assertIn("'tcsh' is no shell that is known here (expected bash, zsh or fish)",
                      result.stderr)
        self.assertEqual(conductor("completion").returncode, 2)


if __name__ == "__main__":
    unittest.main()
