"""Streams as they really are: late, broken off, repeated, restarted, with parts that nobody can
read. Every time the answers equal the model, or the state says what may be wrong."""

import socket
import unittest

import msgpack

from daemon import key, wait_until
from engine import Engine
from events import Cleared, Raw, Stored
from model import Model
from publisher import ReplayForm
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt

# So that silence is judged within a test's patience. A publisher of a test may take its time to answer
# on a busy machine: that is no silence.
IMPATIENT = ("--probe-interval", "300ms", "--replay-timeout", "3s")
IDLE_PROBES = 25


class StreamTest(EndToEndTest):
    def begin(self, *flags, register=True, **publisher):
        self.conductor = self.daemon(*flags)
        self.model = Model(BLOCK_SIZE)
        self.source = self.publisher(**publisher)
        self.engine = Engine(self.model, self.source, "a")
        if register:
            self.register()

    def register(self):
        self.conductor.register(self.source, "a")

    def drop(self, *batch, rank=None):
        """In the place of the publisher's publish()."""
        self.source.drop(*batch)

    def settle(self, **more):
        """Until everything published is applied (and by default the state is live)."""
        return self.conductor.wait_applied(key("a"), self.source, **more)

    def assert_true(self, *seeds, blocks=24):
        """What is answered equals the model, for prompts that were run and some that were not."""
        for seed in (*seeds, "never run"):
            self.assert_answers(self.conductor, self.model, prompt(seed, blocks))

    def assert_never_too_high(self, *seeds, blocks=24):
        for seed in seeds:
            entry = self.conductor.query(MODEL, prompt(seed, blocks))["a"]
            want = self.model.instance_figures("a", prompt(seed, blocks))
            self.assertLessEqual(entry["longest_matched"], want.longest)


class LatePublishers(StreamTest):
    def test_history_comes_by_replay_in_both_forms(self):
        for form in ReplayForm:
            with self.subTest(form=form):
                self.begin(register=False, replay=form)
                for seed in range(5):
                    self.engine.run(prompt(seed, 4 + seed))
                self.register()
                self.settle()
                self.assert_true(*range(5))
                self.conductor.stop()

    def test_publisher_that_is_not_up_yet_is_waited_for(self):
        for form in ReplayForm:
            with self.subTest(form=form):
                self.begin(started=False, replay=form)
                self.conductor.wait_for(key("a"), state="connecting")
                self.assertIn("a", self.conductor.query(MODEL, prompt(1, 4)))
                self.source.start()
                # Before the subscription can have come: the live socket loses these.
                self.engine.run(prompt(1, 6))
                self.engine.run(prompt(1, 9))
                self.settle()
                self.assert_true(1)
                self.conductor.stop()

    def test_publisher_without_events_is_live_and_empty(self):
        self.begin()
        self.conductor.wait_for(key("a"))
        self.assert_true()

    def test_long_history(self):
        self.begin(register=False)
        for seed in range(1500):
            self.engine.run(prompt(seed % 300, 1 + seed % 17))
        self.register()
        self.settle()
        self.assert_true(*range(0, 300, 23))

    def test_ring_that_starts_late_is_incomplete_until_the_cache_is_cleared(self):
        self.begin(register=False, ring=3)
        for seed in range(8):
            self.engine.run(prompt(seed, 5))
        self.register()
        entry = self.settle(state="degraded", reason="incomplete")
        self.assertTrue(entry["detail"])
        self.assert_never_too_high(*range(8))
        self.assertEqual(self.conductor.query(MODEL, prompt(7, 5))["a"]["state"], "degraded")
        # What is left says the truth again once nothing that was missed can still be there.
        self.engine.reset()
        self.settle()
        self.engine.run(prompt(1, 5))
        self.settle()
        self.assert_true(*range(8))


