"""`conductor snapshot`: files that a real daemon saved, and what recordings come to, looked at,
compared, asked and loaded by the real binary."""

import contextlib
import http.server
import json
import os
import random
import shutil
import sqlite3
import stat
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import xxhash

from daemon import DEADLINE, binary, key
from engine import Engine
from model import Model
from recording_file import RecordingFile
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt

DONE, FAILED, USAGE = 0, 1, 2
PROMPTS = [prompt(number, 12) for number in range(8)]
TIERS = ("gpu", "cpu", "disk")


def prefix_hash(block):
    """The standard's hash of a block of the model and all before it, as a number."""
    local = xxhash.xxh3_64_intdigest(struct.pack(f"<{len(block.tokens)}I", *block.tokens), 1337)
    if block.parent.parent is None:  # that is the root of the model, which is no block
        return local
    return xxhash.xxh3_64_intdigest(struct.pack("<QQ", prefix_hash(block.parent), local), 1337)


class Elsewhere:
    """A daemon of which only its answers to POST /v1/snapshot are known: one after the other, the
    last one again and again."""

    def __init__(self, *answers):
        answers = list(answers)
        asked = self.asked = []  # the paths, one for each request

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked.append(self.path)
                body = json.dumps(answers.pop(0) if len(answers) > 1 else answers[0]).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def end(self):
        self.server.shutdown()
        self.server.server_close()


class SnapshotCommandTest(EndToEndTest):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="conductor-snapshot-")
        self.addCleanup(directory.cleanup)
        self.home = directory.name
        self.state = self.path("state.db")
        self.model = Model(BLOCK_SIZE)
        self.engines = {}

    def path(self, name):
        return os.path.join(self.home, name)

    def fleet(self, instances=("a", "b"), batches=12):
        """A daemon with a state file, saved, and engines whose holdings have holes."""
        self.conductor = self.daemon("--state", self.state, "--snapshot-interval", "0")
        for instance in instances:
            source = self.publisher()
            self.engines[instance] = Engine(self.model, source, instance, capacity=40,
                                            offload=0.3, lru=False)
            self.conductor.register(source, instance)
        self.work(batches)
        self.save()

    def work(self, batches, seed=0):
        source = random.Random(seed)
        for _ in range(batches):
            for engine in self.engines.values():
                engine.run(source.choice(PROMPTS))
        for instance, engine in self.engines.items():
            self.conductor.wait_applied(key(instance), engine.publisher)

    def save(self):
        return self.conductor.ok("POST", "/v1/snapshot")

    def run_snapshot(self, *arguments, stdin="", **environment):
        kept = {name: value for name, value in os.environ.items()
                if name not in ("NO_COLOR", "COLUMNS") and not name.startswith("CONDUCTOR_")}
        return subprocess.run([binary(), "snapshot", *arguments], input=stdin, text=True,
                              capture_output=True, timeout=DEADLINE, check=False,
                              env={**kept, **environment})

    def snapshot(self, *arguments, code=DONE, **more):
        """What it prints."""
        result = self.run_snapshot(*arguments, **more)
        self.assertEqual(result.returncode, code, result.stderr + result.stdout)
        return result.stdout

    def json(self, *arguments, **more):
        return json.loads(self.snapshot(*arguments, "--json", **more))

    def assert_complains(self, result, code, *parts):
        self.assertEqual(result.returncode, code, result.stderr + result.stdout)
        for part in parts:
            self.assertIn(part, result.stderr)

    def held(self, instance):
        return {tier: len(self.model.held(instance, 0, tier)) for tier in TIERS}

    def hashes(self, instance, tier):
        return {prefix_hash(block) for block in self.model.held(instance, 0, tier)}

    def sql(self, path, *statements):
        database = sqlite3.connect(path)
        try:
            for statement in statements:
                database.execute(statement)
            database.commit()
        finally:
            database.close()


