"""Starts the real `conductor serve`, talks to it over HTTP, and sees to it that it ends."""

import contextlib
import http.client
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

LISTENING = re.compile(r"^conductor: listening on (https?)://(.+):(\d+)$")
# Generous: tests wait for facts, and fail by this only when something is wrong.
DEADLINE = float(os.environ.get("CONDUCTOR_E2E_DEADLINE", "60"))
# A freeze of the machine counts no longer than this, so that it does not use up a wait before the
# others have run again.
LOOK = 0.1


def binary():
    path = os.environ.get("CONDUCTOR_BINARY")
    if not path:
        raise RuntimeError("set CONDUCTOR_BINARY to the conductor executable")
    return path


def wait_until(check, what, seconds=DEADLINE):
    """Calls `check` until it gives something true, and returns that. `what` may be a function that
    tells what was seen last."""
    waited = 0.0
    began = before = time.monotonic()
    while True:
        result = check()
        if result:
            return result
        now = time.monotonic()
        waited += min(now - before, LOOK)
        before = now
        if waited > seconds or now - began > 5 * seconds:
            raise AssertionError(
                f"not within {seconds:g} s: {what() if callable(what) else what}")
        time.sleep(0.01)


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)


def run_to_end(*arguments, config=None, environment=None, seconds=30):
    """Runs `conductor ARGUMENTS` with a home of its own until it ends by itself: the finished
    process with `stdout` and `stderr` as text."""
    with tempfile.TemporaryDirectory(prefix="conductor-e2e-") as home:
        arguments = list(arguments)
        if config is not None:
            path = os.path.join(home, "config.json")
            with open(path, "w", encoding="utf-8") as file:
                file.write(config if isinstance(config, str) else json.dumps(config))
            arguments += ["--config", path]
        return subprocess.run(
            [binary(), *arguments], env=_environment(home, environment), text=True,
            capture_output=True, timeout=seconds, cwd=home, check=False)


def _environment(home, more):
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith("CONDUCTOR_")}
    environment["HOME"] = home
    environment.update(more or {})
    return environment


