"""The load generator, in both of its modes, with a load that takes no time."""

import json
import os
import subprocess
import tempfile
import unittest

from suite import EndToEndTest

FLEET_BENCH = os.environ.get("CONDUCTOR_FLEET_BENCH", "")


@unittest.skipUnless(FLEET_BENCH, "CONDUCTOR_FLEET_BENCH names no program")
class FleetBench(EndToEndTest):
    def run_it(self, *arguments, status=0):
        done = subprocess.run([FLEET_BENCH, *arguments], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def check(self, told, requests):
        self.assertEqual(told["requests"], requests)
        lookups = sum(row["lookups"] for row in told["latency_by_matched_holders"])
        self.assertEqual(lookups, requests)
        self.assertGreater(told["event_blocks"], 0)
        self.assertGreater(told["walked_blocks"], 0)
        self.assertGreaterEqual(told["prompt_blocks"], told["walked_blocks"])
        self.assertGreater(told["planned_matched_share"], 0.2)
        self.assertGreater(told["resident_bytes"], 0)
        self.assertGreater(told["block_ops_per_second_achieved"], 0)
        # Open loop: nothing is done before it is offered.
        self.assertGreaterEqual(told["seconds_taken"], told["seconds_offered"])

    def test_against_an_index_of_its_own(self):
        for placement in ("random", "cache-aware"):
            done = self.run_it("--requests", "60", "--engines", "3", "--speedup", "2",
                               "--placement", placement, "--json")
            told = json.loads(done.stdout)
            self.check(told, 60)
            self.assertEqual((told["speedup"], told["rate"]), (2, None))
        self.assertIn("block operations a second", self.run_it("--requests", "20").stdout)

    def test_several_clients_ask_at_an_even_rate(self):
        done = self.run_it("--requests", "60", "--engines", "3", "--rate", "100000", "--clients", "3",
                           "--own-names", "--prefill-tokens-per-second", "1000000", "--json")
        told = json.loads(done.stdout)
        self.check(told, 60)
        self.assertEqual((told["speedup"], told["rate"]), (None, 100000))
        self.assertEqual((told["clients"], told["own_names"]), (3, True))

    def test_announcements_wait_for_the_prompt_to_be_computed(self):
        # One system prompt and a turn take an engine a quarter of a second here.
        done = self.run_it("--requests", "1", "--speedup", "1000",
                           "--prefill-tokens-per-second", "5000", "--json")
        self.assertGreater(json.loads(done.stdout)["seconds_offered"], 0.2)

    def test_against_a_running_daemon(self):
        daemon = self.daemon()
        url = f"http://127.0.0.1:{daemon.port}"
        for more in (["--speedup", "0.1"], ["--clients", "4", "--own-names", "--rate", "50000"]):
            done = self.run_it("--requests", "60", "--engines", "3", "--daemon", url, "--json", *more)
            told = json.loads(done.stdout)
            self.check(told, 60)
            self.assertEqual(told["target"], url)
            self.assertGreater(told["matched_share"], 0)
            # It leaves nothing behind.
            self.assertEqual(daemon.get("/v1/publishers").json["count"], 0)

    def test_what_flags_take_is_told(self):
        for flags in (["--rate", "1", "--speedup", "2"], ["--rate", "0"], ["--clients", "0"],
                      ["--prefill-tokens-per-second", "-1"]):
            done = subprocess.run([FLEET_BENCH, *flags], capture_output=True, text=True, timeout=120)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(flags[0], done.stderr)

    def test_a_trace_that_cannot_be_read_is_told_with_its_line(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.write('{"timestamp": 0, "input_length": 512, "hash_ids": [1]}\n')
            file.write('{"timestamp": 1, "input_length": 512, "hash_ids": 7}\n')
            file.flush()
            done = self.run_it("--trace", file.name, status=1)
            self.assertIn(f"{file.name}:2: hash_ids is no array", done.stderr)


if __name__ == "__main__":
    unittest.main()