class LostFrames(StreamTest):
    def test_gap_is_healed_by_replay(self):
        for form in ReplayForm:
            with self.subTest(form=form):
                self.begin(replay=form)
                self.engine.run(prompt(1, 4))
                self.settle()
                self.source.publish, publish = self.drop, self.source.publish
                self.engine.run(prompt(1, 8))
                self.engine.run(prompt(2, 3))
                self.source.publish = publish
                self.engine.run(prompt(3, 3))
                self.settle()
                self.assert_true(1, 2, 3)
                self.conductor.stop()

    def test_lost_tail_is_found_by_asking(self):
        self.begin(*IMPATIENT)
        self.engine.run(prompt(1, 4))
        self.settle()
        self.source.publish = self.drop
        self.engine.run(prompt(1, 8))
        self.settle()
        self.assert_true(1)

    def test_hole_that_nothing_fills_is_told(self):
        self.begin(*IMPATIENT)
        self.engine.run(prompt(1, 4))
        self.settle()
        self.source.fail_to_encode()
        self.engine.run(prompt(2, 4))
        self.settle(state="degraded")
        self.assert_true(1, 2)
        # The stream goes on behind the hole.
        self.engine.run(prompt(3, 4))
        self.settle(state="degraded")
        self.assert_true(1, 2, 3)


class Repetitions(StreamTest):
    def test_batch_that_comes_again_is_applied_once(self):
        self.begin(see_subscribers=True)
        self.source.wait_for_subscriber()
        first = self.source.last_sequence + 1
        self.engine.run(prompt(1, 4))
        self.engine.reset()
        self.engine.run(prompt(2, 4))
        self.settle()
        # Applied again, each of them would be seen.
        self.source.repeat(first)
        self.source.repeat(first + 1)
        self.source.repeat(first + 2)
        self.engine.run(prompt(3, 4))
        self.settle()
        self.assert_true(1, 2, 3)
        entry = self.conductor.publisher(key("a"))
        self.assertGreaterEqual(entry["counters"]["duplicates"], 3)
        self.assertEqual(entry["counters"]["lives"], 1)

    def test_second_copy_outlives_the_removal_of_the_first(self):
        self.begin()
        chain = self.model.chain(prompt(1, 3))
        for _ in range(2):
            self.source.publish(self.engine.stored(chain, None, "gpu"))
        self.source.publish(self.engine.removed(chain[1], "gpu"))
        self.settle()
        self.assert_true(1)
        self.source.publish(self.engine.removed(chain[1], "gpu"))
        self.settle()
        self.assert_true(1)
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 3)), {"a": BLOCK_SIZE})


class Lives(StreamTest):
    def restart(self):
        self.engine.forget()
        self.source.restart()

    def test_dead_publisher_is_stale_and_a_new_life_owns_nothing_of_the_old(self):
        self.begin(*IMPATIENT)
        self.engine.run(prompt("old", 8))
        self.settle()
        self.source.die()
        self.conductor.wait_for(key("a"), state="stale")
        # What it held is still told, as what it is.
        entry = self.conductor.query(MODEL, prompt("old", 8))["a"]
        self.assertEqual((entry["longest_matched"], entry["state"]), (8 * BLOCK_SIZE, "stale"))
        self.assertTrue(entry["reason"])

        self.restart()
        self.engine.run(prompt("new", 5))
        self.settle()
        self.assert_true("old", "new")

    def test_new_life_that_is_longer_than_the_old(self):
        self.begin(*IMPATIENT)
        self.engine.run(prompt("old", 8))
        self.settle()
        self.restart()
        for length in range(1, 9):
            self.engine.run(prompt("new", length))
        self.settle()
        self.assert_true("old", "new")

    def test_new_life_that_says_nothing(self):
        self.begin(*IMPATIENT)
        self.engine.run(prompt("old", 8))
        self.settle()
        self.restart()
        wait_until(lambda: not self.conductor.longest(MODEL, prompt("old", 8)),
                   "the old life's blocks are still there")
        self.conductor.wait_for(key("a"))

    def test_several_lives(self):
        self.begin(*IMPATIENT)
        for life in range(4):
            for length in range(2, 10 - 2 * life):
                self.engine.run(prompt(life, length))
            self.settle()
            self.assert_true(*range(4))
            self.restart()

    def test_broken_connection_is_no_new_life(self):
        self.begin(*IMPATIENT)
        self.engine.run(prompt(1, 8))
        self.settle()
        self.source.lose_connections()
        self.engine.run(prompt(1, 12))
        self.settle()
        self.assert_true(1)
        self.assertEqual(self.conductor.publisher(key("a"))["counters"]["lives"], 1)

    def test_idle_publisher_stays_live_through_its_probes(self):
        self.begin(*IMPATIENT)
        self.engine.run(prompt(1, 8))
        self.settle()
        served = self.source.replays_served

        def probed():
            self.assertEqual(self.conductor.publisher(key("a"))["state"], "live")
            return self.source.replays_served >= served + 4

        wait_until(probed, "nobody asked")
        self.assert_true(1)

    def test_idle_publisher_never_leaves_live(self):
        """Seen by every change of state being a line of the log."""
        # A heartbeat that is not answered for twice the time ends the connection.
        self.begin("--probe-interval", "250ms", "--heartbeat-interval", "2s")
        self.engine.run(prompt(1, 8))
        self.settle()
        changes, served = self.conductor.log().count(" -> "), self.source.replays_served
        wait_until(lambda: self.source.replays_served >= served + IDLE_PROBES, "nobody asked")
        self.assertEqual(self.conductor.log().count(" -> "), changes)
        self.settle()
        self.assert_true(1)


