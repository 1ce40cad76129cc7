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
        self.assertGreater(told["resident_bytes"], 0)
        self.assertGreater(told["block_ops_per_second_achieved"], 0)

    def test_against_an_index_of_its_own(self):
        for placement in ("random", "cache-aware"):
            done = self.run_it("--requests", "60", "--engines", "3", "--speedup", "2",
                               "--placement", placement, "--json")
            self.check(json.loads(done.stdout), 60)
        self.assertIn("block operations a second", self.run_it("--requests", "20").stdout)

    def test_against_a_running_daemon(self):
        daemon = self.daemon()
        url = f"http://127.0.0.1:{daemon.port}"
        done = self.run_it("--requests", "60", "--engines", "3", "--daemon", url, "--json")
        told = json.loads(done.stdout)
        self.check(told, 60)
        self.assertGreater(told["matched_share"], 0.2)
        # It leaves nothing behind.
        self.assertEqual(daemon.get("/v1/publishers").json["count"], 0)

    def test_a_trace_that_cannot_be_read_is_told_with_its_line(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.write('{"timestamp": 0, "input_length": 512, "hash_ids": [1]}\n')
            file.write('{"timestamp": 1, "input_length": 512, "hash_ids": 7}\n')
            file.flush()
            done = self.run_it("--trace", file.name, status=1)
            self.assertIn(f"{file.name}:2: hash_ids is no array", done.stderr)


if __name__ == "__main__":
    unittest.main()
