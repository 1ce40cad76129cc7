"""The manual pages: every flag of the help has its entry and the other way; pages are well formed."""

import glob
import os
import re
import shutil
import subprocess
import unittest

BINARY = os.environ["CONDUCTOR_BINARY"]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGES = os.path.join(ROOT, "man")


def page(name):
    with open(os.path.join(PAGES, name)) as file:
        return file.read()


def help_of(*arguments):
    """What the binary says of itself, by default on --help."""
    if not arguments or arguments[-1] != "--help-all":
        arguments = (*arguments, "--help")
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True,
                          check=True, timeout=20).stdout


def flags_of_help(*arguments):
    """Long flags in the lists of options, with the shape of their value, if they take one. Of a flag
    with several names the first."""
    flags = {}
    for line in help_of(*arguments).splitlines():
        option = re.match(r"  (?:-\w,)?(--[\w-]+)(?:,--[\w-]+)*(?: ([A-Z]+))?(?:\s|$)", line)
        if option:
            flags[option.group(1)] = option.group(2)
    return flags


def flags_of_page(name):
    """Long flags with an entry of their own (.It Fl) in mdoc, and their .Ar."""
    flags = {}
    for entry in re.finditer(r"^\.It (.*Fl -[\w-]+.*)$", page(name), re.MULTILINE):
        words = re.search(r"Fl -([\w-]+)(?: Ar (\w+))?", entry.group(1))
        flags["--" + words.group(1)] = words.group(2).upper() if words.group(2) else None
    return flags


class ManualPages(unittest.TestCase):
    def test_serve_has_the_flags_of_its_help_and_no_others(self):
        flags = flags_of_help("serve", "--help-all")
        self.assertGreater(len(flags), 30)
        self.assertEqual(flags_of_page("conductor-serve.1"), flags)

    def test_score_has_the_flags_of_its_help_and_no_others(self):
        self.assertEqual(flags_of_page("conductor-score.1"), flags_of_help("score"))

    def test_completion_has_the_flags_of_its_help_and_no_others(self):
        self.assertEqual(flags_of_page("conductor-completion.1"), flags_of_help("completion"))

    def test_score_has_the_environment_that_it_looks_at(self):
        for name in ("CONDUCTOR_TOKEN", "NO_COLOR", "COLUMNS"):
            self.assertIn(f".It Ev {name}", page("conductor-score.1"))

    def test_tap_has_the_flags_of_its_help_and_no_others(self):
        flags = flags_of_help("tap")
        self.assertGreater(len(flags), 15)
        self.assertEqual(flags_of_page("conductor-tap.1"), flags)

    def test_snapshot_has_the_flags_of_all_its_subcommands_and_no_others(self):
        flags = flags_of_help("snapshot")
        listed = help_of("snapshot").split("Subcommands:")[1].split("\n\n")[0]
        for name in re.findall(r"^  (\w+) ", listed, re.MULTILINE):
            for flag, shape in flags_of_help("snapshot", name).items():
                self.assertEqual(flags.setdefault(flag, shape), shape, f"{name} {flag}")
        self.assertGreater(len(flags), 25)
        self.assertEqual(flags_of_page("conductor-snapshot.1"), flags)

    def assert_page_has(self, name, defaults):
        """Of pairs of a flag and its default each default, in the flag's entry."""
        entries = re.split(r"^\.(?:It|El)", page(name), flags=re.MULTILINE)
        for flag, default in defaults:
            entry, = [entry for entry in entries if re.match(rf" Fl -{flag} Ar", entry)]
            self.assertRegex(entry, rf"(?<![\w.]){re.escape(default)}(?![\w.]*\w)", flag)

    def test_serve_has_the_defaults_of_its_help(self):
        defaults = re.findall(r"^  --([\w-]+) [A-Z]+\s+.*\[([\w.]+)\]", help_of("serve", "--help-all"),
                              re.MULTILINE)
        self.assertGreater(len(defaults), 25)
        self.assert_page_has("conductor-serve.1", defaults)

    def test_replay_has_the_flags_of_its_help_and_no_others(self):
        flags = flags_of_help("replay", "--help-all")
        self.assertGreater(len(flags), 30)
        self.assertEqual(flags_of_page("conductor-replay.1"), flags)

    def test_proxy_has_the_flags_of_its_help_and_no_others(self):
        flags = flags_of_help("proxy", "--help-all")
        self.assertGreater(len(flags), 40)
        self.assertEqual(flags_of_page("conductor-proxy.1"), flags)

    def test_proxy_has_the_defaults_and_the_environment_of_its_help(self):
        defaults = re.findall(r"^  --([\w-]+)[, ].*?\[([\w.]+)\]", help_of("proxy", "--help-all"),
                              re.MULTILINE)
        self.assertGreater(len(defaults), 20)
        self.assert_page_has("conductor-proxy.1", defaults)
        for name in set(re.findall(r"[A-Z]+_[A-Z_]+", help_of("proxy"))):
            self.assertIn(f".It Ev {name}", page("conductor-proxy.1"))

    def test_conductor_has_the_flags_of_its_help_and_no_others(self):
        self.assertEqual(flags_of_page("conductor.1"), flags_of_help())

    def test_every_subcommand_has_its_page(self):
        listed = help_of().split("Subcommands:")[1].split("\n\n")[0]
        names = re.findall(r"^  (\w+) ", listed, re.MULTILINE)
        self.assertIn("serve", names)
        for name in names:
            self.assertTrue(os.path.exists(os.path.join(PAGES, f"conductor-{name}.1")), name)
            self.assertIn(f".Xr conductor-{name} 1", page("conductor.1"))

    def test_environment_variables_of_the_help_are_in_the_page(self):
        for name in set(re.findall(r"CONDUCTOR_\w+", help_of("serve"))):
            self.assertIn(f".It Ev {name}", page("conductor-serve.1"))

    def test_every_field_that_the_configuration_reader_knows_is_in_its_page(self):
        source = ""
        for name in ("config.cc", "registration_json.cc"):
            with open(os.path.join(ROOT, "daemon/serve", name)) as file:
                source += file.read()
        # Fields of a publisher are read from `fields`; members of its members are not listed.
        read = set(re.findall(r'fields\.(?:Get|Text|Integer|Number|Object|IsSecond|OneOf)\(\s*"(\w+)"',
                              source))
        read |= set(re.findall(r'fields\.Text\("\w+", "(\w+)"\)', source))
        read |= set(re.findall(r'key == "(\w+)"', source))
        # Settings are read under the names of their flags, which take a value; other flags do not
        # stand in the file, or under names of their own.
        own = {"--config", "--host", "--port", "--log-level", "--demo-seed"}
        settings = {flag for flag, shape in flags_of_help("serve", "--help-all").items() if shape}
        read |= {flag[2:].replace("-", "_") for flag in settings - own}
        self.assertGreater(len(read), 50)
        described = set(re.findall(r"^\.It Sy (\w+)", page("conductor.json.5"), re.MULTILINE))
        self.assertEqual(described, read)

    @unittest.skipUnless(shutil.which("groff"), "groff is not installed")
    def test_pages_are_well_formed(self):
        pages = glob.glob(os.path.join(PAGES, "*.[15]"))
        self.assertGreater(len(pages), 4)
        for path in pages:
            result = subprocess.run(["groff", "-mandoc", "-Tutf8", "-ww", "-z", path],
                                    capture_output=True, text=True, timeout=20)
            self.assertEqual((result.returncode, result.stderr), (0, ""), path)


if __name__ == "__main__":
    unittest.main()
