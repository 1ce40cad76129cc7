"""cmake --install: everything in its place, and each place named where others look for it."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

BUILD = os.environ["CONDUCTOR_BUILD"]
CMAKE = os.environ["CMAKE"]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def install(prefix, root):
    subprocess.run([CMAKE, "--install", BUILD, "--prefix", prefix], check=True, timeout=120,
                   env={**os.environ, "DESTDIR": root}, stdout=subprocess.DEVNULL)


class Install(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = folder.name

    def at(self, path):
        return os.path.join(self.root, path.lstrip("/"))

    def text(self, path):
        with open(self.at(path)) as file:
            return file.read()

    def test_each_thing_is_where_others_look_for_it(self):
        install("/opt/conductor", self.root)
        expected = ["bin/conductor", "etc/conductor/conductor.json",
                    "lib/systemd/system/conductor.service", "lib/sysusers.d/conductor.conf",
                    "share/bash-completion/completions/conductor",
                    "share/zsh/vendor-completions/_conductor",
                    "share/fish/vendor_completions.d/conductor.fish",
                    "share/doc/conductor/README.md", "share/doc/conductor/copyright",
                    "share/doc/conductor/http-api.md",
                    "share/doc/conductor/examples/conductor.json",
                    "share/doc/conductor/examples/router_http.py"]
        expected += [f"share/man/man{page[-1]}/{page}"
                     for page in os.listdir(os.path.join(ROOT, "man")) if page[-1].isdigit()]
        for path in expected:
            self.assertTrue(os.path.isfile(self.at("/opt/conductor/" + path)), path)
        version = subprocess.run([self.at("/opt/conductor/bin/conductor"), "--version"],
                                 capture_output=True, text=True, check=True, timeout=60)
        self.assertRegex(version.stdout, r"^conductor \d+\.\d+\.\d+\n$")

    def test_bash_completes_what_was_installed(self):
        install("/usr", self.root)
        script = self.at("/usr/share/bash-completion/completions/conductor")
        completed = subprocess.run(
            ["bash", "-c", f"source {script}; COMP_WORDS=(conductor ser); COMP_CWORD=1; "
             "$(complete -p conductor | sed 's/.*-F \\([^ ]*\\).*/\\1/'); "
             "printf '%s\n' ${COMPREPLY[@]}"], capture_output=True, text=True, timeout=60)
        self.assertEqual(completed.stdout.split(), ["serve"], completed.stderr)

    def test_the_unit_names_what_was_installed(self):
        for prefix, config in (("/usr/local", "/usr/local/etc"), ("/usr", "/etc")):
            install(prefix, self.root)
            unit = self.text(f"{prefix}/lib/systemd/system/conductor.service")
            self.assertNotIn("@", re.sub(r"(?m)^SystemCallFilter=.*", "", unit))
            self.assertIn(f"ExecStart={prefix}/bin/conductor serve "
                          f"--config {config}/conductor/conductor.json", unit)
            self.assertTrue(os.path.isfile(self.at(f"{config}/conductor/conductor.json")))

    def test_an_administrators_configuration_is_not_written_over(self):
        install("/usr", self.root)
        with open(self.at("/etc/conductor/conductor.json"), "w") as file:
            file.write('{"host": "10.0.0.1"}')
        install("/usr", self.root)
        self.assertEqual(self.text("/etc/conductor/conductor.json"), '{"host": "10.0.0.1"}')

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_systemd_finds_the_unit_sound_and_well_guarded(self):
        install("/usr", self.root)
        shutil.copy("/bin/true", self.at("/usr/bin/true"))
        unit = self.at("/usr/lib/systemd/system/conductor.service")
        # Its program is not where it will be.
        here = self.text("/usr/lib/systemd/system/conductor.service").replace(
            "/usr/bin/conductor", self.at("/usr/bin/conductor"))
        with open(unit, "w") as file:
            file.write(here)
        verified = subprocess.run(["systemd-analyze", "verify", "--man=no", unit],
                                  capture_output=True, text=True, timeout=60)
        self.assertNotIn("conductor.service", verified.stdout + verified.stderr)
        security = subprocess.run(
            ["systemd-analyze", "security", "--offline=yes", "--threshold=20", unit],
            capture_output=True, text=True, timeout=60)
        self.assertEqual(security.returncode, 0, security.stdout[-400:] + security.stderr)


if __name__ == "__main__":
    unittest.main()
