"""`conductor replay TRACE --simulate`, through the real binary.

The trace of testdata/traces is always served; what is not asserted of it alone holds for any, and is
tried with every *.jsonl of the folder that $CONDUCTOR_TRACES names too.
"""

import glob
import json
import os
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

BINARY = os.environ["CONDUCTOR_BINARY"]
TRACES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "testdata", "traces")
OWN_TRACE = os.path.join(TRACES, "conversation.jsonl")
DOCUMENTATION = os.path.join(TRACES, "..", "..", "docs", "simulation.md")
POLICIES = ["round-robin", "least-loaded", "longest-prefix", "score"]
TIERS = ["gpu", "cpu", "disk"]
DONE, FAILED, USAGE = 0, 1, 2


def other_traces():
    folder = os.environ.get("CONDUCTOR_TRACES")
    return sorted(glob.glob(os.path.join(folder, "*.jsonl"))) if folder else []


def simulate(*arguments):
    return subprocess.run([BINARY, "replay", *arguments], capture_output=True, text=True, timeout=120)


def figures(*arguments):
    """The JSON document of a simulation."""
    result = simulate(*arguments, "--simulate", "--json")
    if result.returncode != DONE:
        raise AssertionError(result.stderr)
    return json.loads(result.stdout)


def shared_tokens(path, block_size):
    """(tokens that a cache without end would hit, all tokens of prompts), counted from the ids."""
    seen, hit, prompt = set(), 0, 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            request = json.loads(line)
            tokens, chain, blocks = request["input_length"], (), []
            prompt += tokens
            for at, number in enumerate(request["hash_ids"]):
                chain = hash((chain, number))
                blocks += [(chain, part) for part in range(512 // block_size)
                           if at * 512 + (part + 1) * block_size <= tokens]
            hits = 0
            while hits < min((tokens - 1) // block_size, len(blocks)) and blocks[hits] in seen:
                hits += 1
            hit += hits * block_size
            seen.update(blocks)
    return hit, prompt


class Simulate(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = directory.name

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_compares_all_policies(self):
        result = simulate(OWN_TRACE, "--simulate")
        self.assertEqual((result.returncode, result.stderr), (DONE, ""))
        for policy in POLICIES:
            self.assertEqual(result.stdout.count(f"\n{policy} "), 2, result.stdout)
        self.assertLessEqual(max(map(len, result.stdout.splitlines())), 80)

    def test_figures_add_up(self):
        small = ["--gpu-blocks", "300", "--cpu-blocks", "200", "--disk-blocks", "200",
                 "--engines", "3", "--ranks", "2"]
        for path, fleet in [(OWN_TRACE, small), *((path, []) for path in other_traces())]:
            with self.subTest(trace=path):
                document = figures(path, *fleet)
                self.assertEqual([run["policy"] for run in document["policies"]], POLICIES)
                for run in document["policies"]:
                    self.check(run, document)

    def check(self, run, document):
        hits = sum(run["hit_tokens"].values())
        self.assertEqual(hits + run["computed_tokens"], run["prompt_tokens"])
        self.assertAlmostEqual(hits / run["prompt_tokens"], run["hit_rate"], 5)
        self.assertEqual(run["requests"] + document["trace"]["refused_requests"],
                         document["trace"]["requests"])
        self.assertEqual(sum(rank["requests"] for rank in run["ranks"]), run["requests"])
        for rank in run["ranks"]:
            self.assertLessEqual(rank["busy_seconds"], run["wall_seconds"])
            for tier in TIERS:
                blocks = rank["blocks"][tier]
                self.assertEqual(blocks["stored"] - blocks["evicted"] - blocks["moved_up"],
                                 blocks["held"])
                self.assertLessEqual(blocks["held"], document["fleet"]["blocks"][tier])

    def test_one_engine_with_room_for_all_hits_what_the_trace_shares(self):
        for path in [OWN_TRACE, *other_traces()]:
            with self.subTest(trace=path):
                run, = figures(path, "--engines", "1", "--gpu-blocks", "100000000",
                               "--policy", "score")["policies"]
                self.assertEqual((run["hit_tokens"]["gpu"], run["prompt_tokens"]),
                                 shared_tokens(path, 16))

    def test_cache_aware_policies_hit_more(self):
        rate = {run["policy"]: run["hit_rate"] for run in figures(OWN_TRACE)["policies"]}
        self.assertGreater(rate["longest-prefix"], rate["round-robin"])
        self.assertGreater(rate["score"], rate["round-robin"])

    def test_the_same_arguments_give_the_same_figures(self):
        arguments = [OWN_TRACE, "--gpu-blocks", "400", "--seed", "5", "--event-delay", "2s"]
        self.assertEqual(figures(*arguments), figures(*arguments))

    def test_policies_weights_and_the_first_requests_can_be_chosen(self):
        document = figures(OWN_TRACE, "--policy", "score", "--policy", "round-robin",
                           "--weights", "waiting=3,cpu=0.1", "--requests", "20", "--rate-scale", "8")
        self.assertEqual([run["policy"] for run in document["policies"]], ["score", "round-robin"])
        self.assertEqual(document["policies"][0]["weights"],
                         {"gpu": 1, "cpu": 0.1, "disk": 0.5, "waiting": 3, "kv": 0.2})
        self.assertEqual(document["policies"][0]["requests"], 20)
        self.assertEqual(document["fleet"]["rate_scale"], 8)

    def test_every_field_of_the_document_is_documented(self):
        with open(DOCUMENTATION, encoding="utf-8") as file:
            text = file.read()

        def keys(value):
            if isinstance(value, dict):
                for key, inner in value.items():
                    yield key
                    yield from keys(inner)
            elif isinstance(value, list):
                for inner in value:
                    yield from keys(inner)

        for key in set(keys(figures(OWN_TRACE, "--requests", "5"))) - set(TIERS):
            if key not in ("waiting", "kv"):  # weights: the flag's names
                self.assertRegex(text, rf"`\.?{key}(\[\])?`", key)

    def test_draws_plots(self):
        path = os.path.join(self.folder, "plots.svg")
        result = simulate(OWN_TRACE, "--simulate", "--svg", path)
        self.assertEqual((result.returncode, result.stderr), (DONE, ""))
        root = xml.etree.ElementTree.parse(path).getroot()
        self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
        said = "\n".join(root.itertext())
        for text in [*POLICIES, *TIERS, "time to first token (logarithmic)", "8 engines"]:
            self.assertIn(text, said)

    def test_a_line_that_cannot_be_read_is_told_and_left_out(self):
        with open(OWN_TRACE, encoding="utf-8") as file:
            lines = file.read().splitlines()
        path = self.file("broken.jsonl", "\n".join([lines[0], '{"timestamp": 5}', *lines[1:10]]))
        result = simulate(path, "--simulate", "--json")
        self.assertEqual(result.returncode, DONE)
        self.assertEqual(json.loads(result.stdout)["policies"][0]["requests"], 10)
        self.assertIn(f"{path}, line 2: input_length is missing (expected an integer from 1",
                      result.stderr)
        strict = simulate(path, "--simulate", "--strict")
        self.assertEqual((strict.returncode, strict.stdout), (FAILED, ""))
        self.assertIn("line 2: input_length is missing", strict.stderr)

    def test_requests_that_are_too_large_are_told_and_left_out(self):
        result = simulate(OWN_TRACE, "--simulate", "--json", "--gpu-blocks", "300")
        self.assertEqual(result.returncode, DONE)
        self.assertGreater(json.loads(result.stdout)["trace"]["refused_requests"], 0)
        self.assertIn("need more than the 300 blocks that a rank has on gpu", result.stderr)
        none = simulate(OWN_TRACE, "--simulate", "--gpu-blocks", "3")
        self.assertEqual(none.returncode, FAILED)
        self.assertIn("no request fits", none.stderr)

    def test_qwen_bailians_form_is_told_by_its_fields(self):
        line = ('{"chat_id": %d, "parent_chat_id": -1, "timestamp": %d.5, "input_length": 40, '
                '"output_length": 2, "type": "text", "turn": 1, "hash_ids": [1, 2, %d]}')
        path = self.file("q.jsonl", "\n".join(line % (i, i, 100 + i) for i in range(10)))
        document = figures(path, "--engines", "1", "--policy", "round-robin")
        self.assertEqual(document["trace"]["form"], "qwen-bailian")
        self.assertEqual(document["policies"][0]["hit_tokens"]["gpu"], 9 * 32)
        mixed = simulate(path, OWN_TRACE, "--simulate")
        self.assertEqual(mixed.returncode, FAILED)
        self.assertIn("expected qwen-bailian, as the file before it", mixed.stderr)

    def test_what_cannot_be_used_is_a_usage_error(self):
        for flags, said in [(["--policy", "best"], "'best' is no policy"),
                            (["--weights", "gpu=x"], "'x' is no weight"),
                            (["--engines", "0"], "'0' is not a number of engines"),
                            (["--rate-scale", "0"], "'0' is not a factor")]:
            result = simulate(OWN_TRACE, "--simulate", *flags)
            self.assertEqual((result.returncode, result.stdout), (USAGE, ""), flags)
            self.assertIn(said, result.stderr)
        without = simulate(OWN_TRACE, "--engines", "3")
        self.assertEqual(without.returncode, USAGE)
        self.assertIn("--engines requires --simulate", without.stderr)
        for flags in (["--into", "http://127.0.0.1:1"], ["--speed", "2"], ["--capacity", "9"],
                      ["--publisher", "0"], ["--model", "m"], ["--check"], ["--ring", "5"]):
            both = simulate(OWN_TRACE, "--simulate", *flags)
            self.assertEqual(both.returncode, USAGE)
            self.assertIn(f"--simulate excludes {flags[0]}", both.stderr)

    def test_a_file_that_cannot_be_read_or_written_fails(self):
        for arguments, said in [(["/no/such/trace.jsonl"], "/no/such/trace.jsonl: cannot be read"),
                                ([OWN_TRACE, "--svg", "/no/such/plots.svg"],
                                 "/no/such/plots.svg: cannot be written")]:
            result = simulate(*arguments, "--simulate")
            self.assertEqual((result.returncode, result.stdout), (FAILED, ""), arguments)
            self.assertIn(said, result.stderr)

    def test_a_reader_that_is_gone_ends_it_quietly(self):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            result = subprocess.run([BINARY, "replay", OWN_TRACE, "--simulate"], stdout=writer,
                                    stderr=subprocess.PIPE, text=True, timeout=120)
        finally:
            os.close(writer)
        self.assertEqual((result.returncode, result.stderr), (DONE, ""))

    def test_its_flags_are_in_the_help_when_it_is_asked_for(self):
        self.assertNotIn("--prefill-speed", simulate("--help").stdout)
        for flags in (["--simulate", "--help"], ["--help", "--simulate"]):
            shown = simulate(*flags).stdout
            self.assertIn("--prefill-speed X", shown)
            self.assertLess(max(map(len, shown.splitlines())), 100)


if __name__ == "__main__":
    unittest.main()
