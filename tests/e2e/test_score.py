"""`conductor score`: the real binary, asked about a real daemon, with tokenizers that behave and
others, in pipes and on a terminal."""

import contextlib
import http.server
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import events
from daemon import DEADLINE, binary
from engine import Engine
from model import Model
from recording_file import RecordingFile
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt

DONE, FAILED, USAGE = 0, 1, 2
RED_OR_BOLD = "\x1b["


class Tokenizer(http.server.ThreadingHTTPServer):
    """An engine's /tokenize: a token for each character. `answer` may be another function of the
    request's body, which gives status and body."""

    def __init__(self, answer=None):
        self.requests = []
        self.answer = answer or self.tokens_of
        super().__init__(("127.0.0.1", 0), TokenizerHandler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """A client that did not wait for its answer is what some tests are about."""

    @staticmethod
    def tokens_of(body):
        text = body["prompt"] if "prompt" in body else "".join(
            f"<{message['role']}>{message['content']}" for message in body["messages"])
        tokens = [ord(letter) for letter in text]
        return 200, {"tokens": tokens, "count": len(tokens), "max_model_len": 4096,
                     "token_strs": None}


class TokenizerHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        status, answer = self.server.answer(body)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class ScoreTest(EndToEndTest):
    """Instances a and b; a has all of prompt 1, b its first half."""

    LONG = prompt(1, 8)

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.home = directory.name

    def fleet(self, *flags):
        self.conductor = self.daemon(*flags)
        for instance, tokens in (("a", self.LONG), ("b", self.LONG[:4 * BLOCK_SIZE])):
            publisher = self.publisher()
            self.publish(publisher, tokens)
            identity = self.conductor.register(publisher, instance)
            self.conductor.wait_applied(identity, publisher)
        return self.conductor

    @staticmethod
    def publish(publisher, tokens):
        names = range(1, len(tokens) // BLOCK_SIZE + 1)
        return publisher.publish(events.Stored(list(names), None, tokens, BLOCK_SIZE))

    def write(self, name, data):
        path = os.path.join(self.home, name)
        with open(path, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        return path

    def tokens(self, name, tokens):
        return self.write(name, json.dumps(tokens))

    def run_score(self, *arguments, stdin="", conductor="own", model=MODEL, **environment):
        """The finished process."""
        flags = []
        if conductor == "own":
            conductor = self.conductor.url
        if conductor:
            flags += ["--conductor", conductor]
        if model:
            flags += ["--model", model]
        kept = {key: value for key, value in os.environ.items()
                if key not in ("NO_COLOR", "COLUMNS") and not key.startswith("CONDUCTOR_")}
        return subprocess.run([binary(), "score", *arguments, *flags], input=stdin, text=True,
                              capture_output=True, timeout=DEADLINE, check=False,
                              env={**kept, **environment})

    def score(self, *arguments, code=DONE, **more):
        """What --json says, an object a line."""
        result = self.run_score(*arguments, "--json", **more)
        self.assertEqual(result.returncode, code, result.stderr)
        return [json.loads(line) for line in result.stdout.splitlines()]

    def assert_complains(self, result, code, *parts):
        self.assertEqual(result.returncode, code, result.stderr + result.stdout)
        for part in parts:
            self.assertIn(part, result.stderr)

    def tokenizer(self, answer=None):
        server = Tokenizer(answer)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server


class Prompts(ScoreTest):
    def test_token_files_have_three_forms_and_one_answer(self):
        self.fleet()
        files = [self.tokens("a.json", self.LONG),
                 self.write("a.txt", ",\n ".join(map(str, self.LONG)) + "\n"),
                 self.write("a.bin", struct.pack(f"<{len(self.LONG)}I", *self.LONG)),
                 self.write("a", struct.pack(f"<{len(self.LONG)}I", *self.LONG))]
        answers = self.score("--tokens", *files)
        self.assertEqual([answer["source"] for answer in answers], files)
        self.assertEqual([answer["prompt"] for answer in answers], [1, 2, 3, 4])
        for answer in answers:
            ranking = answer["ranking"]
            self.assertEqual([(entry["instance_id"], entry["longest_matched"])
                              for entry in ranking], [("a", 128), ("b", 64)])
            self.assertEqual(ranking[0]["parts"], {
                "saved_gpu": 128, "saved_cpu": 0, "saved_disk": 0, "trust": 1, "queue": 0,
                "memory": 0})
            self.assertEqual((ranking[0]["score"], ranking[0]["state"]), (128, "live"))
            self.assertEqual((answer["error"], answer["unmet"], answer["instances"]),
                             (None, [], 2))
            self.assertEqual(answer["conductor"], self.conductor.url)

    def test_lines_say_more_than_flags_and_come_back_in_order(self):
        self.fleet()
        lines = [json.dumps(self.LONG),
                 json.dumps({"token_ids": self.LONG, "id": "second",
                             "load": {"a": {"waiting": 100}, "b": {"waiting": 0}}}),
                 "",
                 json.dumps({"tokens": self.LONG, "id": 3, "instances": ["b"]}),
                 json.dumps({"prompt": self.LONG, "tenant": None, "salt": "s"})]
        answers = self.score("--load", '{"a": {"waiting": 1}, "b": {"waiting": 1}}',
                             stdin="\n".join(lines))
        self.assertEqual([answer["source"] for answer in answers],
                         ["stdin:1", "stdin:2", "stdin:4", "stdin:5"])
        self.assertEqual([answer["ranking"][0]["instance_id"] for answer in answers[:3]],
                         ["a", "b", "b"])
        self.assertEqual([answer.get("id") for answer in answers], [None, "second", 3, None])
        self.assertEqual(answers[3]["ranking"][0]["longest_matched"], 0)
        self.assertGreater(answers[1]["ranking"][1]["parts"]["queue"], 0)

    def test_a_large_batch_keeps_its_order(self):
        self.fleet()
        lines = [json.dumps({"token_ids": self.LONG[:16 * (1 + index % 8)], "id": index})
                 for index in range(2000)]
        path = self.write("lines.jsonl", "\n".join(lines))
        answers = self.score(path, "--in-flight", "16", "--top", "1")
        self.assertEqual([answer["id"] for answer in answers], list(range(2000)))
        self.assertEqual([answer["ranking"][0]["longest_matched"] for answer in answers],
                         [16 * (1 + index % 8) for index in range(2000)])
        self.assertEqual({len(answer["ranking"]) for answer in answers}, {1})

    def test_one_bad_line_stops_no_other(self):
        self.fleet()
        good = json.dumps(self.LONG)
        bad = ["{", '{"token_ids": [1, -1]}', '{"token_idz": [1]}', "7", "[]",
               '{"token_ids": [1], "prompt": "x"}', '{"prompt": "text"}', "[" * 100000,
               '{"token_ids": [1], "model": "test-modle"}', "\xff"]
        answers = self.score(stdin="\n".join([good, *bad, good]), code=FAILED)
        self.assertEqual(len(answers), len(bad) + 2)
        errors = [answer["error"] for answer in answers]
        self.assertEqual((errors[0], errors[-1]), (None, None))
        for error, part in zip(errors[1:], (
                "is no JSON: something is wrong at byte 2", "token_ids[1] is -1",
                "'token_idz' is no member of a prompt (expected perhaps token_ids)",
                "it is 7", "the prompt has no tokens", "more than one prompt",
                "the prompt is text (expected token ids, or an engine that makes them",
                "nested deeper", "did you mean --model test-model?", "is no JSON")):
            self.assertIn(part, error)
        self.assertEqual(answers[2]["source"], "stdin:3")
        self.assert_complains(self.run_score(stdin=f"{good}\n{{\n{good}\n"), FAILED,
                              "conductor: stdin:2: is no JSON",
                              "1 of 3 prompts could not be scored")

    def test_texts_go_through_the_tokenizer_in_both_forms(self):
        self.conductor = self.daemon()
        publisher = self.publisher()
        text = "It was a bright cold day in April, and the clocks were striking"
        self.publish(publisher, [ord(letter) for letter in f"<user>{text}"][:64])
        self.conductor.wait_applied(self.conductor.register(publisher, "a"), publisher)
        tokenizer = self.tokenizer()
        for arguments in (["--chat", "--prompt", text],
                          ["--prompt", f"<user>{text}"],
                          ["--prompt-file", self.write("prompt.txt", f"<user>{text}")]):
            answer, = self.score(*arguments, "--tokenizer", tokenizer.url)
            self.assertEqual(answer["ranking"][0]["longest_matched"], 64, arguments)
        messages = [{"role": "user", "content": text}]
        answer, = self.score("--tokenizer", tokenizer.url + "/v1/tokenize", stdin=json.dumps(
            {"messages": messages, "add_generation_prompt": False, "tools": [{"type": "x"}]}))
        self.assertEqual(answer["ranking"][0]["longest_matched"], 64)
        self.assertEqual(tokenizer.requests[0],
                         ("/tokenize", {"model": MODEL, "messages": messages}))
        self.assertEqual(tokenizer.requests[1],
                         ("/tokenize", {"model": MODEL, "prompt": f"<user>{text}"}))
        self.assertEqual(tokenizer.requests[3],
                         ("/v1/tokenize", {"model": MODEL, "messages": messages,
                                           "add_generation_prompt": False,
                                           "tools": [{"type": "x"}]}))

    def test_tokenizers_that_fail_are_told_with_what_to_do(self):
        self.conductor = self.daemon()
        answers = [
            (lambda _: (404, {"detail": "Not Found"}), "status 404: Not Found (expected an "
             "engine's /tokenize"),
            (lambda _: (400, {"error": {"message": "no such model"}}),
             "status 400: no such model"),
            (lambda _: (200, b"<html>"), "its answer is no JSON object"),
            (lambda _: (200, {"count": 1}), "its answer has no array of tokens"),
            (lambda _: (200, {"tokens": [[1, 2]], "count": [2]}), "tokens[0] is [1,2]"),
            (lambda _: (200, {"tokens": [1], "count": 2}), "has 1 token and says that they are 2"),
            (lambda _: (200, {"tokens": [], "count": 0}), "the prompt has no tokens"),
        ]
        for answer, part in answers:
            with self.subTest(part):
                server = self.tokenizer(answer)
                self.assert_complains(
                    self.run_score("--prompt", "x", "--tokenizer", server.url), FAILED, part)
        away = self.tokenizer()
        away.shutdown()
        away.server_close()
        self.assert_complains(self.run_score("--prompt", "x", "--tokenizer", away.url), FAILED,
                              f"tokenizer {away.url}: cannot connect", "--tokenizer names")
        release = threading.Event()
        self.addCleanup(release.set)
        slow = self.tokenizer(lambda _: (release.wait(DEADLINE), (200, {"tokens": [1]}))[1])
        self.assert_complains(
            self.run_score("--prompt", "x", "--tokenizer", slow.url, "--timeout", "200ms"),
            FAILED, "no whole answer in time")


class Checks(ScoreTest):
    def test_what_is_expected_sets_the_exit_status(self):
        self.fleet()
        path = self.tokens("prompt.json", self.LONG)
        for flags in (["--expect", "a"], ["--expect", "a", "--min-tokens", "128", "--live"],
                      ["--min-tokens", "128"], ["--live"],
                      ["--expect", "b", "--instance", "b", "--min-tokens", "64"],
                      ["--expect", "a", "--top", "1"]):
            result = self.run_score("--tokens", path, *flags)
            self.assertEqual((result.returncode, result.stderr), (DONE, ""), flags)
        for flags, part in (
                (["--expect", "b"], "expected b to be the best, and a is: 128.000 against 64.000"),
                (["--expect", "b", "--top", "1"], "expected b to be the best, and a is"),
                (["--expect", "c"], "expected c to be the best, and it is not among those that "
                 "serve the model; the best is a"),
                (["--min-tokens", "129"],
                 "expected a to match at least 129 tokens, and it matches 128")):
            self.assert_complains(self.run_score("--tokens", path, *flags), FAILED, part)
            answer, = self.score("--tokens", path, *flags, code=FAILED)
            self.assertIn(part, answer["unmet"][0])

    def test_equal_ones_are_all_the_best(self):
        self.fleet()
        path = self.tokens("nobody.json", prompt(2, 4))
        for instance in ("a", "b") * 3:
            result = self.run_score("--tokens", path, "--expect", instance)
            self.assertEqual(result.returncode, DONE, result.stderr)

    def test_a_publisher_that_is_gone_is_not_live(self):
        self.conductor = self.daemon()
        self.conductor.ok("POST", "/register", {
            "endpoint": "tcp://127.0.0.1:9", "type": "vLLM", "modelname": MODEL,
            "instance_id": "a", "block_size": BLOCK_SIZE})
        self.assert_complains(
            self.run_score("--tokens", self.tokens("x", self.LONG), "--live"), FAILED,
            "expected a to be live, and it is connecting")

    def test_each_line_may_expect_something_else(self):
        self.fleet()
        lines = [json.dumps({"token_ids": self.LONG, "expect": "a", "min_tokens": tokens})
                 for tokens in (128, 129)]
        answers = self.score(stdin="\n".join(lines), code=FAILED)
        self.assertEqual([len(answer["unmet"]) for answer in answers], [0, 1])


class Sources(ScoreTest):
    def test_a_daemon_that_is_away_says_what_to_do(self):
        self.assert_complains(
            self.run_score(stdin="[1]", conductor="http://127.0.0.1:9"), FAILED,
            "http://127.0.0.1:9: cannot connect", "is the daemon running? --conductor says where")

    def test_the_next_conductor_answers_where_the_first_is_away(self):
        self.fleet()
        answer, = self.score("--conductor", "http://127.0.0.1:9", stdin=json.dumps(self.LONG))
        self.assertEqual(answer["conductor"], self.conductor.url)

    def test_over_zeromq_it_answers_the_same_but_explains_nothing(self):
        self.fleet("--query-endpoint", "tcp://127.0.0.1:*")
        address = re.search(r"answering queries at (tcp://\S+)", self.conductor.log()).group(1)
        answer, = self.score(stdin=json.dumps(self.LONG), conductor=address)
        other, = self.score(stdin=json.dumps(self.LONG))
        for entry in answer["ranking"] + other["ranking"]:
            del entry["lag_seconds"]
        self.assertEqual(answer["ranking"], other["ranking"])
        self.assert_complains(self.run_score("--explain", stdin="[1]", conductor=address), USAGE,
                              "--explain: goes over HTTP")

    def test_a_token_is_asked_for_and_shown(self):
        tokens = self.write("tokens", "read 0123456789abcdef0123456789abcdef\n")
        os.chmod(tokens, 0o600)
        self.conductor = self.daemon("--auth-token-file", tokens)
        self.assert_complains(self.run_score(stdin="[1]"), FAILED, "--token-file, or CONDUCTOR_TOKEN")
        mine = self.write("mine", "0123456789abcdef0123456789abcdef\n")
        self.assert_complains(self.run_score("--token-file", mine, stdin="[1]"), FAILED,
                              "no engine is registered")
        self.assert_complains(
            self.run_score(stdin="[1]", CONDUCTOR_TOKEN="0123456789abcdef0123456789abcdef"),
            FAILED, "no engine is registered")
        self.assert_complains(self.run_score("--token-file", tokens, stdin="[1]"), FAILED,
                              "holds more than one word")

    def recording(self, facts=True, records=100):
        """Of a fleet in the model's words; the same figures come of it."""
        model = Model(BLOCK_SIZE)
        file = RecordingFile(os.path.join(self.home, "fleet.kvrec"), records)
        for instance in ("a", "b"):
            number = file.publisher(f"tcp://{instance}:5557", {
                "type": "vLLM", "modelname": MODEL, "instance_id": instance,
                "block_size": BLOCK_SIZE} if facts else None)
            keeper = Keeper(file, number)
            engine = Engine(model, keeper, instance, capacity=60, offload=0.3)
            for seed in range(8) if instance == "a" else range(3, 6):
                engine.run(prompt(seed % 5, 4 + seed))
        return file, model

    def test_a_recording_answers_as_a_daemon_would(self):
        file, model = self.recording()
        file.finish()
        lines = "\n".join(json.dumps(prompt(seed, 12)) for seed in range(5))
        answers = self.score("--recording", file.path, stdin=lines, conductor=None)
        for seed, answer in enumerate(answers):
            self.assertEqual(answer["conductor"], "recording")
            for entry in answer["ranking"]:
                figures = model.instance_figures(entry["instance_id"], prompt(seed, 12))
                self.assertEqual((entry["gpu"], entry["cpu"], entry["disk"], entry["state"]),
                                 (*figures, "live"))
        result = self.run_score("--recording", file.path, "--explain", stdin=lines,
                                conductor=None)
        self.assertEqual((result.returncode, result.stderr), (DONE, ""))
        self.assertRegex(result.stdout, r"  a: \d+ of 12 blocks: ")

    def test_a_recording_that_names_nothing_is_read_by_its_endpoints(self):
        file, model = self.recording(facts=False)
        file.finish()
        answer, = self.score("--recording", file.path, stdin=json.dumps(prompt(1, 12)),
                             conductor=None)
        self.assertEqual({entry["instance_id"]: entry["longest_matched"]
                          for entry in answer["ranking"]},
                         {f"{name}:5557": model.instance_figures(name, prompt(1, 12)).longest
                          for name in ("a", "b")})
        self.assert_complains(
            self.run_score("--recording", file.path, stdin="[1]", conductor=None, model=None),
            FAILED, "does not say which model it serves (expected --model NAME)")

    def test_the_model_of_a_recording_that_has_one_need_not_be_named(self):
        file, _ = self.recording()
        file.finish()
        tokens = self.write("prompt.json", json.dumps(prompt(1, 12)))
        for arguments, stdin in ([["--tokens", tokens], ""], [[], json.dumps(prompt(1, 12))]):
            with self.subTest(arguments):
                result = self.run_score("--recording", file.path, "--json", *arguments,
                                        stdin=stdin, conductor=None, model=None)
                self.assertEqual(result.returncode, DONE, result.stderr)
                answer = json.loads(result.stdout)
                self.assertEqual((answer["model"], len(answer["ranking"])), (MODEL, 2))

    def test_of_several_models_one_has_to_be_named(self):
        file = RecordingFile(os.path.join(self.home, "two.kvrec"))
        for model in ("n", "m"):
            number = file.publisher(f"tcp://{model}:5557", {"model": model})
            file.batch(number, 0, events.G2.payload([events.Stored([1], None, [1, 2], 2)]))
        file.finish()
        tokens = self.write("prompt.json", "[1, 2]")
        self.assert_complains(
            self.run_score("--recording", file.path, "--tokens", tokens, conductor=None,
                           model=None), USAGE, "no model is named (expected --model, one of m, n)")
        answer, = self.score("--recording", file.path, stdin='{"tokens": [1, 2], "model": "n"}',
                             conductor=None, model=None)
        self.assertEqual(answer["ranking"][0]["instance_id"], "n:5557")

    def test_what_is_damaged_is_told_and_the_rest_answers(self):
        file, _ = self.recording(records=4)
        data = bytearray(file.finish())
        data[len(data) * 2 // 3] ^= 0xff
        path = self.write("damaged.kvrec", bytes(data))
        result = self.run_score("--recording", path, "--json", stdin=json.dumps(prompt(1, 12)),
                                conductor=None)
        self.assertEqual(result.returncode, DONE, result.stderr)
        self.assertIn(f"conductor: warning: {path}: byte ", result.stderr)
        self.assertIn("degraded", result.stdout)
        self.assert_complains(
            self.run_score("--recording", self.write("no.kvrec", b"x" * 100), stdin="[1]",
                           conductor=None), FAILED, "no.kvrec")
        self.assert_complains(
            self.run_score("--recording", "/nowhere/at-all", stdin="[1]", conductor=None), FAILED,
            "/nowhere/at-all", "No such file")

    def test_damage_that_cost_messages_fails_where_a_live_state_is_expected(self):
        file = RecordingFile(os.path.join(self.home, "hole.kvrec"), 1)  # record a block
        number = file.publisher("tcp://a:5557", {"model": MODEL})
        for index in range(9):
            file.batch(number, index, events.G2.payload([events.Stored(
                [index + 1], None, prompt(index, 1), BLOCK_SIZE)]))
        data = bytearray(file.finish())
        data[len(data) // 2] ^= 0xff
        path = self.write("hole.kvrec", bytes(data))
        tokens = json.dumps(prompt(0, 1))
        told = f"conductor: warning: {path}: byte "
        result = self.run_score("--recording", path, stdin=tokens, conductor=None)
        self.assertEqual(result.returncode, DONE, result.stderr)
        self.assertIn(told, result.stderr)
        self.assert_complains(
            self.run_score("--recording", path, "--live", stdin=tokens, conductor=None), FAILED,
            told, "expected a:5557 to be live, and it is degraded")

    def test_a_replay_that_was_recorded_comes_before_what_follows_it(self):
        file = RecordingFile(os.path.join(self.home, "replayed.kvrec"))
        number = file.publisher("tcp://a:5557", {"modelname": MODEL, "instance_id": "a"})
        payloads = [events.G2.payload([events.Stored(
            [index + 1], index or None, self.LONG[index * 16:index * 16 + 16], BLOCK_SIZE)])
            for index in range(8)]
        file.batch(number, 5, payloads[5])  # live, before the answer that it waits for
        for index in range(6):
            file.answer(number, index, payloads[index])
        file.batch(number, 6, payloads[6])
        file.end_of_answer(number)
        file.batch(number, 7, payloads[7])
        file.finish()
        answer, = self.score("--recording", file.path, stdin=json.dumps(self.LONG),
                             conductor=None)
        entry, = answer["ranking"]
        self.assertEqual((entry["longest_matched"], entry["state"]), (128, "live"))


    def test_what_tap_records_is_asked(self):
        publisher = self.publisher(see_subscribers=True)
        self.publish(publisher, self.LONG[:4 * BLOCK_SIZE])
        path = os.path.join(self.home, "tapped.kvrec")
        tap = subprocess.Popen(
            [binary(), "tap", publisher.endpoint, "--replay-endpoint", publisher.replay_endpoint,
             "--from", "0", "--record", path, "--json", "--fact", "instance_id=a"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(tap.kill)
        types = []
        while types.count("stored") < 1:
            types.append(json.loads(tap.stdout.readline())["type"])
        publisher.wait_for_subscriber()
        publisher.publish(events.Stored(
            [5, 6, 7, 8], 4, self.LONG[4 * BLOCK_SIZE:], BLOCK_SIZE))
        while types.count("stored") < 2:
            types.append(json.loads(tap.stdout.readline())["type"])
        tap.send_signal(signal.SIGINT)
        tap.stdout.read()
        tap.stdout.close()
        self.assertEqual(tap.wait(DEADLINE), DONE)
        answer, = self.score("--recording", path, stdin=json.dumps(self.LONG), conductor=None)
        entry, = answer["ranking"]
        self.assertEqual((entry["instance_id"], entry["longest_matched"], entry["state"]),
                         ("a", 128, "live"))


class Keeper:
    """Stands in for a publisher, and records what it would send."""

    def __init__(self, file, number):
        self._file = file
        self._number = number
        self._sequence = 0

    def publish(self, *batch, rank=0, timestamp=None):
        self._file.batch(self._number, self._sequence, events.G2.payload(batch, rank, timestamp))
        self._sequence += 1


class Views(ScoreTest):
    def on_a_terminal(self, *arguments, columns=80, **environment):
        """What a person sees, and the exit status."""
        command = [binary(), "score", "--conductor", self.conductor.url, "--model", MODEL,
                   *arguments]
        kept = {key: value for key, value in os.environ.items()
                if key not in ("NO_COLOR", "COLUMNS")}
        leader, follower = pty.openpty()
        with contextlib.closing(os.fdopen(leader, "rb", buffering=0)) as screen:
            process = subprocess.Popen(
                command, stdin=follower, stdout=follower, stderr=follower, close_fds=True,
                env={**kept, "TERM": "xterm", "COLUMNS": str(columns), **environment})
            os.close(follower)
            seen = b""
            deadline = time.monotonic() + DEADLINE
            while select.select([screen], [], [], max(0, deadline - time.monotonic()))[0]:
                try:
                    piece = screen.read(65536)
                except OSError:  # the last one has closed it
                    break
                if not piece:
                    break
                seen += piece
            return seen.decode().replace("\r\n", "\n"), process.wait(DEADLINE)

    def test_a_terminal_shows_a_table_with_the_parts(self):
        self.fleet()
        path = self.tokens("prompt.json", self.LONG)
        load = '{"a": {"waiting": 3}, "b": {"kv_use": 0.9}}'
        text, code = self.on_a_terminal("--tokens", path, "--load", load, "--explain")
        self.assertEqual(code, DONE, text)
        self.assertIn(RED_OR_BOLD, text)
        plain = re.sub(r"\x1b\[\d*m", "", text)
        lines = plain.splitlines()
        self.assertEqual(lines[0][-len("model test-model, 128 tokens"):],
                         "model test-model, 128 tokens")
        self.assertEqual(lines[1].split(),
                         ["INSTANCE", "STATE", "MATCHED", "SCORE", "GPU", "TRUST"])
        self.assertEqual(lines[2].split()[:3], ["a", "live", "128"])
        self.assertIn("  a: 8 of 8 blocks: end_of_prompt", plain)
        self.assertIn("  b: 4 of 8 blocks: never_stored", plain)
        for line in lines[:4]:
            self.assertLessEqual(len(line), 80)

    def test_no_color_and_a_pipe_have_no_colours(self):
        self.fleet()
        path = self.tokens("prompt.json", self.LONG)
        text, code = self.on_a_terminal("--tokens", path, NO_COLOR="1")
        self.assertEqual(code, DONE)
        self.assertNotIn("\x1b", text)
        narrow, _ = self.on_a_terminal("--tokens", path, columns=40, NO_COLOR="1")
        self.assertLessEqual(max(map(len, narrow.splitlines())), 40)
        piped = self.run_score("--tokens", path)
        self.assertNotIn("\x1b", piped.stdout)
        self.assertIn(f"{path}: model test-model, 128 tokens\n", piped.stdout)

    def test_a_terminal_as_input_is_asked_for_no_prompt(self):
        self.conductor = self.daemon()
        text, code = self.on_a_terminal()
        self.assertEqual(code, USAGE)
        self.assertIn("there is no prompt (expected --tokens FILE", text)

    def test_a_reader_that_leaves_ends_it_quietly(self):
        self.fleet()
        line = json.dumps(self.LONG)
        path = self.write("many.jsonl", "\n".join([line] * 3000))
        process = subprocess.Popen(
            [binary(), "score", "--json", "--conductor", self.conductor.url, "--model", MODEL,
             path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(json.loads(process.stdout.readline())["prompt"], 1)
        process.stdout.close()
        self.assertEqual(process.stderr.read(), b"")
        process.stderr.close()
        self.assertEqual(process.wait(DEADLINE), DONE)

    def test_answers_come_while_the_input_goes_on(self):
        self.fleet()
        process = subprocess.Popen(
            [binary(), "score", "--json", "--conductor", self.conductor.url, "--model", MODEL,
             "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for number in range(1, 4):
            process.stdin.write(json.dumps(self.LONG).encode() + b"\n")
            process.stdin.flush()
            self.assertEqual(json.loads(process.stdout.readline())["prompt"], number)
        process.stdin.close()
        self.assertEqual(process.wait(DEADLINE), DONE)
        process.stdout.close()


class Usage(ScoreTest):
    def test_flags_that_do_not_fit_say_what_is_missing(self):
        cases = [
            (["--tokens", "x"], "no model is named (expected --model NAME)"),
            (["--model", "m", "--prompt", "x"], "--tokenizer http://HOST:PORT"),
            (["--model", "m", "--recording", "x", "--conductor", "http://a"],
             "--conductor and --recording: one of the two"),
            (["--model", "m", "--conductor", "a:1"], "--conductor: "),
            (["--model", "m", "--tokenizer", "engine:8000"],
             "--tokenizer: 'engine:8000' is no address of a tokenizer (expected http://HOST"),
            (["--model", "m", "--load", '{"a": {"waiting": -1}}'],
             "--load: load.a.waiting is -1 (expected a number from 0 on)"),
            (["--model", "m", "--timeout", "0s"], "--timeout: '0s' is too short"),
            (["--model", "m", "--in-flight", "0"], "--in-flight: '0'"),
            (["--model", ""], "--model: is empty"),
            (["--model", "m", "--type", "vlm"], "--type: "),
        ]
        for arguments, part in cases:
            with self.subTest(arguments):
                self.assert_complains(
                    self.run_score(*arguments, stdin="", conductor=None, model=None), USAGE, part)

    def test_a_file_that_is_missing_is_a_failure_and_no_matter_of_usage(self):
        for flag in ("--load", "--token-file", "--recording", "--snapshot"):
            with self.subTest(flag):
                self.assert_complains(
                    self.run_score("--model", "m", flag, "/nowhere", stdin="[1]", conductor=None,
                                   model=None), FAILED, f"{flag}: ", "/nowhere")

    def test_no_prompt_at_all_is_a_failure(self):
        self.conductor = self.daemon()
        self.assert_complains(self.run_score(stdin="\n \n"), FAILED, "there was no prompt")


if __name__ == "__main__":
    unittest.main()
