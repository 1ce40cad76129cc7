"""conductor replay: what sources come to, and that every sink gets what the source had. Recordings
are made by conductor tap from publishers in Python; what is published again is read back by
decoders in Python.
"""

import contextlib
import json
import os
import pty
import resource
import select
import signal
import subprocess
import tempfile
import time

import msgpack
import zmq

import events
import publisher as publishers
from daemon import DEADLINE, binary, key, run_to_end, wait_until
from engine import Engine
from master import Master, vllm_key
from model import Model
from publisher import ReplayForm
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt

DONE, FAILED, USAGE = 0, 1, 2
TRACE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "testdata", "traces",
                     "conversation.jsonl")
AS_TEST = ("--model", MODEL)


class ReplayTest(EndToEndTest):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="conductor-replay-")
        self.addCleanup(directory.cleanup)
        self.folder = directory.name
        self.model = Model(BLOCK_SIZE)

    def path(self, name):
        return os.path.join(self.folder, name)

    def replay(self, *arguments, code=DONE):
        """Runs it to its end: the finished process."""
        done = run_to_end("replay", *arguments, seconds=DEADLINE)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def summary(self, *arguments, code=DONE):
        return json.loads(self.replay(*arguments, "--json", code=code).stdout)

    def start(self, *arguments, errors=subprocess.DEVNULL):
        """Runs it beside the test."""
        process = subprocess.Popen([binary(), *arguments], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=errors, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    @contextlib.contextmanager
    def tapped(self, publisher, name, last):
        """What is published within, up to the sequence last(), is in the recording of that name."""
        tap = self.start("tap", publisher.endpoint, "--record", self.path(name), "--json")
        publisher.wait_for_subscriber()
        yield self.path(name)
        self.stop_at(tap, last())

    def stop_at(self, tap, last):
        """Ends it once it has told of a message of that sequence."""
        sequence = None  # as lines have that are of none
        while sequence != last:
            line = tap.stdout.readline()
            self.assertTrue(line, f"tap ended before {last}")
            sequence = json.loads(line).get("sequence")
        tap.send_signal(signal.SIGINT)
        self.assertEqual(tap.wait(DEADLINE), DONE)

    def engine(self, publisher, instance, **more):
        return Engine(self.model, publisher, instance, **more)

    def recorded_traffic(self, name="traffic.rec", requests=25, instance="engine-1"):
        """A recording of an engine that evicts and offloads: its path."""
        publisher = self.publisher(see_subscribers=True, replay=None)
        engine = self.engine(publisher, instance, capacity=60, offload=0.4)
        with self.tapped(publisher, name, lambda: publisher.last_sequence) as path:
            for i in range(requests):
                engine.run(prompt(i % 7, 5 + i % 9))
        return path

    def prompts(self):
        return [prompt(i, 14) for i in range(7)]


class Sources(ReplayTest):
    def test_a_trace_comes_to_the_same_every_time(self):
        first = self.replay(TRACE, "--json", "--block-size", "64", "--capacity", "500", "--check")
        again = self.replay(TRACE, "--json", "--block-size", "64", "--capacity", "500", "--check")
        self.assertEqual(first.stdout, again.stdout)
        summary = json.loads(first.stdout)
        self.assertEqual(summary["index"]["ranks"][0]["blocks"], {"gpu": 500, "cpu": 0, "disk": 0})
        self.assertEqual(summary["publishers"][0]["state"], "live")
        self.assertTrue(summary["check"]["same"])
        self.assertTrue(summary["whole"])

    def test_the_other_form_of_a_trace_is_read(self):
        with open(self.path("bailian.jsonl"), "w", encoding="utf-8") as file:
            for turn in range(3):
                file.write(json.dumps(
                    {"chat_id": turn, "parent_chat_id": turn - 1, "timestamp": 1.5 * turn,
                     "input_length": 32 * (turn + 1), "output_length": 4, "type": "text",
                     "turn": turn + 1, "hash_ids": list(range(2 * (turn + 1)))}) + "\n")
        summary = self.summary(self.path("bailian.jsonl"), "--block-size", "16")
        self.assertEqual(summary["index"]["ranks"][0]["blocks"]["gpu"], 6)
        self.assertEqual(summary["counts"]["seconds"], 3)

    def test_an_engine_is_asked_in_either_reply_form(self):
        for form, told in [(ReplayForm.PLAIN, "without a topic"), (ReplayForm.TOPIC, "with a topic")]:
            with self.subTest(form):
                publisher = self.publisher(replay=form)
                engine = self.engine(publisher, f"engine {form.name}")
                for i in range(4):
                    engine.run(prompt(i, 6))
                done = self.replay(publisher.replay_endpoint, "--json", "--check")
                summary = json.loads(done.stdout)
                self.assertIn(f"4 batches, sequences 0 to 3, {told}", done.stderr)
                self.assertEqual(summary["index"]["ranks"][0]["blocks"]["gpu"], 24)
                self.assertEqual(summary["publishers"][0]["state"], "live")
                later = self.replay(publisher.replay_endpoint, "--from-seq", "2", "--json")
                self.assertEqual(json.loads(later.stdout)["counts"]["batches"], 2)

    def test_holes_and_a_short_ring_are_told(self):
        publisher = self.publisher(ring=5)
        engine = self.engine(publisher, "engine")
        for i in range(4):
            engine.run(prompt(i, 2))
        publisher.fail_to_encode()
        publisher.fail_to_encode()
        for i in range(4, 6):
            engine.run(prompt(i, 2))
        done = self.replay(publisher.replay_endpoint, "--json")
        self.assertIn("its ring begins at 1: 1 batch from 0 on is gone", done.stderr)
        self.assertIn("it is not contiguous: 1 hole of 2 batches, the first from 4 to 5",
                      done.stderr)
        found, = json.loads(done.stdout)["publishers"]
        self.assertEqual((found["state"], found["stream"]["gaps"]), ("degraded", 1))

    def test_an_answer_without_its_end_is_told_and_what_came_stands(self):
        class Endless(publishers.Publisher):
            def _end(self, identity):
                return [identity, b"", b"", (0).to_bytes(8, "big"), b""]  # an old batch

        publisher = Endless()
        self.addCleanup(publisher.die)
        self.engine(publisher, "engine").run(prompt(1, 3))
        done = self.replay(publisher.replay_endpoint, "--json", "--timeout", "2s")
        self.assertIn("its end marker is missing: nothing came for 2s", done.stderr)
        self.assertEqual(json.loads(done.stdout)["index"]["ranks"][0]["blocks"]["gpu"], 3)

    def test_an_engine_that_does_not_answer_is_an_error(self):
        port = publishers.free_ports()
        done = self.replay(f"tcp://127.0.0.1:{port}", "--timeout", "200ms", code=FAILED)
        self.assertIn("no answer to a replay request within 200ms", done.stderr)
        self.assertIn(str(port), done.stderr)
        self.assertNotIn("end marker", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_a_recording_tells_gaps_restarts_and_duplicates(self):
        publisher = self.publisher(see_subscribers=True, replay=None)
        with self.tapped(publisher, "faults.rec", lambda: 8) as path:
            for i in range(3):
                publisher.publish(events.Stored([i + 1], None, prompt(i, 1), BLOCK_SIZE))
            publisher.repeat(1)
            publisher.drop(events.Removed([1]))
            publisher.publish(events.Stored([9], None, prompt(9, 1), BLOCK_SIZE))
            publisher.send_frames(b"", b"short", b"")
            for i in range(2):  # a new process
                publisher.send_frames(b"", i.to_bytes(8, "big"), publisher.encoding.payload(
                    [events.Stored([20 + i], None, prompt(20 + i, 1), BLOCK_SIZE)]))
            publisher.send_frames(b"", (7).to_bytes(8, "big"), publisher.encoding.payload([]))
            publisher._next_sequence = 8
            publisher.publish(events.Cleared())
        summary = self.summary(path, "--check")
        found, = summary["publishers"]
        stream = found["stream"]
        self.assertEqual((stream["duplicates"], stream["restarts"], stream["malformed"]), (1, 1, 1))
        self.assertEqual(stream["gaps"], 2)
        self.assertTrue(summary["check"]["same"])

    def test_a_pool_is_known_by_its_objects(self):
        master = Master(admin=False)
        self.addCleanup(master.die)
        master.see_subscribers = True
        tap = self.start("tap", master.endpoint, "--record", self.path("pool.rec"), "--json")
        master.wait_for_subscriber()
        for i in range(3):
            master.put(vllm_key(bytes([i]) * 32))
        self.stop_at(tap, 3)  # a master counts from 1
        found, = self.summary(self.path("pool.rec"), *AS_TEST)["publishers"]
        self.assertEqual(found["ingest"]["objects"], 3, found)

    def test_what_is_no_source_is_an_error_that_names_it(self):
        with open(self.path("notes.txt"), "w", encoding="utf-8") as file:
            file.write("nothing of use\n")
        for source, part in [("nowhere.rec", "No such file"),
                             (self.path("notes.txt"), "neither a recording nor a workload trace"),
                             (self.folder, "is a directory")]:
            with self.subTest(source):
                done = self.replay(source, code=FAILED)
                self.assertIn(part, done.stderr)
                self.assertIn(source, done.stderr)
                self.assertEqual(done.stdout, "")

    def test_a_trace_comes_through_a_pipe(self):
        with open(TRACE, "rb") as file:
            trace = file.read()
        piped = subprocess.run([binary(), "replay", "/dev/stdin", "--json"], input=trace,
                               capture_output=True, timeout=DEADLINE, check=False)
        self.assertEqual(piped.returncode, DONE, piped.stderr)
        self.assertEqual(json.loads(piped.stdout)["counts"], self.summary(TRACE)["counts"])

    def test_parts_that_are_named_twice_are_read_once(self):
        self.replay(TRACE, "--record", self.path("parts.rec"), "--rotate-size", "64k")
        parts = sorted(name for name in os.listdir(self.folder) if name.startswith("parts.rec"))
        self.assertGreater(len(parts), 1)
        once = self.summary(self.path("parts.rec"))
        for names in (parts, [*parts[1:], parts[0]], ["./parts.rec", "parts.rec"]):
            with self.subTest(names):
                again = self.summary(*(self.path(name) for name in names), "--check")
                self.assertEqual(again["counts"], once["counts"])
                self.assertEqual(again["index"], once["index"])

    def test_a_part_that_is_missing_is_told_and_counted(self):
        self.replay(TRACE, "--record", self.path("parts.rec"), "--rotate-size", "64k")
        self.assertTrue(os.path.exists(self.path("parts.rec.0003")))
        os.remove(self.path("parts.rec.0002"))
        told = f"{self.path('parts.rec.0002')}: this part of the recording is missing"
        done = self.replay(self.path("parts.rec"), "--json")
        self.assertIn(told, done.stderr)
        summary = json.loads(done.stdout)
        self.assertEqual((summary["damages"], summary["missing_parts"]), (1, 1))
        self.assertEqual(summary["publishers"][0]["stream"]["gaps"], 1)
        people = self.replay(self.path("parts.rec"), "--check", code=FAILED).stdout
        self.assertIn("1 damage (1 part missing)", people)
        tap = run_to_end("tap", self.path("parts.rec"), "--quiet", seconds=DEADLINE)
        self.assertEqual(tap.returncode, FAILED)
        self.assertIn(told, tap.stderr)
        self.assertIn("; 1 damage (1 part missing)", tap.stderr)
        os.remove(self.path("parts.rec.0001"))
        first = "parts.rec.0003: the recording begins with this part, without the 2 before it"
        done = self.replay(self.path("parts.rec"), "--json")
        self.assertIn(first, done.stderr)
        self.assertEqual(json.loads(done.stdout)["damages"], 0)
        os.remove(self.path("parts.rec"))
        self.assertIn("parts.rec: the newest part of the recording is not there",
                      self.replay(self.path("parts.rec")).stderr)

    def test_a_recording_with_a_damaged_header_is_one(self):
        path = self.recorded_traffic()
        whole = self.summary(path)
        with open(path, "r+b") as damaged:
            damaged.write(b"\0" * 12)
        done = self.replay(path, "--json")
        self.assertIn(f"{path}: byte 0: the header is damaged; 47 bytes are passed over",
                      done.stderr)
        summary = json.loads(done.stdout)
        self.assertEqual(summary["damages"], 1)
        self.assertEqual(summary["counts"], whole["counts"])

    def test_a_torn_recording_is_read_as_far_as_it_goes(self):
        self.replay(TRACE, "--record", self.path("whole.rec"))
        with open(self.path("whole.rec"), "rb") as file:
            whole = file.read()
        with open(self.path("torn.rec"), "wb") as file:
            file.write(whole[:len(whole) * 2 // 3])
        done = self.replay(self.path("torn.rec"), "--json")
        batches = json.loads(done.stdout)["counts"]["batches"]
        self.assertIn("torn.rec", done.stderr)
        self.assertLess(0, batches)
        self.assertLess(batches, 170)


class Sinks(ReplayTest):
    def test_a_recording_of_a_source_comes_to_the_same(self):
        self.replay(TRACE, "--record", self.path("trace.rec"))
        of_trace = self.summary(TRACE)
        of_recording = self.summary(self.path("trace.rec"), "--check")
        for part in ("counts", "index"):
            self.assertEqual(of_recording[part], of_trace[part])
        publisher = self.publisher()
        self.engine(publisher, "engine").run(prompt(1, 5))
        self.replay(publisher.replay_endpoint, "--record", self.path("ring.rec"))
        self.assertEqual(self.summary(self.path("ring.rec"))["index"]["ranks"][0]["blocks"]["gpu"], 5)

    def test_a_daemon_that_is_fed_answers_as_the_model_does(self):
        path = self.recorded_traffic()
        daemon = self.daemon()
        for _ in range(2):  # the second time nothing is new
            done = self.replay(path, "--into", daemon.url, "--instance", "engine-1", *AS_TEST,
                               "--check")
            self.assertIn("engine-1|default|0 (live", done.stderr)
            for tokens in self.prompts():
                self.assert_answers(daemon, self.model, tokens)

    def test_a_daemon_with_a_small_queue_gets_all_of_it(self):
        path = self.recorded_traffic()
        daemon = self.daemon("--max-pending-bytes", "2k")
        self.replay(path, "--into", daemon.url, "--instance", "engine-1", *AS_TEST)
        for tokens in self.prompts():
            self.assert_answers(daemon, self.model, tokens)

    def test_a_daemon_that_refuses_is_an_error_with_its_reason(self):
        daemon = self.daemon()
        done = self.replay(TRACE, "--into", daemon.url, "--instance", "a|b", code=FAILED)
        self.assertIn("/v1/ingest: status 400", done.stderr)
        port = publishers.free_ports()
        done = self.replay(TRACE, "--into", f"http://127.0.0.1:{port}", code=FAILED)
        self.assertIn(f"127.0.0.1:{port}", done.stderr)

    def test_a_daemon_is_shown_the_token_of_the_file_or_the_environment(self):
        token = "0123456789abcdef0123456789abcdef"
        for name, text in [("tokens", f"admin {token}\n"), ("mine", token + "\n")]:
            with open(self.path(name), "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(self.path(name), 0o600)
        daemon = self.daemon("--auth-token-file", self.path("tokens"))
        done = self.replay(TRACE, "--into", daemon.url, code=FAILED)
        self.assertIn("/v1/ingest: status 401", done.stderr)
        self.replay(TRACE, "--into", daemon.url, "--token-file", self.path("mine"))
        done = run_to_end("replay", TRACE, "--into", daemon.url, seconds=DEADLINE,
                          environment={"CONDUCTOR_TOKEN": token})
        self.assertEqual(done.returncode, DONE, done.stderr)

    def test_it_is_a_publisher_that_a_daemon_follows(self):
        path = self.recorded_traffic()
        first = publishers.free_ports(2)
        live, replays = f"tcp://127.0.0.1:{first}", f"tcp://127.0.0.1:{first + 1}"
        played = self.start("replay", path, "--publish", live, "--replay-endpoint", replays,
                            "--speed", "max", "--stay", "60s", "--json")
        daemon = self.daemon()
        daemon.ok("POST", "/register", {
            "endpoint": live, "replay_endpoint": replays, "type": "vLLM", "modelname": MODEL,
            "instance_id": "engine-1", "block_size": BLOCK_SIZE})
        last = self.summary(path)["publishers"][0]["stream"]["cursor"]
        daemon.wait_for(key("engine-1"), cursor=last)
        for tokens in self.prompts():
            self.assert_answers(daemon, self.model, tokens)
        played.send_signal(signal.SIGINT)
        self.assertEqual(played.wait(DEADLINE), DONE)
        self.assertTrue(json.loads(played.stdout.read())["publishers"])

    def test_the_pace_is_that_of_the_source(self):
        with open(self.path("slow.jsonl"), "w", encoding="utf-8") as file:
            for i in range(2):
                file.write(json.dumps({"timestamp": 1000 * i, "input_length": 512,
                                       "output_length": 1, "hash_ids": [i]}) + "\n")
        begin = time.monotonic()
        self.assertEqual(len(self.subscribed(self.path("slow.jsonl"), "--speed", "2")), 2)
        self.assertGreaterEqual(time.monotonic() - begin, 0.5)

    def subscribed(self, *arguments):
        """All messages that a subscriber gets."""
        endpoint = f"tcp://127.0.0.1:{publishers.free_ports()}"
        if "--speed" not in arguments:
            arguments += ("--speed", "max")
        played = self.start("replay", "--publish", endpoint, "--wait-subscriber", "--json",
                            *arguments)
        socket = zmq.Context.instance().socket(zmq.SUB)
        self.addCleanup(socket.close, 0)
        socket.subscribe(b"")
        # Which tells of the end when all that came before it has been read.
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.addCleanup(monitor.close)
        self.addCleanup(socket.disable_monitor)
        poller = zmq.Poller()
        for watched in (socket, monitor):
            poller.register(watched, zmq.POLLIN)
        socket.connect(endpoint)
        messages = []
        is_connected = True
        while is_connected or socket.poll(0):
            ready = dict(poller.poll(DEADLINE * 1000))
            self.assertTrue(ready, "nothing comes any more, and no end")
            if socket in ready:
                messages.append(socket.recv_multipart())
            if monitor in ready:
                monitor.recv_multipart()
                is_connected = False
        self.assertEqual(played.wait(DEADLINE), DONE)
        return [(int.from_bytes(sequence, "big"), payload) for _, sequence, payload in messages]

    def test_payloads_are_published_as_they_are_under_their_own_sequences(self):
        publisher = self.publisher(see_subscribers=True, replay=None, encoding=events.G1_GROUPS)
        sent = []
        with self.tapped(publisher, "gap.rec", lambda: 3) as path:
            for i in range(4):
                stored = events.Stored([i + 1], None, prompt(i, 1), BLOCK_SIZE)
                payload = publisher.encoding.payload([stored])
                if i == 2:
                    publisher.fail_to_encode()
                    continue
                sent.append((publisher.publish_payload(payload), payload))
        self.assertEqual(self.subscribed(path), sent)
        renumbered = [(i, payload) for i, (_, payload) in enumerate(sent)]
        self.assertEqual(self.subscribed(path, "--renumber"), renumbered)

    def test_every_dialect_says_the_same_events(self):
        publisher = self.publisher(see_subscribers=True, replay=None)
        big = (1 << 63) + 5
        with self.tapped(publisher, "dialects.rec", lambda: 2) as path:
            publisher.publish(events.Stored([7, big], None, prompt(1, 2), BLOCK_SIZE), timestamp=2.5)
            publisher.publish(events.placeholder(7, "CPU"), events.Removed([big]), timestamp=3.5)
            publisher.publish(events.Cleared(), timestamp=4.5)
        tokens = prompt(1, 2)

        arrays = [msgpack.unpackb(payload) for _, payload in
                  self.subscribed(path, "--dialect", "vllm-array")]
        self.assertEqual([batch[0] for batch in arrays], [2.5, 3.5, 4.5])
        self.assertEqual(arrays[0][1][0][:7],
                         ["BlockStored", [7, big], None, tokens, BLOCK_SIZE, None, "GPU"])
        self.assertEqual(arrays[1][1][1][:3], ["BlockRemoved", [big], "GPU"])
        self.assertEqual(arrays[2][1], [["AllBlocksCleared"]])

        for name, written in [("vllm-map", big), ("sglang", big - (1 << 64))]:
            with self.subTest(name):
                maps = [msgpack.unpackb(payload) for _, payload in
                        self.subscribed(path, "--dialect", name)]
                stored = maps[0][1][0]
                self.assertEqual((stored["type"], stored["block_hashes"], stored["token_ids"]),
                                 ("BlockStored", [7, written], tokens))
                self.assertEqual(maps[1][1][1]["block_hashes"], [written])
                self.assertEqual(maps[2][1], [{"type": "AllBlocksCleared"}])

        objects = self.subscribed(path, "--dialect", "mooncake")
        self.assertEqual([sequence for sequence, _ in objects], [1, 2, 3])
        told = [(event["event_id"], event["event_type"], event["object_key"], event["medium"])
                for _, payload in objects for event in msgpack.unpackb(payload)[1]]
        # Block 7 stays on the host when the device is cleared.
        self.assertEqual(told, [(1, "stored", "7", "cpu"), (2, "stored", str(big), "cpu"),
                                (3, "removed", str(big), "cpu")])

    def test_several_publishers_are_picked_or_merged_only_when_asked(self):
        first = self.recorded_traffic("a.rec", 3, "engine-1")
        second = self.recorded_traffic("b.rec", 3, "engine-2")
        endpoint = f"tcp://127.0.0.1:{publishers.free_ports()}"
        done = self.replay(first, second, "--publish", endpoint, code=USAGE)
        self.assertIn("--publisher: there are several publishers", done.stderr)
        names = [entry["publisher"] for entry in self.summary(first, second)["publishers"]]
        self.assertEqual(len(names), 2)
        self.assertIn(names[1], done.stderr)
        only = self.summary(first, second, "--publisher", names[1])
        self.assertEqual([entry["publisher"] for entry in only["publishers"]], names[1:])
        self.assertEqual(len(self.subscribed(first, second, "--publisher", "1")), 3)
        merged = self.subscribed(first, second, "--publisher", "all")
        self.assertEqual([sequence for sequence, _ in merged], list(range(6)))
        self.replay(first, "--publisher", "7", code=USAGE)
        done = self.replay(first, second, "--into", "http://127.0.0.1:1", "--instance", "i",
                           code=FAILED)
        self.assertIn("are both i|default|0", done.stderr)

    def test_a_recording_does_not_go_into_itself(self):
        self.replay(TRACE, "--record", self.path("own.rec"))
        os.link(self.path("own.rec"), self.path("link.rec"))
        for name in ("own.rec", "link.rec"):
            with self.subTest(name):
                done = self.replay(self.path("own.rec"), "--record", self.path(name), code=FAILED)
                self.assertIn(f"--record: {self.path(name)} is what is replayed", done.stderr)

    def test_an_answer_to_an_engine_that_started_anew_is_read_too(self):
        path = self.path("restart.rec")
        first = publishers.free_ports(2)
        told = []
        for life in range(2):
            publisher = self.publisher(see_subscribers=True, ports=(first, first + 1))
            engine = self.engine(publisher, "engine")
            for i in range(3):
                engine.run(prompt(10 * life + i, 3))
            tap = self.start("tap", publisher.endpoint, "--replay-endpoint",
                             publisher.replay_endpoint, "--from", "0", "--record", path, "--json")
            publisher.wait_for_subscriber()
            engine.run(prompt(10 * life + 5, 3))
            self.stop_at(tap, publisher.last_sequence)
            told.append(publisher.last_sequence + 1)
            publisher.die()
        summary = self.summary(path)
        self.assertEqual(summary["counts"]["batches"], sum(told))
        self.assertEqual(summary["publishers"][0]["stream"]["restarts"], 1)

    def test_a_check_that_compares_nothing_has_not_passed(self):
        self.replay(TRACE, "--record", self.path("pool.rec"))
        done = self.replay(self.path("pool.rec"), "--type", "Mooncake", "--check", "--json",
                           code=FAILED)
        check = json.loads(done.stdout)["check"]
        self.assertIsNone(check["same"])
        self.assertEqual(check["comparisons"], 0)
        done = self.replay(self.path("pool.rec"), "--type", "Mooncake", "--check", code=FAILED)
        self.assertIn("nothing could be compared", done.stdout)

    def test_a_check_of_a_damaged_recording_has_not_passed(self):
        self.replay(TRACE, "--record", self.path("whole.rec"))
        with open(self.path("whole.rec"), "r+b") as file:
            file.truncate(os.path.getsize(file.name) * 2 // 3)
        done = self.replay(self.path("whole.rec"), "--check", "--json", code=FAILED)
        check = json.loads(done.stdout)["check"]
        self.assertEqual((check["same"], check["sound"]), (True, False))

    def test_a_full_disk_is_an_error(self):
        for flags in (("--json",), (), ("--simulate",), ("--simulate", "--json")):
            with self.subTest(flags), open("/dev/full", "wb") as full:
                done = subprocess.run([binary(), "replay", TRACE, *flags], stdout=full,
                                      stderr=subprocess.PIPE, text=True, timeout=DEADLINE,
                                      check=False)
                self.assertEqual(done.returncode, FAILED)
                self.assertIn("standard output: cannot be written: No space left", done.stderr)

    def test_a_recording_that_may_not_grow_is_an_error(self):
        done = subprocess.run(
            [binary(), "replay", TRACE, "--record", self.path("small.rec"), "--json"],
            capture_output=True, text=True, timeout=DEADLINE, check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048)))
        self.assertEqual(done.returncode, FAILED, done.stderr)
        self.assertIn("small.rec", done.stderr)
        self.assertFalse(json.loads(done.stdout)["whole"])

    def test_a_signal_ends_it_with_its_summary(self):
        played = self.start("replay", TRACE, "--publish",
                            f"tcp://127.0.0.1:{publishers.free_ports()}", "--wait-subscriber",
                            errors=subprocess.PIPE)
        self.addCleanup(played.stderr.close)
        self.assertIn("publishing at", played.stderr.readline())
        played.send_signal(signal.SIGINT)
        self.assertEqual(played.wait(DEADLINE), DONE)

    def test_the_model_agrees_on_what_an_engine_said(self):
        path = self.recorded_traffic(requests=40)
        check = self.summary(path, "--check")["check"]
        self.assertTrue(check["same"])
        self.assertGreater(check["batches"], 20)
        self.assertGreater(check["comparisons"], check["batches"])


class Feel(ReplayTest):
    def test_a_person_sees_tables_and_a_bar(self):
        main, other = pty.openpty()
        self.addCleanup(os.close, main)
        process = subprocess.Popen(
            [binary(), "replay", TRACE, "--check"], stdin=subprocess.DEVNULL, stdout=other,
            stderr=other, env={**os.environ, "TERM": "xterm", "COLUMNS": "72", "NO_COLOR": ""})
        os.close(other)
        text = b""
        with contextlib.suppress(OSError):  # the other side was closed
            while select.select([main], [], [], DEADLINE)[0]:
                piece = os.read(main, 65536)
                if not piece:
                    break
                text += piece
        self.assertEqual(process.wait(DEADLINE), DONE)
        text = text.decode()
        self.assertRegex(text, r"\r\x1b\[K\[\.+\]    \d %  1 message\b")
        self.assertIn("The index it ends with", text)
        self.assertIn("agree", text)
        self.assertIn("\x1b[1m", text)

    def test_a_reader_that_leaves_ends_it_quietly(self):
        done = subprocess.run(f"'{binary()}' replay '{TRACE}' --json 2>err | head -c 10; "
                              "echo ${PIPESTATUS[0]}", shell=True, executable="/bin/bash",
                              capture_output=True, text=True, cwd=self.folder, check=False)
        self.assertTrue(done.stdout.endswith("0\n"), done.stdout)

    def test_flags_that_mean_nothing_together_are_usage_errors(self):
        for flags, part in [
                (("--replay-endpoint", "tcp://*:5558"), "--replay-endpoint: means nothing here"),
                (("--from-seq", "3"), "--from-seq: means nothing here"),
                (("--speed", "fast"), "--speed: 'fast' is not a speed"),
                (("--dialect", "dynamo"), "--dialect: 'dynamo' is no dialect"),
                (("--into", "tcp://a:1"), "--into:"),
                (("--publish", "28701"), "--publish: 28701: has no scheme (expected tcp://*:28701)"),
                (("127.0.0.1:5558",), "127.0.0.1:5558: there is no such file, and an endpoint has "),
                (("--block-size", "0"), "--block-size: '0' is not a block size"),
                (("tcp://127.0.0.1:1",), "stands beside other sources")]:
            with self.subTest(flags):
                done = self.replay(TRACE, *flags, code=USAGE)
                self.assertIn(part, done.stderr)
        self.replay(code=USAGE)


if __name__ == "__main__":
    import unittest
    unittest.main()
