"""`conductor proxy --demo`: the fleet that is chosen by score has a better hit rate than the one that
is gone round, and the curl line that it prints says who held the prompt."""

import re
import shlex
import signal
import subprocess
import unittest

import daemon as process
from proxy import Proxy, route
from suite import EndToEndTest

LINE = re.compile(r"^ +(\d+) requests   hit rate: score +([\d.]+)%, round-robin +([\d.]+)%   "
                  r"mean answer: (\d+) ms, (\d+) ms$")


class Demo(EndToEndTest):
    def demo(self, *arguments):
        started = Proxy("--demo", *arguments)
        self.addCleanup(started.kill)
        self.addCleanup(self._show_log, started)
        return started

    def test_score_has_a_better_hit_rate_than_round_robin(self):
        proxy = self.demo()

        def told():
            return [LINE.match(line) for line in proxy.stdout if " requests " in line][-1:]

        def is_warm():
            lines = told()
            return lines and lines[0] and int(lines[0].group(1)) >= 60

        process.wait_until(is_warm, lambda: proxy.stdout)
        line = told()[0]
        score, turns = float(line.group(2)), float(line.group(3))
        self.assertGreater(score, turns + 5, line.group(0))
        self.assertGreater(turns, 0)
        proxy.stop(signal.SIGINT)

    def test_its_curl_line_goes_to_the_holder_the_second_time(self):
        proxy = self.demo("--demo-seed", "7")
        process.wait_until(lambda: any("curl" in line for line in proxy.stdout),
                           lambda: proxy.stdout)
        line = next(line for line in proxy.stdout if "curl" in line)
        # As a shell has it, with the $(seq) in it.
        words = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], check=True,
                               capture_output=True, text=True).stdout.split("\0")[:-1]
        self.assertEqual(words[:3], shlex.split(line)[:3])
        path, body = process.data_of_curl(words)
        first = proxy.ask(body, path)
        self.assertEqual(first.status, 200, first.body)
        self.assertIn("engine that holds", first.json["choices"][0]["text"])

        def is_held():
            answer = proxy.ask(body, path)
            self.assertEqual(answer.status, 200, answer.body)
            said = route(answer)
            return int(said.get("matched", 0)) > 0.9 * int(said["prompt"]) and said["why"] == "score"

        process.wait_until(is_held, lambda: "the prompt to be found again")
        streamed = proxy.ask({"model": "demo-model", "stream": True, "max_tokens": 3,
                              "messages": [{"role": "user", "content": "hello"}]},
                             "/v1/chat/completions")
        self.assertEqual(streamed.body.count(b"data: "), 4)
        self.assertTrue(streamed.body.endswith(b"data: [DONE]\n\n"))
        self.assertEqual([model["id"] for model in
                          proxy.ask(None, "/v1/models", method="GET").json["data"]],
                         ["demo-model"])
        proxy.stop()

    def test_a_demo_takes_no_engine_and_no_policy(self):
        for arguments in (("--engine-endpoints", "127.0.0.1:9"), ("--policy", "score"),
                          ("--conductor-address", "127.0.0.1:9"), ("--embedded",), ("--lora-name", "x"),
                          ("--config", "x.json")):
            ended = process.run_to_end("proxy", "--demo", *arguments)
            self.assertEqual(ended.returncode, 2, ended.stderr)
            self.assertIn(f"{arguments[0]}: is not for --demo", ended.stderr)
        ended = process.run_to_end("proxy", "--demo-seed", "3", "--engine-endpoints", "127.0.0.1:9")
        self.assertEqual(ended.returncode, 2)
        self.assertIn("--demo-seed: is for --demo", ended.stderr)


if __name__ == "__main__":
    unittest.main()
