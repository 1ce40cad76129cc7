"""conductor tap, through the real binary: live publishers, recordings, daemons, terminals, pipes."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time
import unittest

import dialects
from daemon import DEADLINE, binary, wait_until
from events import Cleared, Raw, Removed, Stored
from faulty import FaultyPublisher
from publisher import ReplayForm, free_ports
from suite import EndToEndTest

HASH = 0xFEDCBA9876543210
BLOCK_EVENTS = ("stored", "removed", "cleared")


def stored(first, parent=None, blocks=1, **more):
    return Stored(hashes=list(range(first, first + blocks)), parent=parent,
                  tokens=list(range(16 * blocks)), block_size=16, **more)


class Tap:
    """A running `conductor tap`, whose standard output is a pipe that is read all the time."""

    def __init__(self, *arguments, environment=None):
        self.process = subprocess.Popen(
            [binary(), "tap", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
        self.lines = []
        self.notes = []
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.lines), (self.process.stderr, self.notes))]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(file, lines):
        for line in file:
            lines.append(line.rstrip("\n"))

    @property
    def events(self):
        return [json.loads(line) for line in list(self.lines)]

    def of_type(self, *types):
        return [event for event in self.events if event["type"] in types]

    def wait_for(self, check, what):
        def seen():
            return f"{what}; lines {self.lines[-5:]}, notes {self.notes[-5:]}"
        return wait_until(check, seen)

    def wait_for_type(self, name, count=1):
        self.wait_for(lambda: len(self.of_type(name)) >= count, f"{count} of {name}")

    def stop(self, signal_number=signal.SIGINT):
        self.process.send_signal(signal_number)
        return self.end()

    def end(self):
        code = self.process.wait(DEADLINE)
        for reader in self._readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.end()


def run(*arguments, code=0, **more):
    """`conductor tap ARGUMENTS` to its end."""
    done = subprocess.run([binary(), "tap", *arguments], capture_output=True, text=True,
                          timeout=DEADLINE, check=False, **more)
    if done.returncode != code:
        raise AssertionError(f"exit code {done.returncode}: {done.stderr}")
    return done


def in_terminal(*arguments, until, columns=200, environment=None, act=None):
    """What `conductor tap ARGUMENTS` shows on a terminal until `until(text)`; ended by Ctrl-C."""
    terminal, other_end = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    modes = termios.tcgetattr(terminal)
    modes[3] |= termios.NOFLSH  # Ctrl-C would throw away what was not read yet
    termios.tcsetattr(terminal, termios.TCSANOW, modes)
    process = subprocess.Popen(
        ["setsid", "--ctty", binary(), "tap", *arguments], stdin=other_end, stdout=other_end,
        stderr=other_end, env={**os.environ, "TERM": "xterm", **(environment or {})})
    os.close(other_end)
    text = ""
    deadline = time.monotonic() + DEADLINE
    try:
        while not until(text):
            if time.monotonic() > deadline:
                raise AssertionError(f"not shown: {text}")
            if select.select([terminal], [], [], 0.02)[0]:
                text += os.read(terminal, 65536).decode()
            elif act is not None and act():
                act = None
        os.write(terminal, b"\x03")
        while select.select([terminal], [], [], DEADLINE)[0]:
            try:
                text += os.read(terminal, 65536).decode()
            except OSError:  # the other end is closed
                break
        code = process.wait(DEADLINE)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    return code, text.replace("\r\n", "\n")


class TapTest(EndToEndTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="conductor-tap-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def tap(self, *arguments, **more):
        started = Tap(*arguments, **more)
        self.addCleanup(started.kill)
        return started

    def process(self, *arguments, **more):
        """The same without anybody who reads what it prints."""
        started = subprocess.Popen([binary(), "tap", *arguments], **more)
        self.addCleanup(started.communicate)
        self.addCleanup(started.kill)
        return started

    def followed(self, *arguments, **more):
        """A publisher, and a tap with --json that has subscribed to it."""
        publisher = self.publisher(see_subscribers=True, **more)
        tap = self.tap(publisher.endpoint, "--json", *arguments)
        publisher.wait_for_subscriber()
        return publisher, tap


class Live(TapTest):
    def test_every_event_is_a_line_with_all_that_it_says(self):
        publisher, tap = self.followed()
        publisher.publish(
            stored(HASH, blocks=2, medium="CPU", lora_name="sql", lora_id=3),
            Removed([7]), Cleared(), rank=1)
        tap.wait_for_type("cleared")
        self.assertEqual(tap.stop(), 0)
        first, second, third = tap.of_type(*BLOCK_EVENTS)
        self.assertRegex(first.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual(first, {
            "type": "stored", "publisher": publisher.endpoint, "sequence": 0, "replayed": False,
            "rank": 1, "tier": "cpu", "medium": "CPU", "blocks": 2, "cache_group": None,
            "hashes": [str(HASH), str(HASH + 1)], "parent": None, "block_size": 16, "tokens": 32,
            "first_tokens": list(range(8)), "lora_name": "sql"})
        self.assertEqual((second["type"], second["hashes"], second["tier"]),
                         ("removed", ["7"], "gpu"))
        self.assertEqual((third["type"], third["tier"]), ("cleared", "gpu"))
        self.assertRegex(tap.notes[-1],
                         r"^conductor tap: 1 message, 3 events.*2 blocks stored, 1 removed, 1 cleared$")

    def test_gaps_restarts_duplicates_and_what_cannot_be_read_are_told(self):
        publisher, tap = self.followed()
        publisher.publish(stored(1))
        publisher.drop(stored(2))
        publisher.publish(Raw(["BlockStored", 5]), Removed([1]))
        publisher.repeat(2)
        publisher.send_frames(b"one", b"two")
        publisher.publish_payload(b"\xc1")
        tap.wait_for_type("malformed", 2)
        publisher.restart()
        publisher.wait_for_subscriber()
        publisher.publish(stored(9))
        tap.wait_for_type("restart")
        tap.wait_for_type("stored", 2)
        self.assertEqual(tap.stop(), 0)
        told = [event for event in tap.events
                if event["type"] not in ("connected", "disconnected")]
        self.assertEqual([event["type"] for event in told],
                         ["stored", "gap", "removed", "skipped", "duplicate", "malformed", "malformed",
                          "restart", "stored"])
        self.assertEqual(told[1]["count"], 1)
        self.assertIn("event 0: block_hashes", told[3]["detail"])
        self.assertIn("a message of 2 frames (expected topic, sequence, payload)", told[5]["detail"])
        self.assertIn("MessagePack", told[6]["detail"])
        self.assertIn("1 gap (1 message missing); 1 restart; 1 duplicate; 3 malformed", tap.notes[-1])

    def test_another_engine_at_the_same_port_is_a_restart_and_its_events_are_printed(self):
        # Joined amid a life: the numbers of the next one never came. Clocks are another's, too.
        publisher = self.publisher(see_subscribers=True)
        for number in range(5):
            publisher.publish(stored(number), timestamp=1000.0)
        tap = self.tap(publisher.endpoint, "--json")
        publisher.wait_for_subscriber()
        publisher.publish(stored(5), timestamp=1001.0)
        tap.wait_for_type("stored")
        publisher.restart()
        publisher.wait_for_subscriber()
        for number in range(3):
            publisher.publish(stored(100 + number), timestamp=900.0)
        tap.wait_for_type("stored", 4)
        self.assertEqual(tap.stop(), 0)
        told = [(event["type"], event["sequence"])
                for event in tap.events if event["type"] not in ("connected", "disconnected")]
        self.assertEqual(told, [("stored", 5), ("restart", 0), ("stored", 0), ("stored", 1),
                                ("stored", 2)])

    def test_filters_and_count_choose_and_end(self):
        publisher, tap = self.followed("--filter", "type=stored", "--filter", "tier=cpu,disk",
                                       "--count", "2")
        for number in range(4):
            publisher.publish(stored(number, medium="GPU"), stored(100 + number, medium="CPU"),
                              Removed([number], medium="CPU"))
        self.assertEqual(tap.end(), 0)
        self.assertEqual([event["hashes"] for event in tap.events], [["100"], ["101"]])

    def test_a_duration_ends_it_and_one_that_was_never_reached_failed(self):
        endpoint = f"tcp://127.0.0.1:{free_ports()}"
        done = run(endpoint, "--duration", "50ms", code=1)
        self.assertIn("0 messages, 0 events", done.stderr)

    def test_an_endpoint_that_nobody_answers_at_is_told_with_what_to_look_at(self):
        endpoint = f"tcp://127.0.0.1:{free_ports()}"
        tap = self.tap(endpoint)
        tap.wait_for(lambda: tap.notes, "a note")
        self.assertIn(f"{endpoint}: nothing listens there: the connection is refused.", tap.notes[0])
        self.assertIn("enable_kv_cache_events", tap.notes[0])
        self.assertEqual(tap.stop(signal.SIGTERM), 0)

    def test_who_listens_and_speaks_no_zeromq_is_told(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            endpoint = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
            tap = self.tap(endpoint)
            tap.wait_for(lambda: tap.notes, "a note")
            self.assertIn(f"{endpoint}: something listens there that does not speak ZeroMQ",
                          tap.notes[0])
            self.assertEqual(tap.stop(), 0)

    def test_one_that_is_connected_and_silent_is_told_once(self):
        publisher, tap = self.followed("--topic", "zzz")
        tap.wait_for(lambda: tap.notes, "a note")
        publisher.publish(stored(1))
        self.assertEqual(tap.stop(), 0)
        self.assertIn("connected, but nothing came yet: does the engine use a topic that begins with "
                      "'zzz'", tap.notes[0])
        self.assertEqual(len(tap.notes), 2, tap.notes)

    def test_publishers_that_connect_are_told_apart(self):
        endpoint = f"tcp://127.0.0.1:{free_ports()}"
        tap = self.tap("--bind", endpoint, "--json")
        publishers = [self.publisher(connect_to=endpoint, rank=rank, replay=None, see_subscribers=True)
                      for rank in range(2)]
        for publisher in publishers:
            publisher.wait_for_subscriber()
        for publisher in publishers:
            publisher.publish(stored(publisher.rank))
        tap.wait_for_type("stored", 2)
        self.assertEqual(tap.stop(), 0)
        self.assertEqual({event["publisher"] for event in tap.of_type("stored")},
                         {f"{endpoint} from 127.0.0.1 rank {rank}" for rank in range(2)})
        self.assertEqual(tap.of_type("gap", "restart", "duplicate"), [])

    def test_several_publishers_and_a_topic(self):
        publishers = [self.publisher(see_subscribers=True, topic=b"kv@a") for _ in range(2)]
        tap = self.tap(*(publisher.endpoint for publisher in publishers), "--json", "--topic", "kv@")
        for publisher in publishers:
            publisher.wait_for_subscriber()
            publisher.publish(stored(1))
            publisher.send_frames(b"other", bytes(8), b"not subscribed to")
            publisher.publish(stored(2))
        tap.wait_for_type("stored", 4)
        self.assertEqual(tap.stop(), 0)
        self.assertEqual({event["publisher"] for event in tap.of_type("stored")},
                         {publisher.endpoint for publisher in publishers})
        self.assertEqual(tap.of_type("malformed", "gap"), [])

    def test_the_type_says_how_hashes_are_read(self):
        publisher, tap = self.followed("--type", "SGLang", encoding=dialects.SGLANG_MAPS)
        publisher.publish(stored(HASH))
        tap.wait_for_type("stored")
        self.assertEqual(tap.stop(), 0)
        self.assertEqual(tap.of_type("stored")[0]["hashes"], [str(HASH)])


class Replays(TapTest):
    def from_the_start(self, publisher, *arguments):
        return self.tap(publisher.endpoint, "--json", "--replay-endpoint", publisher.replay_endpoint,
                        *arguments)

    def sequences(self, tap):
        return [event["sequence"] for event in tap.of_type("stored")]

    def test_both_forms_of_a_replay_come_first_and_then_live_without_hole_or_double(self):
        for form in ReplayForm:
            with self.subTest(form.name):
                publisher = self.publisher(see_subscribers=True, replay=form)
                for number in range(5):
                    publisher.publish(stored(number))
                tap = self.from_the_start(publisher, "--from", "2")
                publisher.wait_for_subscriber()
                for number in range(5, 9):  # before, during or after the answer
                    publisher.publish(stored(number))
                tap.wait_for_type("replay_end")
                publisher.publish(stored(9))
                tap.wait_for(lambda: 9 in self.sequences(tap), "the last")
                self.assertEqual(tap.stop(), 0)
                self.assertEqual(self.sequences(tap), list(range(2, 10)))
                self.assertTrue(tap.of_type("stored")[0]["replayed"])
                self.assertEqual(tap.of_type("gap", "duplicate"), [])

    def test_what_is_missing_live_is_asked_for_again(self):
        publisher = self.publisher(see_subscribers=True)
        tap = self.from_the_start(publisher, "--from", "0")
        publisher.wait_for_subscriber()
        tap.wait_for_type("replay_end")
        publisher.publish(stored(0))
        publisher.drop(stored(1))
        publisher.fail_to_encode()
        publisher.publish(stored(3))
        publisher.publish(stored(4))
        tap.wait_for(lambda: 4 in self.sequences(tap), "the last")
        self.assertEqual(tap.stop(), 0)
        self.assertEqual(self.sequences(tap), [0, 1, 3, 4])
        self.assertEqual([gap["count"] for gap in tap.of_type("gap")], [1])

    def test_a_replay_endpoint_that_is_silent_is_told_and_live_goes_on(self):
        publisher = FaultyPublisher()
        self.addCleanup(publisher.die)
        publisher.silent = True
        tap = self.from_the_start(publisher, "--from", "0")
        wait_until(publisher.has_subscriber, "a subscriber")
        publisher.publish(stored(0))
        tap.wait_for(lambda: tap.notes, "a note")
        tap.wait_for_type("stored")
        self.assertIn("no answer within 5s", tap.notes[0])
        self.assertEqual(tap.stop(), 0)

    def test_without_an_answer_all_that_is_held_and_comes_is_printed_at_once(self):
        publisher = self.publisher(see_subscribers=True, replay=None)
        for number in range(3):
            publisher.publish(stored(number))
        nobody = f"tcp://127.0.0.1:{free_ports()}"
        tap = self.tap(publisher.endpoint, "--json", "--replay-endpoint", nobody, "--from", "0")
        publisher.wait_for_subscriber()
        publisher.publish(stored(3))
        tap.wait_for_type("stored")
        publisher.drop(stored(4))
        publisher.publish(stored(5))
        tap.wait_for_type("stored", 2)
        self.assertEqual(tap.stop(), 0)
        self.assertEqual(self.sequences(tap), [3, 5])
        self.assertEqual([note for note in tap.notes if "no answer" in note], tap.notes[:1])
        self.assertEqual(len(tap.notes), 2, tap.notes)
        self.assertEqual([gap["count"] for gap in tap.of_type("gap")], [1])

    def test_what_is_held_for_an_answer_is_printed_at_the_end(self):
        publisher = FaultyPublisher()
        self.addCleanup(publisher.die)
        publisher.silent = True
        tap = self.from_the_start(publisher, "--from", "0", "--duration", "3s")
        wait_until(publisher.has_subscriber, "a subscriber")
        publisher.publish(stored(0))
        self.assertEqual(tap.end(), 0)
        self.assertEqual(self.sequences(tap), [0])
        self.assertEqual(len(tap.notes), 1, tap.notes)


class Pipes(TapTest):
    def publishing(self, seconds=20):
        """A publisher that goes on until the test ends."""
        publisher = self.publisher(replay=None)
        stop = threading.Event()

        def work():
            number = 0
            while not stop.wait(0.002):
                publisher.publish(stored(number))
                number += 1
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(stop.set)
        return publisher

    def test_head_ends_it_quietly(self):
        publisher = self.publishing()
        done = subprocess.run(
            ["bash", "-c", 'set -o pipefail; "$0" tap "$1" --json | head -n 1', binary(),
             publisher.endpoint],
            capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        json.loads(done.stdout)

    def test_a_full_disk_behind_it_is_an_error(self):
        file = self.path("kv.rec")
        publisher, tap = self.followed("--record", file)
        publisher.publish(stored(1))
        tap.wait_for_type("stored")
        self.assertEqual(tap.stop(), 0)
        publisher = self.publishing()
        for source in (file, publisher.endpoint):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([binary(), "tap", source, "--json"], stdout=full, text=True,
                                      stderr=subprocess.PIPE, timeout=DEADLINE, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("standard output: cannot be written: No space left on device", done.stderr)

    def test_a_reader_that_leaves_ends_it_without_another_event(self):
        publisher = self.publisher(see_subscribers=True)
        reading, writing = os.pipe()
        idle = self.process(publisher.endpoint, stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        publisher.wait_for_subscriber()
        os.close(reading)
        self.assertEqual(idle.wait(DEADLINE), 0)
        self.assertEqual(idle.stderr.read(), b"")

    def test_a_reader_that_does_not_read_holds_up_neither_memory_nor_the_end(self):
        publisher = self.publishing()
        payload = publisher.encoding.payload([stored(n, blocks=64) for n in range(8)])
        tap = self.process(publisher.endpoint, "--json", stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL)
        tap.stdout.read(1)
        for _ in range(3000):  # 60 MB of lines
            publisher.publish_payload(payload)
        with open(f"/proc/{tap.pid}/statm", encoding="ascii") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.assertLess(resident, 400 << 20 if "asan" in binary() else 150 << 20)
        tap.send_signal(signal.SIGINT)
        self.assertEqual(tap.wait(DEADLINE), 0)

    def test_an_output_that_is_closed_from_the_start_ends_it(self):
        file = self.path("kv.rec")
        publisher, tap = self.followed("--record", file)
        publisher.publish(stored(1))
        tap.wait_for_type("stored")
        self.assertEqual(tap.stop(), 0)
        done = subprocess.run(["bash", "-c", '"$0" tap "$1" >&-', binary(), file],
                              stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, 0)
        self.assertIn("1 message, 1 event", done.stderr)

    def test_there_are_no_colours_in_a_pipe(self):
        publisher = self.publisher(see_subscribers=True)
        tap = self.tap(publisher.endpoint)
        publisher.wait_for_subscriber()
        publisher.publish(stored(1))
        publisher.send_frames(b"junk")
        tap.wait_for(lambda: any("malformed" in line for line in tap.lines), "a line")
        self.assertEqual(tap.stop(), 0)
        self.assertNotIn("\x1b", "".join(tap.lines))


class Recordings(TapTest):
    WITHOUT_END = "--filter=type=stored,removed,cleared,gap,malformed,skipped,connected"

    def test_a_recording_prints_as_it_did_live(self):
        file = self.path("kv.rec")
        publisher, tap = self.followed("--record", file, "--type", "vLLM", "--fact", "block_size=16",
                                       "--fact", "model=llama", self.WITHOUT_END)
        publisher.publish(stored(1), Removed([1]))
        publisher.drop()
        publisher.publish(Cleared())
        publisher.send_frames(*[b"frame %d" % number for number in range(20)])
        publisher.publish_payload(b"junk")
        tap.wait_for_type("malformed", 2)
        self.assertEqual(tap.stop(), 0)
        self.assertIn(f"in {file}", tap.notes[-1])
        for form in ([], ["--raw"], ["--raw", "--json"]):
            self.assertTrue(run(file, *form).stdout)
        self.assertEqual(run(file, "--json", self.WITHOUT_END).stdout.splitlines(), tap.lines)
        raw = [json.loads(line) for line in run(file, "--json", "--raw").stdout.splitlines()]
        frames = [message["frames"] for message in raw if message["type"] == "message"]
        self.assertIn([(b"frame %d" % number).hex() for number in range(20)], frames)
        self.assertEqual(run(file, "--json", "--from", "2", "--filter", "type=cleared").stdout.count("\n"), 1)
        stats = [json.loads(line) for line in run(file, "--json", "--stats").stdout.splitlines()]
        self.assertEqual([(row["events"], row["gaps"]) for row in stats], [(3, 1)])

    def test_what_a_killed_recorder_wrote_is_read_and_gone_on_with(self):
        file = self.path("kv.rec")
        publisher, tap = self.followed("--record", file)
        publisher.publish(stored(1))
        wait_until(lambda: "stored" in run(file).stdout, "the first event in the file")
        tap.kill()
        with open(file, "ab") as torn:
            torn.write(b"\xc7KVB torn")
        self.assertIn("the file ends within the head of a block", run(file, code=1).stderr)
        publisher, tap = self.followed("--record", file)
        publisher.publish(stored(2))
        tap.wait_for_type("stored")
        self.assertEqual(tap.stop(), 0)
        self.assertIn("is a recording already; going on with it", tap.notes[0])
        self.assertIn("cut off a torn end of 9 bytes", tap.notes[1])
        hashes = [json.loads(line)["hashes"]
                  for line in run(file, "--json", "--filter", "type=stored").stdout.splitlines()]
        self.assertEqual(hashes, [["1"], ["2"]])

    def test_a_second_recorder_is_refused_and_told_who_has_the_file(self):
        file = self.path("kv.rec")
        publisher, tap = self.followed("--record", file)
        done = run(publisher.endpoint, "--record", file, code=1)
        self.assertIn(f"process {tap.process.pid} (conductor) is recording to it", done.stderr)
        self.assertEqual(tap.stop(), 0)

    def test_a_rotated_recording_is_printed_as_one(self):
        file = self.path("kv.rec")
        publisher, tap = self.followed("--record", file, "--rotate-size", "1k", "--quiet")
        for number in range(3):
            publisher.publish(stored(number, blocks=40))
            wait_until(lambda: f'"{number}"' in run(file, "--json").stdout, "it is written")
        self.assertEqual(tap.stop(), 0)
        self.assertEqual(tap.lines, [])
        self.assertTrue(os.path.exists(file + ".0001"))
        types = [json.loads(line)["type"] for line in run(file, "--json").stdout.splitlines()]
        self.assertEqual([name for name in types if name != "connected"], ["stored"] * 3 + ["end"])
        # As a shell makes it of kv.rec*: no part is read twice.
        parts = [self.path(name) for name in sorted(os.listdir(self.folder))]
        self.assertGreater(len(parts), 1)
        self.assertEqual(run(*parts, "--json").stdout, run(file, "--json").stdout)

    def test_a_full_disk_ends_it_with_an_error_and_leaves_what_was_written(self):
        file = self.path("kv.rec")
        publisher = self.publisher(see_subscribers=True)
        tap = subprocess.Popen(
            ["bash", "-c", 'ulimit -f 2; exec "$0" tap "$1" --record "$2" --quiet', binary(),
             publisher.endpoint, file], stderr=subprocess.PIPE, text=True)
        self.addCleanup(tap.communicate)
        self.addCleanup(tap.kill)
        publisher.wait_for_subscriber()
        publisher.publish(stored(1))
        wait_until(lambda: '"1"' in run(file, "--json").stdout, "it is written")
        publisher.publish_payload(os.urandom(8192))
        self.assertEqual(tap.wait(DEADLINE), 1)
        self.assertIn("cannot be written: File too large", tap.stderr.read())
        self.assertIn('"1"', run(file, "--json").stdout)

    def test_a_damaged_header_costs_no_message(self):
        file = self.path("kv.rec")
        publisher, tap = self.followed("--record", file)
        publisher.publish(stored(1))
        tap.wait_for_type("stored")
        self.assertEqual(tap.stop(), 0)
        with open(file, "r+b") as damaged:
            damaged.write(b"\0" * 12)
        done = run(file, "--json", "--filter", "type=stored", code=1)
        self.assertEqual(json.loads(done.stdout)["hashes"], ["1"])
        self.assertIn(f"{file}: byte 0: the header is damaged; 47 bytes are passed over", done.stderr)

    def test_other_files_are_no_recordings(self):
        self.assertIn("this is no recording", run(os.path.abspath(__file__), code=1).stderr)

    def test_a_file_that_is_missing_is_a_failure_and_no_matter_of_usage(self):
        self.assertIn("no-such-file: cannot be opened: No such file",
                      run("no-such-file", code=1).stderr)


class Daemons(TapTest):
    def test_a_daemons_events_are_printed_too(self):
        daemon = self.daemon()
        publisher = self.publisher()
        tap = self.tap("--conductor", daemon.url, "--json")
        daemon.register(publisher, "a")
        def publish_until_seen():
            publisher.publish(stored(HASH))
            return tap.of_type("stored")
        first = tap.wait_for(publish_until_seen, "a stored event")[0]
        self.assertEqual(first["publisher"], "a|default|0")
        self.assertEqual(first["hashes"], [str(HASH)])
        self.assertEqual(tap.stop(), 0)

    def test_one_that_is_away_is_told(self):
        tap = self.tap("--conductor", f"http://127.0.0.1:{free_ports()}")
        tap.wait_for(lambda: tap.notes, "a note")
        self.assertIn("cannot be reached (nothing listens there)", tap.notes[0])
        self.assertEqual(tap.stop(), 0)

    def test_how_it_is_away_is_told_once_and_again_when_that_changes(self):
        daemon = self.daemon()
        publisher = self.publisher(see_subscribers=True)
        daemon.wait_for(daemon.register(publisher, "a"))
        tap = self.tap("--conductor", daemon.url, "--json")

        def publish_until_seen():
            publisher.publish(stored(HASH))
            return tap.of_type("stored")
        tap.wait_for(publish_until_seen, "a stored event")
        daemon.kill()
        tap.wait_for(lambda: tap.notes and "cannot be reached" in tap.notes[-1], "it to be missed")
        self.assertEqual(len(tap.notes), len(set(tap.notes)))
        self.assertLessEqual(len(tap.notes), 3)  # how the stream ended may be told in two ways
        self.assertEqual(tap.stop(), 0)

    def test_one_that_refuses_ends_it(self):
        tokens = self.path("tokens")
        with open(tokens, "w", encoding="ascii") as file:
            file.write("read 0123456789abcdef0123456789abcdef\n")
        os.chmod(tokens, 0o600)
        daemon = self.daemon("--auth-token-file", tokens)
        self.assertIn("a token: --token-file", run("--conductor", daemon.url, code=1).stderr)


    def test_a_type_that_is_not_known_is_told_once_and_moves_no_cursor(self):
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        tap = self.tap("--conductor", f"http://127.0.0.1:{server.getsockname()[1]}", "--json")
        connection, _ = server.accept()
        self.addCleanup(connection.close)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for _ in range(3):
            connection.sendall(b'data: {"type":"\\u001b[2J"}\n\n')
        connection.sendall(b'data: {"type":"cleared"}\n\n')
        tap.wait_for_type("cleared")
        self.assertEqual(tap.stop(), 0)
        told = [note for note in tap.notes if "is no type" in note]
        self.assertEqual(len(told), 1, tap.notes)
        self.assertIn("'\\x1b[2J' is no type", told[0])

    def test_a_token_file_holds_one_word(self):
        tokens = self.path("tokens")
        for text, message in (("", "is empty"), ("two words", "holds more than one word")):
            with open(tokens, "w", encoding="ascii") as file:
                file.write(text)
            done = run("--conductor", "http://127.0.0.1:1", "--token-file", tokens, code=1)
            self.assertIn(f"{tokens}: {message}", done.stderr)


class Terminals(TapTest):
    def test_columns_are_titled_coloured_and_cut(self):
        publisher = self.publisher(see_subscribers=True)

        def act():
            publisher.wait_for_subscriber()
            publisher.publish(stored(HASH, lora_name="\x1b[2Jsql"))
            publisher.drop()
            publisher.publish(Removed([1]))
            return True

        code, text = in_terminal(publisher.endpoint, act=act, columns=100,
                                 until=lambda shown: "removed" in shown)
        self.assertEqual(code, 0)
        lines = text.splitlines()
        self.assertTrue(lines[0].startswith("\x1b[1mTIME "), lines[0])
        gap, = [line for line in lines[:-1] if " gap " in line]
        self.assertTrue(gap.startswith("\x1b[31m"), gap)
        for line in lines[:4]:
            self.assertLessEqual(len(re.sub(r"\x1b\[\d*m", "", line)), 100)
        self.assertNotIn("\x1b[2J", text)
        self.assertIn("conductor tap: 2 messages, 2 events", lines[-1])

    def test_no_color_is_respected(self):
        publisher = self.publisher(see_subscribers=True)

        def act():
            publisher.wait_for_subscriber()
            publisher.publish(stored(1))
            return True

        code, text = in_terminal(publisher.endpoint, act=act, environment={"NO_COLOR": "1"},
                                 until=lambda shown: "stored" in shown)
        self.assertEqual(code, 0)
        self.assertNotIn("\x1b", text)

    def test_statistics_are_drawn_in_their_place(self):
        publisher = self.publisher(see_subscribers=True)

        def act():
            publisher.wait_for_subscriber()
            publisher.publish(stored(1, blocks=3))
            return True

        code, text = in_terminal(publisher.endpoint, "--stats", "--interval", "50ms", act=act,
                                 until=lambda shown: "\x1b[2A\x1b[J" in shown and
                                 re.search(r"\d +1 +0 ", shown))
        self.assertEqual(code, 0)
        self.assertIn("+gpu/S", text)
        self.assertIn("1 message, 1 event", text)


class CommandLines(TapTest):
    def test_what_makes_no_sense_is_a_usage_error_that_says_so(self):
        cases = [
            ([], "nothing to listen to"),
            (["127.0.0.1:5557"], "no such file, and an endpoint has a scheme (expected tcp://127"),
            (["tcp://host"], "tcp://HOST:PORT"),
            (["inproc://x"], "inproc"),
            (["tcp://a:1", "--raw", "--stats"], "two views"),
            (["tcp://a:1", "--from", "0"], "--replay-endpoint"),
            (["tcp://a:1", "tcp://b:1", "--from", "0", "--replay-endpoint", "tcp://a:2"],
             "one ENDPOINT"),
            (["tcp://a:1", "--filter", "colour=red"], "no key of a filter"),
            (["tcp://a:1", "--type", "GPT"], "vLLM, vLLM-Ascend"),
            (["tcp://a:1", "--count", "0"], "1 to"),
            (["tcp://a:1", "--stats", "--interval", "0s"], "10ms or more"),
            (["tcp://a:1", "--duration", "9000h"], "'9000h' is not a time"),
            (["tcp://a:1", "--fact", "model=m"], "--record FILE"),
            (["tcp://a:1", "--record", "f", "--fact", "model"], "NAME=VALUE"),
            (["tcp://a:1", "--record", "f", "--fact", "block_size=abc"], "--fact block_size"),
            (["tcp://a:1", "--record", "f", "--fact", "foo=bar"], "no field of a registration"),
            (["tcp://a:1", "--conductor", "http://h"], "two sources"),
            (["--conductor", "tcp://h:1"], "http://HOST:PORT"),
            (["--conductor", "http://h", "--raw"], "events and not messages"),
            (["--bind", "tcp://name:1"], "a name cannot be listened at"),
        ]
        for arguments, message in cases:
            with self.subTest(" ".join(arguments)):
                self.assertIn(message, run(*arguments, code=2).stderr)

    def test_an_address_that_is_taken_cannot_be_listened_at(self):
        publisher = self.publisher()
        self.assertIn("cannot listen: Address already in use",
                      run("--bind", publisher.endpoint, code=1).stderr)

    def test_every_type_of_a_line_is_in_its_page(self):
        known = run("tcp://a:1", "--filter", "type=none", code=2).stderr
        types = re.search(r"expected ([\w, ]+)", known).group(1).split(", ")
        self.assertGreater(len(types), 10)
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        with open(os.path.join(root, "docs", "tap.md"), encoding="utf-8") as page:
            text = page.read()
        for name in types:
            self.assertIn(f"`{name}`", text)

    def test_its_help_fits_a_screen(self):
        lines = run("--help").stdout.splitlines()
        self.assertLessEqual(len(lines), 40)
        self.assertLessEqual(max(map(len, lines)), 80)


if __name__ == "__main__":
    unittest.main()