class Daemon:
    """One running daemon, started by the constructor once it answers requests.

    `config`: an object, written to a file and given by --config. `where`: gives the file by
    "flag", "environment" or "home" (its default place).
    """

    SUBCOMMAND = "serve"

    def __init__(self, *arguments, config=None, where="flag", environment=None, port=0):
        self.home = tempfile.mkdtemp(prefix="conductor-e2e-")
        arguments = [self.SUBCOMMAND, *arguments]
        environment = _environment(self.home, environment)
        if config is not None:
            path = os.path.join(self.home, "config.json")
            if where == "home":
                os.mkdir(os.path.join(self.home, ".mooncake"))
                path = os.path.join(self.home, ".mooncake", "conductor_config.json")
            elif where == "environment":
                environment["CONDUCTOR_CONFIG_PATH"] = path
            else:
                arguments += ["--config", path]
            with open(path, "w", encoding="utf-8") as file:
                file.write(config if isinstance(config, str) else json.dumps(config))
        if port is not None:
            arguments += ["--port", str(port)]
        self._stderr = open(os.path.join(self.home, "stderr"), "w+b")
        self.process = subprocess.Popen(
            [binary(), *arguments], env=environment, cwd=self.home, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=self._stderr)
        self.stdout = []
        self._lines = queue.Queue()
        threading.Thread(target=self._read_stdout, daemon=True).start()
        try:
            self.scheme, self.host, self.port = self._wait_for_address()
        except BaseException:
            self.kill()
            raise

    @property
    def url(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    # Its life.

    def log(self):
        with open(self._stderr.name, encoding="utf-8", errors="replace") as file:
            return file.read()

    def stop(self, signal_number=signal.SIGTERM, within=DEADLINE):
        """Asks it to end: exit code 0 within that many seconds."""
        self.process.send_signal(signal_number)
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"still running {within:g} s after {signal_number.name}") from None
        if code != 0:
            raise AssertionError(f"exit code {code} after {signal_number.name}")

    def kill(self):
        """Whatever happened, it is gone afterwards."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self._stderr.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def _read_stdout(self):
        with contextlib.suppress(ValueError):  # closed by kill()
            for line in self.process.stdout:
                line = line.decode("utf-8", "replace").rstrip("\n")
                self.stdout.append(line)
                self._lines.put(line)
        self._lines.put(None)

    def _wait_for_address(self):
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"said no address within {DEADLINE:g} s:\n{self.log()}"
                                     ) from None
            if line is None:
                raise AssertionError(
                    f"ended with {self.process.wait()} before it listened:\n{self.log()}")
            match = LISTENING.match(line)
            if match:
                return match.group(1), match.group(2).strip("[]"), int(match.group(3))

    # Requests. A connection each, as a plain client's.

    def request(self, method, path, body=None, content_type="application/json"):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=DEADLINE)
        try:
            headers = {} if body is None else {"Content-Type": content_type}
            if body is not None and not isinstance(body, (str, bytes)):
                body = json.dumps(body)
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body):
        return self.request("POST", path, body)

    def ok(self, method, path, body=None):
        answer = self.request(method, path, body)
        if answer.status != 200:
            raise AssertionError(f"{method} {path}: {answer.status} {answer.body!r}")
        return answer.json

    # The questions.

    def query(self, model, tokens, **more):
        """POST /v1/query; instance id -> its entry."""
        answer = self.ok("POST", "/v1/query", {"model": model, "token_ids": tokens, **more})
        return {entry["instance_id"]: entry for entry in answer["instances"]}

    def longest(self, model, tokens, **more):
        """Instance id -> longest match in tokens, for those that match at all."""
        return {name: entry["longest_matched"]
                for name, entry in self.query(model, tokens, **more).items()
                if entry["longest_matched"]}

    def publishers(self):
        return self.ok("GET", "/v1/publishers")["publishers"]

    def publisher(self, identity):
        """One entry of /v1/publishers; None when it is not there."""
        return next((entry for entry in self.publishers() if entry["id"] == identity), None)

    def services(self):
        return self.ok("GET", "/services")["services"]

    def metrics(self):
        """Metric with labels, as written -> value."""
        lines = self.get("/metrics").body.decode().splitlines()
        return {name: float(value) for name, value in
                (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))}

    # Registration.

    def register(self, publisher, instance, model="test-model", block_size=16, rank=0, **more):
        body = {"endpoint": publisher.endpoint, "replay_endpoint": publisher.replay_endpoint,
                "type": "vLLM", "modelname": model, "instance_id": instance,
                "block_size": block_size, "dp_rank": rank}
        body.update(more)
        self.ok("POST", "/register", body)
        return key(instance, rank, body.get("tenant_id", "default"))

    def unregister(self, instance, rank=0, tenant="default"):
        return self.ok("POST", "/unregister",
                       {"instance_id": instance, "dp_rank": rank, "tenant_id": tenant})

    # Waiting.

    def wait_for(self, identity, state="live", reason=None, cursor=None, seconds=DEADLINE):
        """Until the publisher is in the state (None: any), and has applied up to `cursor` where
        that is given. Its entry."""
        seen = []

        def check():
            entry = self.publisher(identity)
            seen[:] = [entry]
            return (entry and state in (None, entry["state"]) and
                    (reason is None or entry["reason"] == reason) and
                    (cursor is None or entry["cursor"] == cursor) and entry)

        return wait_until(
            check, lambda: f"{identity} {state} {reason or ''} at {cursor}; it is {seen[0]}",
            seconds)

    def wait_applied(self, identity, publisher, **more):
        """Until all that the publisher has published is applied, in `state` "live"."""
        last = publisher.last_sequence
        return self.wait_for(identity, cursor=last if last >= 0 else None, **more)


def key(instance, rank=0, tenant="default"):
    """How a publisher is called."""
    return f"{instance}|{tenant}|{rank}"


def data_of_curl(words):
    """(path, body) of a curl command that was split into words."""
    url = next(word for word in words if word.startswith("http://"))
    flags = ("-d", "--data", "--data-raw", "--data-binary", "--json")
    body = next((words[index + 1] for index, word in enumerate(words) if word in flags), None)
    return urllib.parse.urlsplit(url).path, body


def show(text):
    """To the test's own output, for a person who looks at a failure."""
    print(text, file=sys.stderr, flush=True)