class OverIPv6(StreamTest):
    def setUp(self):
        if not has_ipv6():
            self.skipTest("this machine has no IPv6 loopback address")

    def test_publisher_with_an_ipv6_address(self):
        for form in ReplayForm:
            with self.subTest(form=form):
                self.begin(register=False, host="::1", replay=form)
                self.engine.run(prompt(1, 8))
                self.register()
                self.settle()
                self.engine.run(prompt(2, 4))
                self.settle()
                self.source.publish, publish = self.drop, self.source.publish
                self.engine.run(prompt(1, 12))
                self.source.publish = publish
                self.engine.run(prompt(3, 4))
                self.settle()
                self.assert_true(1, 2, 3)
                self.assertEqual(self.conductor.publisher(key("a"))["endpoint"],
                                 self.source.endpoint)
                self.conductor.stop()

    def test_daemon_that_listens_on_an_ipv6_address(self):
        self.begin("--host", "::1", host="::1")
        self.engine.run(prompt(1, 8))
        self.settle()
        self.assert_true(1)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


class WithoutReplay(StreamTest):
    def begin(self, *flags, **publisher):
        super().begin(*flags, replay=None, see_subscribers=True, **publisher)

    def test_stream_heard_from_its_first_batch_is_exact(self):
        self.begin()
        self.source.wait_for_subscriber()
        self.engine.run(prompt(1, 8))
        self.engine.run(prompt(2, 4))
        self.settle()
        self.assert_true(1, 2)

    def test_stream_met_late_is_incomplete_until_the_cache_is_cleared(self):
        self.begin(register=False)
        self.engine.run(prompt(1, 8))
        self.register()
        self.source.wait_for_subscriber()
        self.engine.run(prompt(1, 12))
        self.engine.run(prompt(2, 4))
        self.settle(state="degraded", reason="incomplete")
        self.assert_true(2)
        self.assert_never_too_high(1)
        self.engine.reset()
        self.engine.run(prompt(1, 6))
        self.settle()
        self.assert_true(1, 2)

    def test_gap_may_have_lost_removals(self):
        self.begin()
        self.source.wait_for_subscriber()
        self.engine.run(prompt(1, 8))
        self.source.drop(Cleared())
        self.engine.run(prompt(2, 4))
        self.settle(state="degraded", reason="doubtful")
        self.assertEqual(self.conductor.query(MODEL, prompt(1, 8))["a"]["reason"], "doubtful")

    def test_after_a_new_connection_it_cannot_be_proven_the_same(self):
        self.begin()
        self.source.wait_for_subscriber()
        self.engine.run(prompt(1, 8))
        self.settle()
        self.source.lose_connections()
        self.source.wait_for_subscriber()
        self.engine.run(prompt(2, 4))
        self.settle(state="degraded", reason="doubtful")

    def test_new_life_is_seen_by_its_lower_sequence(self):
        self.begin()
        self.source.wait_for_subscriber()
        for length in range(1, 6):
            self.engine.run(prompt("old", length))
        self.settle()
        self.engine.forget()
        self.source.restart()
        self.source.wait_for_subscriber()
        self.engine.run(prompt("new", 3))
        wait_until(lambda: self.conductor.publisher(key("a"))["cursor"] == 0, "no new life")
        self.assert_true("old", "new")


