"""How the daemon starts, stops, and shows itself."""

import http.client
import json
import shlex
import signal
import socket
import threading
import time
import unittest

import daemon as process
from daemon import key, wait_until
from engine import Engine
from model import Model
from publisher import free_ports
from strangers import Stranger
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt

# What a signal may take until the process is gone: promised is much less, but a busy machine adds to
# it.
STOP_WITHIN = 5.0
# Whatever it could wait for takes longer.
LONG = ("--http-request-timeout", "1m", "--http-idle-timeout", "1m", "--handshake-timeout", "1m",
        "--replay-timeout", "1m")


class Stopping(EndToEndTest):
    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def setUp(self):
        super().setUp()
        self.held_up = []  # what each one said that did not end by itself

    def tearDown(self):
        # A machine that stands still looks like it once.
        self.assertLess(len(self.held_up), len(self.SIGNALS), self.held_up)
        super().tearDown()

    def stop(self, daemon, number):
        daemon.stop(number, STOP_WITHIN)
        log = daemon.log()
        if "abandoned, the process exits" in log:
            self.held_up.append(log)

    def test_idle(self):
        for number in self.SIGNALS:
            with self.subTest(signal=number.name):
                self.stop(self.daemon(*LONG), number)

    def test_with_open_connections_and_requests_cut_off_in_the_middle(self):
        for number in self.SIGNALS:
            with self.subTest(signal=number.name):
                daemon = self.daemon(*LONG)
                beginnings = [
                    b"", b"GET /healthz HT", b"POST /v1/query HTTP/1.1\r\nHost: x\r\n",
                    b"POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"model\"",
                    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"]
                for beginning in beginnings * 8:
                    connection = socket.create_connection((daemon.host, daemon.port))
                    self.addCleanup(connection.close)
                    connection.sendall(beginning)
                daemon.get("/healthz")
                self.stop(daemon, number)

    def test_with_publishers_of_every_condition(self):
        for number in self.SIGNALS:
            with self.subTest(signal=number.name):
                daemon = self.daemon(*LONG)
                well = self.publisher()
                dead = self.publisher()
                never = self.publisher(started=False)
                strangers = [Stranger(), Stranger()]
                for stranger in strangers:
                    self.addCleanup(stranger.close)
                Engine(Model(BLOCK_SIZE), well, "well").run(prompt(1, 5))
                for name, publisher in (("well", well), ("dead", dead), ("never", never)):
                    daemon.register(publisher, name)
                daemon.ok("POST", "/register", {
                    "endpoint": strangers[0].endpoint, "replay_endpoint": strangers[1].endpoint,
                    "type": "vLLM", "modelname": MODEL, "instance_id": "stranger",
                    "block_size": BLOCK_SIZE, "dp_rank": 0})
                daemon.wait_applied(key("well"), well)
                daemon.wait_for(key("dead"))
                dead.die()
                self.stop(daemon, number)

    def test_while_publishers_publish_and_clients_ask(self):
        for number in self.SIGNALS:
            with self.subTest(signal=number.name):
                daemon = self.daemon(*LONG)
                publisher = self.publisher()
                engine = Engine(Model(BLOCK_SIZE), publisher, "a", capacity=50)
                daemon.register(publisher, "a")
                ended = threading.Event()

                def publish():
                    while not ended.is_set():
                        engine.run(prompt(publisher.last_sequence % 7, 20))

                def ask():
                    while not ended.is_set():
                        try:
                            daemon.longest(MODEL, prompt(1, 20))
                        except (OSError, http.client.HTTPException):
                            return

                workers = [threading.Thread(target=publish)]
                workers += [threading.Thread(target=ask) for _ in range(4)]
                for worker in workers:
                    worker.start()
                try:
                    wait_until(lambda: publisher.last_sequence > 50, "nothing is published")
                    self.stop(daemon, number)
                finally:
                    ended.set()
                    for worker in workers:
                        worker.join()

    def test_during_a_replay_that_never_ends(self):
        for number in self.SIGNALS:
            with self.subTest(signal=number.name):
                daemon = self.daemon(*LONG)
                silent = Stranger()
                self.addCleanup(silent.close)
                publisher = self.publisher(replay=None)
                daemon.register(publisher, "a", replay_endpoint=silent.endpoint)
                wait_until(lambda: silent.accepted, "no replay was asked for")
                self.stop(daemon, number)


class NotStarting(EndToEndTest):
    def test_port_in_use_is_told_with_the_address(self):
        taken = self.daemon()
        begin = time.monotonic()
        ended = process.run_to_end("serve", "--port", str(taken.port))
        self.assertEqual(ended.returncode, 1)
        self.assertIn(f"127.0.0.1:{taken.port}", ended.stderr)
        self.assertNotIn("listening", ended.stdout)
        self.assertLess(time.monotonic() - begin, 10)
        self.assertEqual(taken.get("/healthz").status, 200)

    def test_port_of_a_daemon_that_ended_is_free_at_once(self):
        port = free_ports()
        for _ in range(3):
            daemon = self.daemon(port=port)
            connection = http.client.HTTPConnection(daemon.host, daemon.port)
            self.addCleanup(connection.close)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            daemon.stop()

    def test_address_that_is_not_ours(self):
        ended = process.run_to_end("serve", "--port", "0", "--host", "192.0.2.1")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("192.0.2.1", ended.stderr)

    def test_flags_that_cannot_be_read(self):
        for arguments, told in [
                (["--port", "many"], "--port"), (["--port", "70000"], "--port"),
                (["--port", "-1"], "--port"), (["--log-level", "LOUD"], "--log-level"),
                (["--probe-interval", "5"], "--probe-interval"), (["--nonsense"], "--nonsense"),
                (["--replay-timeout", "-1s"], "--replay-timeout"), (["--host", ""], "--host"),
                (["surplus"], "surplus")]:
            with self.subTest(arguments=arguments):
                ended = process.run_to_end("serve", *arguments)
                self.assertEqual(ended.returncode, 2, ended.stderr)
                self.assertIn(told, ended.stderr)

    def test_environment_that_cannot_be_read(self):
        ended = process.run_to_end("serve", "--port", "0",
                                   environment={"CONDUCTOR_LOG_LEVEL": "LOUD"})
        self.assertEqual(ended.returncode, 2)
        self.assertIn("CONDUCTOR_LOG_LEVEL", ended.stderr)

    def test_help_and_version(self):
        for arguments in (["--help"], ["serve", "--help"], ["--version"]):
            ended = process.run_to_end(*arguments)
            self.assertEqual(ended.returncode, 0, arguments)
            self.assertTrue(ended.stdout)

    def test_no_subcommand(self):
        ended = process.run_to_end()
        self.assertEqual(ended.returncode, 2)


class Showing(EndToEndTest):
    def test_health_and_readiness(self):
        daemon = self.daemon()
        self.assertEqual(daemon.get("/healthz").status, 200)
        self.assertEqual(daemon.get("/readyz").status, 200)

    def test_default_host_is_the_loopback(self):
        self.assertEqual(self.daemon().host, "127.0.0.1")

    def test_metrics_count_what_happens(self):
        daemon = self.daemon()
        publisher = self.publisher()
        engine = Engine(Model(BLOCK_SIZE), publisher, "a")
        engine.run(prompt(1, 5))
        engine.reset()
        engine.run(prompt(2, 3))
        daemon.register(publisher, "a")
        daemon.wait_applied(key("a"), publisher)
        daemon.longest(MODEL, prompt(2, 3))
        answer = daemon.get("/metrics")
        self.assertIn("text/plain", answer.headers["Content-Type"])
        metrics = daemon.metrics()
        self.assertTrue(all(name.startswith(("conductor_", "process_")) for name in metrics))
        text = answer.body.decode()
        self.assertIn("# TYPE", text)
        self.assertIn("# HELP", text)
        self.assertEqual(metrics["conductor_publishers"], 1)
        self.assertEqual(metrics["conductor_index_holdings"], 3)
        of_publisher = {
            name.split("{")[0]: value for name, value in metrics.items()
            if 'publisher="a|default|0"' in name and 'kind="stored"' in name}
        self.assertEqual(of_publisher, {"conductor_publisher_events_total": 2,
                                        "conductor_publisher_blocks_total": 8})
        live = [value for name, value in metrics.items()
                if name.startswith("conductor_publisher_state") and 'state="live"' in name]
        self.assertEqual(live, [1])
        # A request is counted after its answer was sent.
        wait_until(lambda: [1] == [
            value for name, value in daemon.metrics().items()
            if name.startswith("conductor_http_requests_total") and "/v1/query" in name],
            "the query is not counted")

    def test_publishers_are_shown_with_what_they_said(self):
        daemon = self.daemon()
        publisher = self.publisher()
        engine = Engine(Model(BLOCK_SIZE), publisher, "a")
        engine.run(prompt(1, 5))
        engine.run(prompt(1, 7))
        daemon.register(publisher, "a")
        entry = daemon.wait_applied(key("a"), publisher)
        self.assertEqual(entry["id"], "a|default|0")
        self.assertEqual(entry["cursor"], 1)
        self.assertEqual(entry["state"], "live")
        self.assertFalse(entry["reason"])
        self.assertEqual(entry["block_size"], BLOCK_SIZE)
        self.assertEqual(entry["counters"]["stored_blocks"], 7)

    def test_log_has_no_line_for_single_events(self):
        daemon = self.daemon()
        publisher = self.publisher()
        engine = Engine(Model(BLOCK_SIZE), publisher, "a")
        engine.run(prompt(0, 3))
        daemon.register(publisher, "a")
        daemon.wait_applied(key("a"), publisher)
        lines = len(daemon.log().splitlines())
        for seed in range(200):
            engine.run(prompt(seed, 3))
            daemon.longest(MODEL, prompt(seed, 3))
        daemon.wait_applied(key("a"), publisher)
        self.assertLessEqual(len(daemon.log().splitlines()), lines + 2, daemon.log())

    def test_demo_says_what_to_ask_and_its_answer_changes(self):
        daemon = self.daemon("--demo")
        wait_until(lambda: any("curl" in line for line in daemon.stdout), lambda: daemon.stdout)
        words = shlex.split(next(line for line in daemon.stdout if "curl" in line))
        path, body = process.data_of_curl(words)
        self.assertTrue(any(word.startswith(daemon.url) for word in words), words)
        seen = set()

        def changed():
            # As curl does: its default Content-Type.
            answer = daemon.request("POST", path, body, "application/x-www-form-urlencoded")
            self.assertEqual(answer.status, 200, answer.body)
            entries = answer.json["instances"]
            self.assertEqual({entry["instance_id"] for entry in entries}, {"demo-a", "demo-b"})
            ranks = {entry["instance_id"]: len(entry["ranks"]) for entry in entries}
            self.assertEqual(ranks, {"demo-a": 1, "demo-b": 2})
            seen.add(json.dumps(sorted((entry["instance_id"], entry["longest_matched"])
                                       for entry in entries)))
            return len(seen) >= 3

        wait_until(changed, lambda: seen)
        # Stored and evicted: the narrator tells both.
        wait_until(lambda: len([line for line in daemon.stdout if "demo-a" in line]) >= 3,
                   lambda: daemon.stdout)
        daemon.stop(signal.SIGINT)


class Connections(EndToEndTest):
    def test_idle_connections_do_not_delay_a_new_one(self):
        daemon = self.daemon()
        idle = []
        for _ in range(300):
            connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=30)
            self.addCleanup(connection.close)
            connection.request("GET", "/healthz")
            self.assertEqual(connection.getresponse().read() and 200, 200)
            idle.append(connection)
        begin = time.monotonic()
        self.assertEqual(daemon.get("/healthz").status, 200)
        self.assertLess(time.monotonic() - begin, 5)  # half of the time limit of a request
        # They are still good, many requests later.
        for _ in range(3):
            for connection in idle[::10]:
                connection.request("GET", "/healthz")
                self.assertTrue(connection.getresponse().read())
        daemon.stop()

    def test_more_than_the_limit_are_refused_at_once(self):
        daemon = self.daemon("--http-max-connections", "4")
        kept = []
        for _ in range(4):
            connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=30)
            self.addCleanup(connection.close)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            kept.append(connection)
        self.assertEqual(daemon.get("/healthz").status, 503)
        kept.pop().close()
        wait_until(lambda: daemon.get("/healthz").status == 200, "the place stays taken")

    def test_body_beyond_the_limit_is_413(self):
        daemon = self.daemon("--http-max-body", "4k")
        connection = socket.create_connection((daemon.host, daemon.port))
        self.addCleanup(connection.close)
        # Only claimed: nothing is reserved for it, and nothing is waited for.
        connection.sendall(b"POST /v1/query HTTP/1.1\r\nHost: x\r\n"
                           b"Content-Length: 99999999999\r\n\r\n")
        connection.settimeout(30)
        self.assertIn(b" 413 ", connection.recv(4096).split(b"\r\n")[0])
        self.assertEqual(daemon.get("/healthz").status, 200)


if __name__ == "__main__":
    unittest.main()
