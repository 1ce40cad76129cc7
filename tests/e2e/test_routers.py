"""The ZeroMQ endpoint as a plain client sees it, and the routers of docs/examples as their readers
run them: against a fleet whose engines hold prompts, are doubted, die, and with no daemon at all."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import unittest

import msgpack
import zmq

import daemon as process
from daemon import DEADLINE, key
from engine import Engine
from model import Model
from publisher import free_ports
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "examples")


class Endpoint(EndToEndTest):
    def setUp(self):
        self.endpoint = f"tcp://127.0.0.1:{free_ports()}"

    def start(self, *arguments, **more):
        self.conductor = self.daemon("--query-endpoint", self.endpoint, *arguments, **more)

    def connect(self, kind=zmq.DEALER, endpoint=None):
        socket = zmq.Context.instance().socket(kind)
        self.addCleanup(socket.close, 0)
        socket.connect(endpoint or self.endpoint)
        socket.rcvtimeo = int(DEADLINE * 1000)
        return socket

    def add_engine(self, name):
        publisher = self.publisher()
        engine = Engine(self.model, publisher, name)
        self.conductor.register(publisher, name)
        self.conductor.wait_for(key(name))
        return engine

    def fleet(self, *names):
        self.model = Model(BLOCK_SIZE)
        self.engines = {name: self.add_engine(name) for name in names}

    def run_prompt(self, name, tokens):
        engine = self.engines[name]
        engine.run(tokens)
        self.conductor.wait_applied(key(name), engine.publisher)


class Queries(Endpoint):
    def test_are_answered_as_over_http_and_out_of_order_by_id(self):
        self.start("--query-threads", "2")
        self.fleet("a", "b")
        self.run_prompt("a", prompt(1, 4))
        self.run_prompt("b", prompt(1, 6))
        socket = self.connect()
        asked = {}
        for number in range(200):
            tokens = prompt(1, number % 8)
            asked[b"%d" % number] = {"model": MODEL, "token_ids": tokens}
        for number, body in asked.items():
            path = b"/v1/score" if number.endswith(b"7") else b"/v1/query"
            socket.send_multipart([number, path, msgpack.packb(body)])
        while asked:
            number, status, body = socket.recv_multipart()
            answer = msgpack.unpackb(body)
            question = asked.pop(number)
            self.assertEqual(status, b"200", answer)
            if number.endswith(b"7"):
                self.assertEqual(len(answer["ranking"]), 2)
                continue
            over_http = self.conductor.ok("POST", "/v1/query", question)
            for entry in (*answer["instances"], *over_http["instances"]):
                del entry["lag_seconds"]  # to a thousandth in JSON
            self.assertEqual(answer, over_http)

    def test_of_a_req_socket(self):
        self.start()
        socket = self.connect(zmq.REQ)
        for number in (b"1", b"2"):
            socket.send_multipart([number, b"/v1/query",
                                   msgpack.packb({"model": MODEL, "token_ids": [1]})])
            answered, status, _ = socket.recv_multipart()
            self.assertEqual((answered, status), (number, b"200"))

    def test_that_are_hostile_harm_nobody_and_are_counted(self):
        self.start("--query-max-body", "64k")
        hostile, well = self.connect(), self.connect()
        good = msgpack.packb({"model": MODEL, "token_ids": [1]})
        bad = [([b""], b"400"), ([b"1"], b"400"), ([b"1"] * 50, b"400"),
               ([b"i" * 65, b"/v1/query", good], b"400"), ([b"1", b"/v1/nowhere", good], b"404"),
               ([b"1", b"/v1/query", b"\xc1"], b"400"), ([b"1", b"/v1/query", b""], b"400"),
               ([b"1", b"/v1/query", b"\xdd\xff\xff\xff\xff"], b"400"),
               ([b"1", b"/v1/query", b"\x91" * 60000], b"400"),
               ([b"1", b"/v1/query", b"x" * 70000], b"413")]
        for frames, status in bad:
            hostile.send_multipart(frames)
            self.assertEqual(hostile.recv_multipart()[-2], status, frames[0][:10])
            well.send_multipart([b"1", b"/v1/query", good])
            self.assertEqual(well.recv_multipart()[1], b"200")
        metrics = self.conductor.get("/metrics").body.decode()
        for path, code, count in (("other", 400, 4), ("other", 404, 1), ("/v1/query", 400, 4),
                                  ("/v1/query", 413, 1), ("/v1/query", 200, len(bad))):
            labels = f'{{path="{path}",code="{code}"}}'
            self.assertRegex(metrics, re.escape(
                f"conductor_query_endpoint_requests_total{labels} {count}") + "\n")

    def test_with_a_client_that_never_reads_the_daemon_ends_in_time(self):
        self.start()
        socket = self.connect()
        body = msgpack.packb({"model": MODEL, "token_ids": [1]})
        for number in range(2000):
            socket.send_multipart([b"%d" % number, b"/v1/query", body])
        self.conductor.stop()


class Addresses(Endpoint):
    def test_off_by_default(self):
        conductor = self.daemon()
        self.assertNotIn("conductor_query_endpoint", conductor.get("/metrics").body.decode())

    def test_from_the_file_and_the_flag_before_it(self):
        self.conductor = self.daemon(config={"query_endpoint": self.endpoint})
        socket = self.connect()
        socket.send_multipart([b"1", b"/v1/query", b""])
        self.assertEqual(socket.recv_multipart()[1], b"400")
        other = f"tcp://127.0.0.1:{free_ports()}"
        self.daemon("--query-endpoint", other,
                    config={"query_endpoint": self.endpoint, "query_threads": 1})
        socket = self.connect(endpoint=other)
        socket.send_multipart([b"1", b"/v1/query", b""])
        self.assertEqual(socket.recv_multipart()[1], b"400")

    def test_wider_than_loopback_is_warned_of(self):
        self.start()
        self.assertNotIn("network boundary", self.conductor.log())
        wide = self.daemon("--query-endpoint", f"tcp://*:{free_ports()}")
        self.assertIn("bearer tokens are not spoken there", wide.log())

    def test_that_cannot_be_used_are_told(self):
        self.start()
        ended = process.run_to_end("serve", "--port", "0", "--query-endpoint", self.endpoint)
        self.assertEqual(ended.returncode, 1)
        self.assertIn(f"--query-endpoint: {self.endpoint}: cannot listen", ended.stderr)
        ended = process.run_to_end("serve", "--query-endpoint", "13334")
        self.assertEqual(ended.returncode, 2)
        self.assertIn("tcp://ADDRESS:PORT", ended.stderr)
        ended = process.run_to_end("serve", config={"query_endpoint": 13334})
        self.assertEqual(ended.returncode, 1)
        self.assertIn("query_endpoint", ended.stderr)


def load(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(EXAMPLES, name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Routers(Endpoint):
    NAMES = ("router_http", "router_zmq")
    INSTANCES = ["a", "b", "c"]

    def url_of(self, name):
        return self.conductor.url if name == "router_http" else self.endpoint

    def router(self, name, timeout=DEADLINE):
        router = load(name).Router(self.url_of(name), MODEL, self.INSTANCES, timeout=timeout)
        self.addCleanup((router.connection if name == "router_http" else router.socket).close)
        return router

    def test_choose_who_holds_most(self):
        self.start()
        self.fleet(*self.INSTANCES)
        self.run_prompt("b", prompt(1, 6))
        self.run_prompt("c", prompt(1, 4))
        self.run_prompt("c", prompt(2, 3))
        for name in self.NAMES:
            with self.subTest(name):
                router = self.router(name)
                self.assertEqual(router.pick(prompt(1, 8)), "b")
                self.assertEqual(router.pick(prompt(2, 8)), "c")
                misses = [router.pick(prompt("nobody", 8)) for _ in range(6)]
                self.assertEqual(misses, self.INSTANCES * 2)
                self.assertEqual(router.pick(prompt(1, 8)), "b")

    def test_do_not_choose_who_cannot_be_trusted(self):
        self.start("--probe-interval", "100ms", "--first-probe", "100ms",
                   "--replay-backoff-min", "50ms", "--replay-backoff-max", "100ms")
        self.fleet(*self.INSTANCES)
        self.run_prompt("b", prompt(1, 6))
        self.run_prompt("c", prompt(1, 4))
        self.engines["b"].publisher.die()
        self.conductor.wait_for(key("b"), state="stale")
        for name in self.NAMES:
            with self.subTest(name):
                self.assertEqual(self.router(name).pick(prompt(1, 8)), "c")

    def test_take_turns_when_conductor_fails_and_come_back_to_it(self):
        self.start()
        port = self.conductor.port
        self.fleet(*self.INSTANCES)
        self.run_prompt("c", prompt(1, 6))
        routers = {name: self.router(name, timeout=0.25) for name in self.NAMES}
        for name, router in routers.items():
            # A wait that was too short on a busy machine is a turn, and shows nothing.
            process.wait_until(lambda router=router: router.pick(prompt(1, 8)) == "c", name)
        self.conductor.stop()
        for name, router in routers.items():
            with self.subTest(name):
                picked = [router.pick(prompt(1, 8)) for _ in range(6)]
                first = self.INSTANCES.index(picked[0])
                turn = self.INSTANCES[first:] + self.INSTANCES[:first]
                self.assertEqual(picked, turn * 2)
        self.start(port=port)
        for name, engine in self.engines.items():
            self.conductor.register(engine.publisher, name)
            self.conductor.wait_for(key(name))
        for name, router in routers.items():
            process.wait_until(lambda router=router: router.pick(prompt(1, 8)) == "c", name)

    def test_take_turns_when_the_answer_is_an_error(self):
        self.start()
        for name in self.NAMES:
            with self.subTest(name):
                router = self.router(name)
                router.model = ""  # is refused
                self.assertEqual([router.pick([1]) for _ in range(3)], self.INSTANCES)

    def test_are_as_short_as_the_documents_say(self):
        for name in self.NAMES:
            with open(os.path.join(EXAMPLES, name + ".py"), encoding="utf-8") as source:
                self.assertLess(len(source.readlines()), 50, name)

    def test_run_as_programs(self):
        self.start()
        self.fleet(*self.INSTANCES)
        lines = "".join(json.dumps(prompt(1, blocks)) + "\n" for blocks in range(6))
        for name in self.NAMES:
            with self.subTest(name):
                ended = subprocess.run(
                    [sys.executable, os.path.join(EXAMPLES, name + ".py"), self.url_of(name), MODEL,
                     *self.INSTANCES],
                    input=lines, capture_output=True, text=True, timeout=60, check=False)
                self.assertEqual(ended.returncode, 0, ended.stderr)
                self.assertEqual(ended.stdout.split(), self.INSTANCES * 2)


if __name__ == "__main__":
    unittest.main()
