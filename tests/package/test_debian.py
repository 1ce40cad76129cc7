"""The Debian package: made by cpack, installed, run, removed and purged on a Debian 12 that has
nothing else, in a folder of its own (debootstrap)."""

import contextlib
import glob
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

BUILD = os.environ["CONDUCTOR_BUILD"]
CPACK = os.environ["CPACK"]
MIRROR = "http://deb.debian.org/debian"
# What apt, dpkg and the user database write for any package.
OF_THE_SYSTEM = ("var/lib/dpkg", "var/lib/apt", "var/cache", "var/log", "tmp", "etc/passwd",
                 "etc/group", "etc/shadow", "etc/gshadow", "etc/subuid", "etc/subgid",
                 "etc/ld.so.cache", "run", "dev", "proc")


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, **more)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: status {done.returncode}\n"
                             f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def why_not():
    if os.geteuid() != 0:
        return "only root can make a system of its own"
    for tool in ("debootstrap", "dpkg-shlibdeps", "file"):
        if not shutil.which(tool):
            return f"{tool} is not installed"
    try:
        with contextlib.closing(http.client.HTTPConnection("deb.debian.org", timeout=10)) as mirror:
            mirror.request("HEAD", "/debian/dists/bookworm/Release")
            if mirror.getresponse().status >= 400:
                return "Debian's archive does not answer"
    except OSError as error:
        return f"Debian's archive is out of reach: {error}"
    return None


def make_system(folder):
    """A fresh one. The archive may fail in the middle: that says nothing of the package."""
    for is_last in (False, True):
        try:
            return run("debootstrap", "--variant=minbase", "bookworm", folder, MIRROR)
        except AssertionError as error:
            if is_last:
                raise unittest.SkipTest(f"no system can be made: {error}") from error
            shutil.rmtree(folder, ignore_errors=True)


class DebianPackage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        reason = why_not()
        if reason:
            raise unittest.SkipTest(reason)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        run(CPACK, "--config", os.path.join(BUILD, "CPackConfig.cmake"), "-B", folder.name)
        cls.package, = glob.glob(os.path.join(folder.name, "conductor_*.deb"))
        cls.root = os.path.join(folder.name, "system")
        make_system(cls.root)
        shutil.copy("/etc/resolv.conf", os.path.join(cls.root, "etc/resolv.conf"))

    def inside(self, *command):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive",
                       "LC_ALL": "C.UTF-8"}
        return run("chroot", self.root, *command, env=environment)

    def files(self):
        found = set()
        for folder, _, names in os.walk(self.root):
            inner = os.path.relpath(folder, self.root)
            if inner.startswith(OF_THE_SYSTEM):
                continue
            found.update(os.path.join(inner, name) for name in names)
        return {path for path in found if not path.startswith(OF_THE_SYSTEM)}

    def serves(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        daemon = subprocess.Popen(
            ["chroot", self.root, "runuser", "-u", "conductor", "--", "conductor", "serve",
             "--config", "/etc/conductor/conductor.json", "--port", str(port)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            self.assertIn("listening", daemon.stdout.readline())
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port,
                                                               timeout=10)) as connection:
                connection.request("GET", "/readyz")
                self.assertEqual(connection.getresponse().status, 200)
        finally:
            daemon.terminate()
            daemon.stdout.close()
            daemon.wait(20)
        # runuser hands the signal on and ends by it.
        self.assertIn(daemon.returncode, (0, -15, 143))

    def test_it_installs_runs_and_goes_without_a_trace(self):
        shutil.copy(self.package, os.path.join(self.root, "tmp/conductor.deb"))
        with open(os.path.join(self.root, "etc/apt/apt.conf.d/80-retries"), "w") as file:
            file.write('Acquire::Retries "5";\n')
        self.inside("apt-get", "update")
        # What it needs stays when it goes, and is not its own.
        needed = self.inside("apt-get", "install", "--simulate", "--no-install-recommends",
                             "/tmp/conductor.deb")
        others = [line.split()[1] for line in needed.splitlines()
                  if line.startswith("Inst ") and not line.startswith("Inst conductor ")]
        if others:
            self.inside("apt-get", "install", "--yes", "--no-install-recommends", *others)
        before = self.files()

        self.inside("dpkg", "--install", "/tmp/conductor.deb")
        self.assertEqual(self.inside("dpkg", "--audit"), "")
        self.assertIn("usr/bin/conductor", self.files())
        self.assertRegex(self.inside("conductor", "--version"), r"^conductor \d")
        self.assertIn("/var/lib/conductor", self.inside("getent", "passwd", "conductor"))
        # Registrations are nobody's business but the daemon's.
        config = os.stat(os.path.join(self.root, "etc/conductor/conductor.json"))
        self.assertEqual(config.st_mode & 0o777, 0o640)
        self.serves()

        # The same again, over itself: an upgrade.
        self.inside("dpkg", "--install", "/tmp/conductor.deb")
        self.assertEqual(self.inside("dpkg", "--audit"), "")

        self.inside("dpkg", "--remove", "conductor")
        left = self.files() - before
        self.assertIn("etc/conductor/conductor.json", left, "a removal keeps the configuration")
        self.assertNotIn("usr/bin/conductor", left)
        self.inside("dpkg", "--purge", "conductor")
        self.assertEqual(self.files() - before, set())
        self.assertEqual(before - self.files(), set())


if __name__ == "__main__":
    unittest.main()