class Looking(SnapshotCommandTest):
    def setUp(self):
        super().setUp()
        self.fleet()

    def test_info_tells_publishers_namespaces_and_sizes(self):
        info = self.json("info", self.state)
        self.assertEqual(info["bytes"], os.path.getsize(self.state))
        self.assertEqual(info["holdings"], self.model.holdings())
        self.assertEqual([publisher["id"] for publisher in info["publishers"]],
                         [key("a"), key("b")])
        for publisher, instance in zip(info["publishers"], "ab"):
            self.assertEqual(publisher["cursor"], self.engines[instance].publisher.last_sequence)
            self.assertEqual(publisher["state"], "live")
            self.assertEqual(publisher["holdings"], self.held(instance))
        namespace, = info["namespaces"]
        self.assertEqual((namespace["model"], namespace["block_size"]), (MODEL, BLOCK_SIZE))
        self.assertEqual(namespace["blocks"], info["blocks"])
        text = self.snapshot("info", self.state)
        for words in (key("a"), "live", MODEL, "format 1"):
            self.assertIn(words, text)

    def test_verify_finds_a_daemons_file_sound(self):
        verdict = self.json("verify", self.state)
        self.assertTrue(verdict["sound"])
        self.assertEqual([check["name"] for check in verdict["checks"]],
                         ["file", "database", "chains", "counts"])
        self.assertIn("ok", self.snapshot("verify", self.state))

    def test_verify_says_what_is_wrong(self):
        for statement, words in (
                ("UPDATE holdings SET blocks = blocks & -2, held = held - 1 WHERE blocks & 1 "
                 "AND held > 1", "are not those that were written"),
                ("UPDATE holdings SET holder = 99 WHERE rowid = 1", "holders"),
                ("UPDATE snapshot SET blocks = blocks + 1", "snapshot: what it says of the file"),
                ("UPDATE namespaces SET model = 'other'", "namespaces: its rows are not those"),
                ("CREATE VIEW mine AS SELECT 1", "has a view 'mine'"),
        ):
            with self.subTest(statement):
                copy = shutil.copy(self.state, self.path("changed.db"))
                self.sql(copy, statement)
                verdict = self.json("verify", copy, code=FAILED)
                self.assertFalse(verdict["sound"])
                self.assertIn(words, verdict["checks"][-1]["detail"])
                self.assertIn("FAILED", self.snapshot("verify", copy, code=FAILED))

    def test_what_is_no_snapshot_of_ours_is_a_clear_error(self):
        foreign = self.path("foreign.db")
        self.sql(foreign, "CREATE TABLE mine (x)")
        newer = shutil.copy(self.state, self.path("newer.db"))
        self.sql(newer, "PRAGMA user_version = 99")
        text = self.path("text.db")
        with open(text, "w") as file:
            file.write("no database at all, but some text that is long enough\n" * 20)
        damaged = shutil.copy(self.state, self.path("damaged.db"))
        with open(damaged, "r+b") as file:
            file.truncate(os.path.getsize(self.state) // 2)
        for path, words in ((foreign, "another program's file"), (newer, "a newer Conductor"),
                            (text, "not a database"), (damaged, damaged),
                            (self.path("none.db"), "No such file")):
            for command in (("info",), ("export",), ("diff", self.state)):
                with self.subTest(path=path, command=command):
                    self.assert_complains(self.run_snapshot(*command, path), FAILED, words)
            self.snapshot("verify", path, code=FAILED)
            self.assert_complains(
                self.run_snapshot("score", path, "--model", MODEL, stdin="[1]"), FAILED, words)

    def test_a_reader_that_is_gone_ends_it_quietly(self):
        command = subprocess.Popen([binary(), "snapshot", "export", self.state],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        command.stdout.close()
        self.assertEqual((command.stderr.read(), command.wait(DEADLINE)), (b"", DONE))
        command.stderr.close()

    def test_query_and_score_answer_as_the_daemon_did_but_stale(self):
        lines = "".join(json.dumps(tokens) + "\n" for tokens in PROMPTS)
        for command in ("query", "score"):
            result = self.run_snapshot(command, self.state, "--model", MODEL, "--json",
                                       stdin=lines)
            self.assertEqual(result.returncode, DONE, result.stderr)
            self.assertIn("stale", result.stderr)
            answers = [json.loads(line) for line in result.stdout.splitlines()]
            self.assertEqual(len(answers), len(PROMPTS))
            for tokens, answer in zip(PROMPTS, answers):
                entries = answer["instances" if command == "query" else "ranking"]
                self.assertEqual({entry["instance_id"] for entry in entries}, {"a", "b"})
                for entry in entries:
                    want = self.model.instance_figures(entry["instance_id"], tokens)
                    self.assertEqual(entry["longest_matched"], want.longest)
                    self.assertEqual(entry["state"], "stale")
                    if command == "query":
                        self.assertEqual(tuple(entry[tier] for tier in TIERS), tuple(want))
        text = self.snapshot("query", self.state, "--model", MODEL, stdin=json.dumps(PROMPTS[0]))
        self.assertIn("INSTANCE", text)
        scored = subprocess.run(
            [binary(), "score", "--snapshot", self.state, "--model", MODEL, "--live"],
            input=json.dumps(PROMPTS[0]), capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual(scored.returncode, FAILED)
        self.assertIn("stale", scored.stderr)

    def test_export_has_every_holding_once(self):
        lines = [json.loads(line) for line in self.snapshot("export", self.state).splitlines()]
        for instance in "ab":
            for tier in TIERS:
                hashes = [text for line in lines
                          if (line["instance_id"], line["tier"]) == (instance, tier)
                          for text in line["hashes"]]
                self.assertEqual(len(hashes), len(set(hashes)))
                self.assertEqual(set(hashes), {f"{block:016x}"
                                               for block in self.hashes(instance, tier)})
        only = self.snapshot("export", self.state, "--instance", "b").splitlines()
        self.assertEqual({json.loads(line)["instance_id"] for line in only}, {"b"})

    def test_rfc1527_events_say_again_what_is_held(self):
        events = [json.loads(line)
                  for line in self.snapshot("export", self.state, "--rfc1527").splitlines()]
        self.assertEqual({event["event_type"] for event in events}, {"stored", "removed"})
        # As an index would take them that knows nothing but the hashes.
        held, known = {}, set()
        for event in events:
            place = (event["backend_id"], event["medium"].lower())
            if event["event_type"] == "removed":
                held[place] -= set(event["seq_hashes"])
                continue
            parent = event["parent_hash"]
            self.assertTrue(parent is None or (event["backend_id"], parent) in known)
            self.assertEqual(event["base_block_idx"] == 0, parent is None)
            held.setdefault(place, set()).update(event["seq_hashes"])
            known |= {(event["backend_id"], block) for block in event["seq_hashes"]}
        for instance in "ab":
            for tier in TIERS:
                self.assertEqual(held.get((instance, tier), set()), self.hashes(instance, tier))

    def test_load_gives_a_daemon_the_blocks_and_says_that_they_are_doubtful(self):
        other = self.daemon()
        report = self.json("load", self.state, "--conductor", other.url)
        self.assertEqual([entry["id"] for entry in report["publishers"]], [key("a"), key("b")])
        for entry in report["publishers"]:
            self.assertEqual((entry["state"], entry["reason"]), ("degraded", "doubtful"))
        for tokens in PROMPTS:
            for instance, entry in other.query(MODEL, tokens).items():
                self.assertEqual(tuple(entry[tier] for tier in TIERS),
                                 tuple(self.model.instance_figures(instance, tokens)))
                self.assertEqual(entry["state"], "degraded")
        # Again it is the same life, and nothing new.
        self.assertEqual(self.json("load", self.state, "--conductor", other.url)["publishers"],
                         report["publishers"])

    def test_load_takes_nobodys_name(self):
        # The daemon listens to engines of these names.
        result = self.run_snapshot("load", self.state, "--conductor", self.conductor.url)
        self.assert_complains(result, FAILED, "status 409", key("a"))
        report = self.json("load", self.state, "--conductor", self.conductor.url,
                           "--prefix", "old-", "--instance", "b")
        self.assertEqual([entry["id"] for entry in report["publishers"]], [key("old-b")])
        for tokens in PROMPTS:
            entries = self.conductor.query(MODEL, tokens)
            self.assertEqual(entries["old-b"]["longest_matched"], entries["b"]["longest_matched"])


class Saving(SnapshotCommandTest):
    def recording(self):
        """All that the fleet's publishers said, with their facts."""
        file = RecordingFile(self.path("run.rec"))
        for instance, engine in self.engines.items():
            number = file.publisher(engine.publisher.endpoint, {
                "instance_id": instance, "model": MODEL, "type": "vLLM",
                "block_size": BLOCK_SIZE})
            for sequence, payload in engine.publisher.history():
                file.batch(number, sequence, payload)
        file.finish()
        return file.path

    def test_a_daemon_saves_and_its_file_is_copied(self):
        self.fleet()
        copy = self.path("copy.db")
        report = self.json("save", copy, "--conductor", self.conductor.url)
        self.assertEqual((report["path"], report["daemon_path"]), (copy, self.state))
        self.assertEqual(stat.S_IMODE(os.stat(copy).st_mode), 0o600)
        self.assertEqual(report["holdings"], self.model.holdings())
        self.assertTrue(self.json("diff", copy, self.state)["same"])
        self.assertEqual(sorted(os.listdir(self.home)),
                         ["copy.db", "state.db", "state.db.lock"])
        # Without a file the daemon's own is all there is.
        text = self.snapshot("save", "--conductor", self.conductor.url)
        self.assertIn(self.state, text)
        # Its own file is nothing to be written by others.
        self.assertIn(self.state,
                      self.snapshot("save", self.state, "--conductor", self.conductor.url))

    def test_what_cannot_be_saved_is_said(self):
        self.assert_complains(
            self.run_snapshot("save", self.path("x.db"), "--conductor", self.daemon().url),
            FAILED, "--state FILE")
        self.assert_complains(
            self.run_snapshot("save", self.path("x.db"), "--conductor", "http://127.0.0.1:1"),
            FAILED, "is the daemon running?")
        self.assert_complains(
            self.run_snapshot("save", self.path("no/x.db"), "--recording", "none.rec"),
            FAILED, "no/x.db", "No such file")
        self.assert_complains(
            self.run_snapshot("save", self.path("x.db"), "--recording", self.path("none.rec")),
            FAILED, "--recording", "none.rec")
        self.assert_complains(
            self.run_snapshot("save", self.path("x.db"), "--recording", "r", "--conductor",
                              "http://127.0.0.1:1"), USAGE, "one of them")
        self.assert_complains(self.run_snapshot("save", "--conductor", "tcp://127.0.0.1:1"),
                              USAGE, "http://HOST:PORT")
        self.assertEqual(os.listdir(self.home), [])

    def test_what_is_no_snapshot_is_not_written_over(self):
        self.fleet()
        recording = self.recording()
        engine = self.engines["a"].publisher
        mine = self.path("mine.txt")
        with open(mine, "w", encoding="utf-8") as file:
            file.write("what somebody wrote\n")
        database = self.path("database.db")
        self.sql(database, "CREATE TABLE mine (x)")
        for path in (mine, database):
            for source in (("--recording", recording), ("--conductor", self.conductor.url),
                           ("--replay-endpoint", engine.replay_endpoint, "--model", MODEL)):
                with self.subTest(path=path, source=source[0]):
                    with open(path, "rb") as file:
                        before = file.read()
                    self.assert_complains(self.run_snapshot("save", path, *source), FAILED, path,
                                          "would be lost", "--force")
                    with open(path, "rb") as file:
                        self.assertEqual(file.read(), before)
        replayed = subprocess.run([binary(), "replay", recording, "--snapshot", mine],
                                  capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual(replayed.returncode, FAILED)
        self.assertIn("would be lost", replayed.stderr)
        self.json("save", mine, "--recording", recording, "--force")
        self.json("save", mine, "--conductor", self.conductor.url)  # it is one now
        self.json("save", database, "--conductor", self.conductor.url, "--force")
        self.assertTrue(self.json("diff", mine, database)["same"])
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        self.assert_complains(self.run_snapshot("save", fifo, "--recording", recording,
                                                "--force"), FAILED, "is a FIFO")
        self.assert_complains(self.run_snapshot("save", self.home, "--recording", recording,
                                                "--force"), FAILED, "is a directory")

    def test_a_link_is_followed_and_stays(self):
        self.fleet()
        link = self.path("link.db")
        os.symlink("target.db", link)
        self.json("save", link, "--conductor", self.conductor.url)
        self.assertTrue(os.path.islink(link))
        self.assertTrue(self.json("diff", self.path("target.db"), self.state)["same"])
        # Whichever way a daemon's own file is named.
        os.symlink("state.db", self.path("own.db"))
        self.assert_complains(
            self.run_snapshot("save", self.path("own.db"), "--recording", self.recording()),
            FAILED, "another conductor uses it")

    def test_a_file_of_the_same_name_here_is_not_taken_for_that_of_a_daemon_elsewhere(self):
        self.fleet()
        here = shutil.copy(self.state, self.path("here.db"))
        answer = {**self.save(), "path": here}
        elsewhere = Elsewhere(answer)
        self.addCleanup(elsewhere.end)
        # Saved since, or never the same: what is here has another digest.
        answer["digest"] = f"{int(answer['digest'], 16) ^ 1:016x}"
        for command in (("save", self.path("copy.db")), ("save", here)):
            self.assert_complains(
                self.run_snapshot(*command, "--conductor", elsewhere.url), FAILED,
                "on its own machine", "is another file")
        self.assert_complains(self.run_snapshot("diff", elsewhere.url, self.state), FAILED,
                              "is another file")
        self.assertFalse(os.path.exists(self.path("copy.db")))
        # To ask again would not help, and each time a daemon saves all that it has.
        self.assertEqual(len(elsewhere.asked), 3)

    def test_what_cannot_be_written_is_told_before_the_daemon_saves(self):
        elsewhere = Elsewhere({})
        self.addCleanup(elsewhere.end)
        mine = self.path("mine.txt")
        with open(mine, "w", encoding="utf-8") as file:
            file.write("what somebody wrote\n")
        for path, why in ((self.path("no/x.db"), "No such file"), (mine, "would be lost"),
                          (self.home, "is a directory")):
            self.assert_complains(
                self.run_snapshot("save", path, "--conductor", elsewhere.url), FAILED, path, why)
        self.assertEqual(elsewhere.asked, [])

    def test_what_sqlite_left_beside_the_old_file_is_not_read_in_the_new_one(self):
        self.fleet()
        path, used = self.path("copy.db"), self.path("used.db")
        self.json("save", path, "--conductor", self.conductor.url)
        # As a shell leaves it that was killed: its changes are in the log alone.
        shutil.copy(path, used)
        shell = sqlite3.connect(used)
        self.addCleanup(shell.close)
        shell.execute("PRAGMA journal_mode = WAL")
        shell.execute("UPDATE snapshot SET conductor = 'of the shell'")
        shell.commit()
        for suffix in ("", "-wal", "-shm"):
            shutil.copy(used + suffix, path + suffix)
        self.json("save", path, "--conductor", self.conductor.url)
        with contextlib.closing(sqlite3.connect(path)) as database:
            self.assertNotIn(("of the shell",),
                             database.execute("SELECT conductor FROM snapshot").fetchall())
        self.assertEqual([name for name in os.listdir(self.home) if name.startswith("copy.db")],
                         ["copy.db"])

    def test_a_daemon_that_saves_all_the_time_is_asked_again(self):
        self.fleet()
        first, second = self.save(), self.save()
        elsewhere = Elsewhere(first, second)
        self.addCleanup(elsewhere.end)
        self.json("save", self.path("copy.db"), "--conductor", elsewhere.url)
        self.assertTrue(self.json("diff", self.path("copy.db"), self.state)["same"])

    def test_what_a_killed_command_left_is_gone_an_hour_later(self):
        self.fleet()
        ended = subprocess.Popen([binary(), "--version"], stdout=subprocess.DEVNULL)
        ended.wait(DEADLINE)
        now = time.time()
        names = {f"copy.db.conductor-{ended.pid}.new": 7200,    # goes
                 f"copy.db.conductor-{ended.pid}1.new": 60,     # may be of another machine
                 f"copy.db.conductor-{os.getpid()}.new": 7200,  # at work
                 f"mine.db.conductor-{ended.pid}.new": 7200, "copy.db.conductor-x.new": 7200,
                 # Somebody's own: a day is the number of no process.
                 f"copy.db.{ended.pid}.new": 7200, "copy.db.20261126.new": 7200,
                 "copy.db.conductor-20261126.new": 7200, "copy.db.conductor-4194305.new": 7200}
        for name, age in names.items():
            with open(self.path(name), "wb"):
                pass
            os.utime(self.path(name), (now - age, now - age))
        self.json("save", self.path("copy.db"), "--conductor", self.conductor.url)
        gone = f"copy.db.conductor-{ended.pid}.new"
        self.assertEqual({name for name in os.listdir(self.home) if name.endswith(".new")},
                         set(names) - {gone})

    def test_a_daemons_own_file_is_not_written_over(self):
        self.fleet()
        recording = self.recording()
        self.assert_complains(self.run_snapshot("save", self.state, "--recording", recording),
                              FAILED, "another conductor uses it")

    def test_a_recording_comes_to_what_the_daemon_has(self):
        self.fleet()
        recording = self.recording()
        rebuilt = self.path("rebuilt.db")
        self.json("save", rebuilt, "--recording", recording)
        self.assertTrue(self.json("verify", rebuilt)["sound"])
        diff = self.json("diff", self.conductor.url, rebuilt)
        self.assertTrue(diff["same"])
        self.assertEqual(diff["holdings"]["both"], self.model.holdings())
        verdict = self.json("verify", self.state, "--against", recording)
        self.assertTrue(verdict["against"]["same"])

    def test_what_an_engine_has_to_tell_is_made_into_one(self):
        self.fleet(instances=("a",))
        engine = self.engines["a"].publisher
        rebuilt = self.path("rebuilt.db")
        report = self.json("save", rebuilt, "--replay-endpoint", engine.replay_endpoint,
                           "--model", MODEL, "--instance", "a")
        self.assertEqual(report["holdings"], self.model.holdings())
        self.assertTrue(self.json("diff", self.conductor.url, rebuilt)["same"])
        self.assert_complains(
            self.run_snapshot("save", rebuilt, "--replay-endpoint", engine.replay_endpoint),
            USAGE, "--model")
        engine.die()
        self.assert_complains(
            self.run_snapshot("save", self.path("none.db"), "--replay-endpoint",
                              engine.replay_endpoint, "--model", MODEL, "--timeout", "200ms"),
            FAILED, engine.replay_endpoint)
        self.assertFalse(os.path.exists(self.path("none.db")))

    def test_a_replay_writes_one_as_well(self):
        self.fleet()
        recording = self.recording()
        replayed = self.path("replayed.db")
        result = subprocess.run([binary(), "replay", recording, "--snapshot", replayed],
                                capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual(result.returncode, DONE, result.stderr)
        self.assertIn(replayed, result.stderr)
        self.assertTrue(self.json("diff", self.state, replayed)["same"])

    def test_verify_against_a_recording_goes_up_to_the_cursors(self):
        self.fleet()
        self.work(8, seed=3)  # after it was saved
        recording = self.recording()
        self.assertTrue(self.json("verify", self.state, "--against", recording)["sound"])

    def test_verify_against_a_recording_leaves_what_others_have_in_tmpdir(self):
        self.fleet()
        recording = self.recording()
        everybodys = self.path("tmp")
        os.mkdir(everybodys)
        for name in ("conductor-rebuild", "conductor-rebuild.lock"):
            with open(os.path.join(everybodys, name), "w", encoding="utf-8") as theirs:
                theirs.write("a letter")
        self.json("verify", self.state, "--against", recording, TMPDIR=everybodys)
        self.assertEqual(sorted(os.listdir(everybodys)),
                         ["conductor-rebuild", "conductor-rebuild.lock"])
        self.assert_complains(
            self.run_snapshot("verify", self.state, "--against", recording,
                              TMPDIR=self.path("none")), FAILED, "TMPDIR")

    def test_verify_against_another_recording_says_what_differs(self):
        self.fleet()
        recording = self.recording()
        self.work(3, seed=5)
        self.save()
        verdict = self.json("verify", self.state, "--against", recording, code=FAILED)
        self.assertFalse(verdict["sound"])
        self.assertGreater(verdict["against"]["holdings"]["only_a"], 0)
        text = self.snapshot("verify", self.state, "--against", recording, code=FAILED)
        self.assertIn("differ from a rebuild", text)


class Comparing(SnapshotCommandTest):
    def test_what_changed_is_told_by_instance_tier_and_prefix(self):
        self.fleet()
        before = shutil.copy(self.state, self.path("before.db"))
        held = {(instance, tier): self.hashes(instance, tier)
                for instance in "ab" for tier in TIERS}
        new = prompt("a new one", 3)
        self.engines["a"].run(new)
        self.work(0)
        self.save()
        diff = self.json("diff", before, self.state, "--top", "1000", code=FAILED)
        self.assertFalse(diff["same"])
        for instance in "ab":
            for tier in TIERS:
                now = self.hashes(instance, tier)
                was = held[instance, tier]
                counts = [rank for rank in diff["ranks"]
                          if (rank["instance_id"], rank["tier"]) == (instance, tier)]
                if not now and not was:
                    self.assertEqual(counts, [])
                    continue
                self.assertEqual([(c["both"], c["only_a"], c["only_b"]) for c in counts],
                                 [(len(was & now), len(was - now), len(now - was))])
                told = {(block["hash"], block["where"]) for block in diff["blocks"]
                        if (block["instance_id"], block["tier"]) == (instance, tier)
                        and block["where"] != "otherwise"}
                self.assertEqual(told, {(f"{block:016x}", "only_a") for block in was - now}
                                 | {(f"{block:016x}", "only_b") for block in now - was})
        root = f"{prefix_hash(self.model.chain(new)[0]):016x}"
        prefix, = [entry for entry in diff["prefixes"] if entry["root"] == root]
        self.assertEqual((prefix["only_b"], prefix["first_position"], prefix["instances"]),
                         (3, 0, ["a"]))
        text = self.snapshot("diff", before, self.state, code=FAILED)
        for words in ("different:", "only_b", root, "by prefix"):
            self.assertIn(words, text)

    def test_a_daemon_and_its_own_file_are_the_same(self):
        self.fleet()
        self.assertIn("the same", self.snapshot("diff", self.conductor.url, self.state))


if __name__ == "__main__":
    unittest.main()