class WhatNobodyCanRead(StreamTest):
    def test_messages_of_the_wrong_shape_are_counted_and_change_nothing(self):
        self.begin(see_subscribers=True)
        self.source.wait_for_subscriber()
        self.engine.run(prompt(1, 4))
        self.settle()
        payload = self.source.encoding.payload([Cleared()])
        sequence = (self.source.last_sequence + 1).to_bytes(8, "big")
        shapes = [[b""], [b"", sequence], [b"", sequence, payload, b""],
                  [b"", sequence[1:], payload], [b"", sequence + b"\0", payload], [b"", b"", b""]]
        for frames in shapes:
            self.source.send_frames(*frames)
        self.engine.run(prompt(1, 8))
        self.settle()
        self.assert_true(1)
        wait_until(lambda: self.conductor.publisher(key("a"))["counters"]["malformed_frames"]
                   == len(shapes),
                   lambda: self.conductor.publisher(key("a")))

    def test_payload_that_is_no_batch_is_counted_and_the_stream_goes_on(self):
        self.begin()
        payloads = [b"", b"\xc1", b"no msgpack", msgpack.packb({}), msgpack.packb([]),
                    msgpack.packb([1.0]), msgpack.packb("text"), b"\x93\xcb\x00",
                    msgpack.packb([1.0, [["AllBlocksCleared"]], 0])[:-3],
                    # Headers that claim four billion items.
                    b"\xdd\xff\xff\xff\xff", b"\x93\xcb" + bytes(8) + b"\xdd\xff\xff\xff\xff",
                    b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
                    # A hundred thousand arrays within one another.
                    b"\x91" * 100000]
        for index, payload in enumerate(payloads):
            self.engine.run(prompt(index, 3))
            self.source.publish_payload(payload)
        self.engine.run(prompt("last", 3))
        self.settle(state=None)
        self.assert_true(*range(len(payloads)), "last")
        publisher = self.conductor.publisher(key("a"))
        self.assertTrue(publisher["last_decode_error"])
        # Removals may have been among what was lost.
        self.assertEqual((publisher["state"], publisher["reason"]), ("degraded", "doubtful"))

    def test_unknown_and_malformed_events_do_not_take_their_batch_with_them(self):
        self.begin()
        bad = [
            Raw({"type": "BlockInactive", "block_hashes": [1]}), Raw(["TierBlocksCleared", "GPU"]),
            Raw({"type": "BlockStored"}), Raw(["BlockStored"]), Raw([]), Raw({}), Raw(7), Raw(None),
            Raw({"type": 5}), Raw({"no": "type"}), Raw([["BlockStored"]]),
            Raw(["BlockStored", "hashes", None, [1], 16]),
            Raw(["BlockStored", [1], None, "tokens", 16]),
            Raw(["BlockRemoved", {"a": 1}]), Raw(["BlockRemoved", [1.5]]),
            Raw(["BlockStored", [1], None, [1] * 16, -16]),
            Raw(["BlockStored", [1, 2, 3], None, [1] * 16, 16, None, "GPU"]),
        ]
        for index, event in enumerate(bad):
            chain = self.model.chain(prompt(index, 4))
            self.source.publish(
                event, self.engine.stored(chain[:2], None, "gpu"), event,
                self.engine.stored(chain[2:], chain[1], "gpu"), event)
        self.settle(state=None)
        self.assert_true(*range(len(bad)))
        publisher = self.conductor.publisher(key("a"))
        self.assertEqual((publisher["state"], publisher["reason"]), ("degraded", "doubtful"))
        skips = publisher["decode"]
        self.assertGreaterEqual(skips["unknown_event_type"], 6)
        self.assertGreaterEqual(skips["malformed_event"], 6)

    def test_unknown_fields_do_not_cost_the_event(self):
        self.begin()
        first, second = self.model.chain(prompt(1, 2))
        as_map = self.source.encoding.event(self.engine.stored([first], None, "gpu"))
        as_map.update({"session_id": "s", "locality": "LOCAL", "ownership": None,
                       "tomorrow": {"a": [1, 2, {"b": None}]}})
        event = self.engine.stored([second], first, "gpu")
        as_array = ["BlockStored", event.hashes, event.parent, event.tokens, event.block_size, None,
                    "GPU", None, None, None, None, None, "a slot of tomorrow", [1, 2]]
        self.source.publish(Raw(as_map), Raw(as_array))
        self.settle()
        self.assert_true(1)

    def test_removal_of_what_was_never_stored_changes_nothing(self):
        self.begin()
        self.engine.run(prompt(1, 4))
        held = self.engine.name(self.model.chain(prompt(1, 4))[3])
        self.source.publish(Raw(["BlockRemoved", [1, 2, held, 3], "GPU"]))
        self.model.drop("a", 0, "gpu", self.model.chain(prompt(1, 4))[3])
        self.settle()
        self.assert_true(1)

    def test_block_sizes_that_do_not_fit_are_refused_with_the_size_seen(self):
        self.begin()
        self.source.publish(Stored([1], None, prompt(1, 1)[:12], 12))
        self.engine.run(prompt(2, 4))
        self.settle(state=None)
        self.assert_true(2)
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 1)), {})

    def test_larger_blocks_count_as_a_whole(self):
        self.begin()
        # One name for two blocks of the namespace.
        first, second, third = self.model.chain(prompt(1, 3))
        self.source.publish(Stored([1], None, [*first.tokens, *second.tokens], 2 * BLOCK_SIZE))
        self.settle()
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 3)), {"a": 2 * BLOCK_SIZE})
        # Half of it matches: the engine could load nothing.
        half = prompt(1, 1) + prompt("other", 2)
        self.assertEqual(self.conductor.longest(MODEL, half), {})
        self.source.publish(Stored([2], 1, list(third.tokens), BLOCK_SIZE))
        self.settle()
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 3)), {"a": 3 * BLOCK_SIZE})


