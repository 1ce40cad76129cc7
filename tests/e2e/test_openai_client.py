"""OpenAI's own client for JavaScript, from npm, through `conductor proxy`: before engines that do
all, and before a prefiller and a decoder. What it does and expects is in openai_client/*.mjs.

Skipped where there is no node or npm (they are 350 packages of Debian's, so scripts/test does not
install them), or where npm cannot reach its registry. The package is installed once, into
$CONDUCTOR_OPENAI_CLIENT."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

from daemon import wait_until
from openai_engine import Engines
from proxy import Proxy
from suite import EndToEndTest

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "openai_client")
OLDEST_NODE = 18
# What npm says when there is no way to the registry, or the registry is not well.
OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH",
           "EHOSTUNREACH", "ERR_SOCKET_TIMEOUT", "EIDLETIMEOUT", "ENOTCACHED", "EPIPE",
           "ECONNABORTED", "E429", "E500", "E502", "E503", "E504")


def wanted_version():
    with open(os.path.join(SOURCE, "package.json"), encoding="utf-8") as file:
        return json.load(file)["dependencies"]["openai"]


def installed_version(folder):
    try:
        with open(os.path.join(folder, "node_modules", "openai", "package.json"),
                  encoding="utf-8") as file:
            return json.load(file)["version"]
    except FileNotFoundError:
        return None


def install(folder):
    """The scripts and the package beside them, where node looks for it."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        raise unittest.SkipTest("no node and npm here (apt-get install nodejs npm)")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".", maxsplit=1)[0]) < OLDEST_NODE:
        raise unittest.SkipTest(f"node {version.strip()} is older than {OLDEST_NODE}")
    shutil.copytree(SOURCE, folder, dirs_exist_ok=True)
    if installed_version(folder) == wanted_version():
        return
    try:
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1",
             "--fetch-retry-mintimeout=1000", "--fetch-timeout=10000"],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        shutil.rmtree(os.path.join(folder, "node_modules"), ignore_errors=True)  # half of it
        raise unittest.SkipTest("npm's registry is too slow") from None
    if done.returncode != 0:
        if any(code in done.stderr for code in OFFLINE):
            raise unittest.SkipTest(f"npm cannot reach its registry: {done.stderr.strip()[:300]}")
        raise AssertionError(f"npm install ended with {done.returncode}:\n{done.stderr}")


class OpenAiClient:
    """What holds whatever stands behind the proxy."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = os.environ.get("CONDUCTOR_OPENAI_CLIENT")
        if not cls.folder:
            cls.folder = tempfile.mkdtemp(prefix="conductor-openai-")
            cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        install(cls.folder)

    def setUp(self):
        self.engines = Engines()
        self.addCleanup(self.engines.close)
        self.url = self.start()

    def tearDown(self):
        for engine in self.engines.engines:
            self.assertEqual(engine.problems, [], engine.role)

    def start(self):
        """The URL of a proxy before engines of the kind."""
        raise NotImplementedError

    def proxy(self, *arguments):
        started = Proxy(*arguments)
        self.addCleanup(started.kill)
        self.addCleanup(self._show_log, started)
        return started.url

    def run_script(self, name):
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith("OPENAI_") and not key.lower().endswith("_proxy")}
        done = subprocess.run(
            ["node", "--test-reporter=tap", name], cwd=self.folder,
            env={**environment, "OPENAI_TEST_URL": self.url + "/v1"},
            capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, f"\n{done.stdout}\n{done.stderr}")
        self.assertRegex(done.stdout, r"(?m)^# pass [1-9]")

    def test_completions(self):
        self.run_script("completions.mjs")

    def test_chat(self):
        self.run_script("chat.mjs")

    def test_tools(self):
        self.run_script("tools.mjs")

    def test_errors(self):
        self.run_script("errors.mjs")

    def test_models_and_other_paths(self):
        self.run_script("others.mjs")

    def test_a_client_that_leaves_is_not_generated_for(self):
        self.run_script("leaving.mjs")
        for user in ("leaves a stream", "leaves early", "has no patience"):
            generated = [request for engine in self.engines.engines if engine.role != "prefill"
                         for request in engine.seen if request.json.get("user") == user]
            self.assertEqual(len(generated), 1, user)
            wait_until(generated[0].left.is_set, f"the connection of “{user}” to be closed")
            self.assertLess(generated[0].sent, 4000)


class BeforeEnginesThatDoAll(OpenAiClient, EndToEndTest):
    def start(self):
        engines = [self.engines.start() for _ in range(2)]
        return self.proxy("--engine-endpoints", *(engine.address for engine in engines))


class BeforeAPrefillerAndADecoder(OpenAiClient, EndToEndTest):
    def start(self):
        prefiller = self.engines.start(role="prefill")
        decoder = self.engines.start(role="decode")
        return self.proxy("--prefiller-endpoints", prefiller.address,
                          "--decoder-endpoints", decoder.address, "--connector", "nixl")


if __name__ == "__main__":
    unittest.main()
