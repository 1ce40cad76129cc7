"""The command line of the real binary: flags, environment, files, messages, exit codes."""

import os
import re
import select
import signal
import socket
import subprocess
import tempfile
import time
import unittest

BINARY = os.environ["CONDUCTOR_BINARY"]
DONE, FAILED, USAGE = 0, 1, 2
STARTS_WITHIN = 20  # seconds; under a sanitizer on a busy machine
ENDS_WITHIN = 5  # after a signal; what could hold it up takes ten seconds and more


class Conductor(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.home = directory.name

    def environment(self, extra):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CONDUCTOR_")}
        return {**kept, "HOME": self.home, **extra}

    def run_conductor(self, *arguments, **extra):
        """Runs a command that ends by itself."""
        return subprocess.run([BINARY, *arguments], env=self.environment(extra),
                              capture_output=True, text=True, timeout=STARTS_WITHIN)

    def start(self, *arguments, **extra):
        """Starts `serve` and waits until it listens: (process, port)."""
        errors = open(os.path.join(self.home, "stderr"), "w+")
        self.addCleanup(errors.close)
        process = subprocess.Popen([BINARY, "serve", *arguments], env=self.environment(extra),
                                   stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        readable, _, _ = select.select([process.stdout], [], [], STARTS_WITHIN)
        line = process.stdout.readline() if readable else ""
        listening = re.fullmatch(r"conductor: listening on http://\S+:(\d+)\n", line)
        self.assertTrue(listening, f"{line!r}; stderr: {self.errors()}")
        return process, int(listening.group(1))

    def errors(self):
        with open(os.path.join(self.home, "stderr")) as file:
            return file.read()

    def write(self, name, text):
        path = os.path.join(self.home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        return path

    def assert_complains(self, result, code, *parts):
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stdout, "")
        for part in parts:
            self.assertIn(part, result.stderr)


class Help(Conductor):
    def test_help_is_a_word_too(self):
        for words in ((), ("serve",), ("replay",), ("snapshot",), ("snapshot", "diff")):
            asked = self.run_conductor("help", *words)
            self.assertEqual((asked.returncode, asked.stderr), (DONE, ""))
            self.assertEqual(asked.stdout, self.run_conductor(*words, "--help").stdout)
        self.assert_complains(self.run_conductor("help", "snapshot", "nonsense"), USAGE,
                              "'nonsense' is no subcommand (expected save,", "snapshot --help'")
        self.assert_complains(self.run_conductor("help", "nonsense"), USAGE,
                              "'nonsense' is no subcommand (expected serve,")

    def test_help_fits_a_screen_and_has_examples_and_the_environment(self):
        for name in ("", "completion", "proxy", "replay", "score", "snapshot", "tap", "serve"):
            arguments = (*name.split(), "--help")
            result = self.run_conductor(*arguments)
            self.assertEqual(result.returncode, DONE)
            self.assertEqual(result.stderr, "")
            lines = result.stdout.splitlines()
            self.assertLessEqual(len(lines), 40)
            self.assertLessEqual(max(map(len, lines)), 90)
            self.assertIn("Examples:", lines)
            self.assertNotIn("\n\n\n", result.stdout)
        self.assertIn("CONDUCTOR_CONFIG_PATH", result.stdout)
        self.assertIn("CONDUCTOR_LOG_LEVEL", result.stdout)

    def test_streams_that_are_closed_are_not_taken_by_files(self):
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            for command in ("--version", "tap tcp://127.0.0.1:1 --duration 100ms --count 1"):
                with self.subTest(f"{command} {closed}"):
                    result = subprocess.run(
                        ["bash", "-c", f'"$0" {command} {closed}', BINARY],
                        env=self.environment({}), capture_output=True, text=True,
                        timeout=STARTS_WITHIN)
                    self.assertEqual(result.returncode, FAILED if "tap" in command else DONE)

    def test_help_all_has_what_the_help_leaves_out(self):
        short = self.run_conductor("serve", "--help").stdout.splitlines()
        result = self.run_conductor("serve", "--help-all")
        self.assertEqual(result.returncode, DONE)
        everything = result.stdout.splitlines()
        self.assertEqual([line for line in short if line not in everything], [])
        self.assertNotIn("--doubt-grace", "".join(short))
        self.assertIn("--doubt-grace", result.stdout)
        self.assertLessEqual(max(map(len, everything)), 90)

    def test_version_is_one_line(self):
        result = self.run_conductor("--version")
        self.assertEqual(result.returncode, DONE)
        self.assertRegex(result.stdout, r"\Aconductor \d+\.\d+\.\d+\n\Z")


class Usage(Conductor):
    def test_a_bad_flag_says_what_was_given_and_what_was_expected(self):
        cases = [
            ((), ["subcommand"]),
            (("sevre",), ["'sevre'", "expected serve"]),
            (("--prot", "1"), ["'--prot' is no flag"]),
            (("serve", "--prot", "1"), ["--prot"]),
            (("serve", "--port", "abc"), ["--port: 'abc' is not a port", "0 to 65535"]),
            (("serve", "--port", "65536"), ["--port: '65536' is not a port", "0 to 65535"]),
            (("serve", "--port", "-1"), ["--port"]),
            (("serve", "--port"), ["--port"]),
            (("serve", "--port", "1", "--port", "2"), ["--port"]),
            (("serve", "--host", ""), ["--host: is empty"]),
            (("serve", "--log-level", "loud"),
             ["--log-level: 'loud' is not a log level", "DEBUG, INFO, WARN or ERROR"]),
            (("serve", "--http-max-body", "64q"), ["--http-max-body: '64q' is not a size", "64m"]),
            (("serve", "--http-max-body", "99999999999g"), ["--http-max-body"]),
            (("serve", "--http-max-body", "0"), ["--http-max-body"]),
            (("serve", "--http-max-connections", "0"),
             ["--http-max-connections: '0' is not a possible value", "1 to 65536"]),
            (("serve", "--max-publishers", "many"), ["--max-publishers: 'many'"]),
            (("serve", "--ingest-threads", "0"), ["--ingest-threads: '0'"]),
            (("serve", "--probe-interval", "5"), ["--probe-interval: '5' is not a time", "500ms"]),
            (("serve", "--replay-timeout", "0s"), ["--replay-timeout: '0s' is too short"]),
            (("serve", "--doubt-grace", "-1s"), ["--doubt-grace: '-1s' is not a time"]),
            (("serve", "--legacy-min-state", "good"),
             ["--legacy-min-state: 'good' is not a state", "live, replaying, incomplete"]),
            (("serve", "--compat", "dynamo"),
             ["--compat: 'dynamo' is not a generation", "go, cpp-json or msgpack"]),
            (("serve", "--http-max-body", "2m", "--http-max-inflight", "1MiB"),
             ["--http-max-inflight: 1048576 bytes are less than the 2097152"]),
            (("serve", "--reconnect-min", "3s"),
             ["--reconnect-min: 3s is longer than the 2s of --reconnect-max"]),
            (("serve", "--hash-check", "1 in 64"), ["--hash-check: '1 in 64'"]),
            (("serve", "--demo-seed", "x"), ["--demo-seed: 'x' is not a seed"]),
            (("serve", "extra"), ["extra"]),
        ]
        for arguments, parts in cases:
            with self.subTest(arguments):
                self.assert_complains(self.run_conductor(*arguments), USAGE, "conductor: ", *parts)

    def test_a_bad_log_level_in_the_environment_is_named(self):
        self.assert_complains(self.run_conductor("serve", CONDUCTOR_LOG_LEVEL="loud"), USAGE,
                              "CONDUCTOR_LOG_LEVEL", "'loud'", "DEBUG, INFO, WARN or ERROR")


class ConfigFile(Conductor):
    BROKEN_ENTRY = """{"kvevent_instance": {"vllm-1": {"ip": "127.0.0.1", "port": "abc",
                       "type": "vLLM", "modelname": "m"}}}"""

    def test_that_is_named_and_missing_is_an_error(self):
        path = os.path.join(self.home, "nowhere.json")
        self.assert_complains(self.run_conductor("serve", "--config", path), FAILED, path,
                              "No such file")
        self.assert_complains(self.run_conductor("serve", CONDUCTOR_CONFIG_PATH=path), FAILED,
                              path, "No such file")

    def test_that_is_the_default_and_missing_is_a_warning(self):
        self.start("--port", "0")
        self.assertIn(os.path.join(self.home, ".mooncake/conductor_config.json"), self.errors())
        self.assertIn("warning", self.errors())

    def test_that_is_no_json_is_an_error_with_its_place(self):
        path = self.write("conductor.json", '{\n  "http_server_port": 13333,\n}\n')
        self.assert_complains(self.run_conductor("serve", "--config", path), FAILED, path,
                              "line 3, column 1")

    def test_with_a_broken_entry_starts_and_tells_its_path(self):
        path = self.write("conductor.json", self.BROKEN_ENTRY)
        self.start("--config", path, "--port", "0")
        self.assertIn(f'{path}: kvevent_instance.vllm-1.port: "abc" is not a port '
                      "(expected an integer from 1 to 65535)", self.errors())

    def test_with_a_broken_entry_is_fatal_when_strict(self):
        path = self.write("conductor.json", self.BROKEN_ENTRY)
        self.assert_complains(self.run_conductor("serve", "--config", path, "--strict"), FAILED,
                              f'{path}: kvevent_instance.vllm-1.port: "abc" is not a port')

    def test_has_limits_and_times_that_flags_come_before(self):
        path = self.write("conductor.json", '{"http_max_body": "1k", "hash_check": 0}')
        for flags, status in [((), 413), (("--http-max-body", "1m"), 400)]:
            with self.subTest(flags):
                _, port = self.start("--config", path, "--port", "0", *flags)
                with socket.create_connection(("127.0.0.1", port), timeout=STARTS_WITHIN) as client:
                    client.sendall(b"POST /query HTTP/1.0\r\nContent-Length: 2000\r\n\r\n"
                                   + b"x" * 2000)
                    self.assertIn(b" %d " % status, client.recv(1024))

    def test_with_a_bad_time_is_an_error_that_names_it(self):
        path = self.write("conductor.json", '{"probe_interval": 5}')
        self.assert_complains(self.run_conductor("serve", "--config", path), FAILED,
                              f'{path}: probe_interval: 5 is not a text', '"5s"')

    def test_in_the_default_place_is_read(self):
        self.write(".mooncake/conductor_config.json", '{"http_server_port": 0, "colour": 1}')
        self.start()
        self.assertIn("colour: unknown field", self.errors())

    def test_yields_to_the_environment_and_both_to_flags(self):
        by_default = self.write(".mooncake/conductor_config.json", '{"by_default": 1}')
        by_environment = self.write("environment.json", '{"by_environment": 1}')
        by_flag = self.write("flag.json", '{"by_flag": 1, "http_server_port": 1}')
        self.start("--port", "0", CONDUCTOR_CONFIG_PATH=by_environment)
        self.assertIn("by_environment", self.errors())
        self.assertNotIn(by_default, self.errors())
        # Port 1 of the file would be refused to most users; the flag comes first.
        self.start("--port", "0", "--config", by_flag, CONDUCTOR_CONFIG_PATH=by_environment)
        self.assertIn("by_flag", self.errors())
        self.assertNotIn("by_environment", self.errors())

    def test_log_level_flag_comes_before_the_environment(self):
        self.start("--port", "0", "--log-level", "WARN", CONDUCTOR_LOG_LEVEL="ERROR")
        self.assertIn("warning", self.errors())
        self.start("--port", "0", CONDUCTOR_LOG_LEVEL="error")
        self.assertEqual(self.errors(), "")


class Lifecycle(Conductor):
    def test_a_port_in_use_is_an_error_that_names_it(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            self.assert_complains(self.run_conductor("serve", "--port", port), FAILED,
                                  "127.0.0.1", port)

    def test_port_0_is_a_free_one_that_answers(self):
        _, port = self.start("--port", "0")
        self.assertGreater(port, 0)
        with socket.create_connection(("127.0.0.1", port), timeout=STARTS_WITHIN) as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            self.assertIn(b" 200 ", client.recv(1024))

    def test_a_signal_ends_it_soon(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                process, port = self.start("--port", "0")
                # An open connection that asks nothing must not hold it up.
                with socket.create_connection(("127.0.0.1", port)):
                    asked = time.monotonic()
                    process.send_signal(number)
                    self.assertEqual(process.wait(STARTS_WITHIN), DONE, self.errors())
                    self.assertLess(time.monotonic() - asked, ENDS_WITHIN)

    def test_the_demo_ends_soon_too(self):
        process, _ = self.start("--port", "0", "--demo")
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(STARTS_WITHIN), DONE, self.errors())
        self.assertLess(time.monotonic() - asked, ENDS_WITHIN)


if __name__ == "__main__":
    unittest.main()