class Orphans(StreamTest):
    def test_blocks_wait_for_their_parent(self):
        self.begin()
        chain = self.model.chain(prompt(1, 6))
        # The tail first, then the middle, then the head.
        self.source.publish(self.engine.stored(chain[4:], chain[3], "gpu"))
        self.source.publish(self.engine.stored(chain[2:4], chain[1], "gpu"))
        self.settle(state=None)
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 6)), {})
        self.source.publish(self.engine.stored(chain[:2], None, "gpu"))
        self.settle(state=None)
        self.assert_true(1)

    def test_what_is_removed_while_it_waits_is_not_held_when_it_joins(self):
        self.begin()
        chain = self.model.chain(prompt(1, 4))
        self.source.publish(self.engine.stored(chain[2:], chain[1], "gpu"))
        self.source.publish(self.engine.removed(chain[3], "gpu"))
        self.source.publish(self.engine.stored(chain[:2], None, "gpu"))
        self.settle(state=None)
        self.assert_true(1)
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 4)), {"a": 3 * BLOCK_SIZE})

    def test_what_is_cleared_while_it_waits_is_not_held_when_it_joins(self):
        self.begin()
        chain = self.model.chain(prompt(1, 4))
        self.source.publish(self.engine.stored(chain[2:], chain[1], "gpu"))
        self.engine.reset()
        self.source.publish(self.engine.stored(chain[:2], None, "gpu"))
        self.settle(state=None)
        self.assert_true(1)


if __name__ == "__main__":
    unittest.main()
