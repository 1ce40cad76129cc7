"""The benchmark of the proxy, with a load that takes no time: every byte that is streamed through
`conductor proxy` is compared with what the engine sent."""

import json
import os
import subprocess
import unittest

import daemon as process

PROXY_BENCH = os.environ.get("CONDUCTOR_PROXY_BENCH", "")
SMALL = ["--streams", "50", "--tokens", "20", "--interval-ms", "5", "--seconds", "0.3",
         "--rounds", "1", "--memory-streams", "50"]
NO_HAPROXY = ["--haproxy", "/no/such/program"]


@unittest.skipUnless(PROXY_BENCH, "CONDUCTOR_PROXY_BENCH names no program")
class ProxyBench(unittest.TestCase):
    def run_it(self, *arguments):
        done = subprocess.run([PROXY_BENCH, *SMALL, *NO_HAPROXY, *arguments], capture_output=True,
                              text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_streams_come_through_the_proxy_as_they_were_sent(self):
        told = json.loads(self.run_it("--conductor", process.binary(), "--json"))
        rows = {(row["load"], row["through"]): row for row in told["relayed"]}
        self.assertEqual(set(rows), {(load, through) for load in ("streams", "requests")
                                     for through in ("direct", "conductor")})
        for row in rows.values():
            self.assertEqual(row["streams_failed"], 0, row)
            self.assertGreater(row["streams_ended"], 0, row)
            self.assertEqual("cpu_us_per_token" in row, row["through"] != "direct")
        self.assertGreater(rows["streams", "conductor"]["cpu_us_per_token"], 0)
        memory, = told["memory"]
        self.assertEqual((memory["through"], memory["streams"], memory["streams_failed"]),
                         ("conductor", 50, 0))
        self.assertIn("apt-get install haproxy", told["skipped"]["haproxy"])

    def test_what_is_not_there_is_skipped_with_a_reason(self):
        told = self.run_it("--only", "streams")
        self.assertIn("haproxy: skipped: there is no /no/such/program", told)
        self.assertIn("conductor: skipped: --conductor names no program", told)


if __name__ == "__main__":
    unittest.main()
