"""A fleet at work: four instances and their ranks, five publishers, more than 10,000 blocks with
evictions, every answer of three APIs compared with the brute-force model."""

import random
import threading
import unittest

import events
from daemon import key
from engine import Engine
from model import Model
from publisher import ReplayForm
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt

SALTS = ("", "", "", "tenant-a")
LORAS = ("", "", "", "sql")


class Conversations:
    """Prompts that share a few beginnings and grow."""

    def __init__(self, seed):
        self._random = random.Random(f"conversations {seed}")
        self._grown = []

    def next(self):
        if self._grown and self._random.random() < 0.6:
            index = self._random.randrange(len(self._grown))
        else:
            index = len(self._grown)
            self._grown.append((
                prompt(f"system {self._random.randrange(4)}", 6),
                self._random.choice(LORAS), self._random.choice(SALTS)))
        tokens, lora, salt = self._grown[index]
        tokens = tokens + [self._random.randrange(150000)
                           for _ in range(self._random.randrange(1, 12 * BLOCK_SIZE))]
        self._grown[index] = (tokens, lora, salt)
        if len(tokens) > 80 * BLOCK_SIZE:
            self._grown[index] = (tokens[:6 * BLOCK_SIZE], lora, salt)
        return tokens, lora, salt

    def ask(self):
        """A prompt that was run, as it was, or longer, or shorter, or with other tokens in it."""
        tokens, lora, salt = self._random.choice(self._grown)
        change = self._random.randrange(4)
        if change == 1:
            tokens = tokens[:self._random.randrange(len(tokens))]
        elif change == 2:
            tokens = tokens + prompt("more", 2)
        elif change == 3:
            at = self._random.randrange(len(tokens))
            tokens = tokens[:at] + [tokens[at] ^ 1] + tokens[at + 1:]
        return tokens, lora, salt


class FleetAtWork(EndToEndTest):
    def test_every_answer_equals_the_model(self):
        daemon = self.daemon()
        model = Model(BLOCK_SIZE)
        hosts = {"127.0.0.1": "one", "127.0.0.2": "two", "127.0.0.3": "three", "127.0.0.4": "four"}
        engines, watched = [], {}

        def start(instance, host, encoding, ranks, register_rank=0, **more):
            publisher = self.publisher(encoding=encoding, host=host, rank=register_rank,
                                       replay=more.pop("replay", ReplayForm.TOPIC))
            watched[daemon.register(publisher, instance, MODEL, BLOCK_SIZE, register_rank)
                    ] = publisher
            engines.extend(Engine(model, publisher, instance, rank=rank, capacity=450, **more)
                           for rank in ranks)

        start("one", "127.0.0.1", events.G2, [0], offload=0.4)
        # Two ranks, a publisher each.
        start("two", "127.0.0.2", events.G2.with_hashes(events.digest), [0], offload=0.3)
        start("two", "127.0.0.2", events.G1_GROUPS, [1], register_rank=1, offload=0.3)
        # Evicts anywhere, so that prompts get holes and blocks get second copies.
        start("three", "127.0.0.3", events.G1_EXTRA.with_hashes(events.signed), [0], lru=False,
              offload=0.2, replay=ReplayForm.PLAIN)
        # Two ranks behind one publisher.
        start("four", "127.0.0.4", events.G3, [0, 1], lru=False, offload=0.5)

        conversations = Conversations(seed=1)
        source = random.Random(7)
        asked = hits = 0
        while (sum(engine.stored_blocks for engine in engines) < 10000 or
               min(engine.evicted_blocks for engine in engines) < 200):
            for _ in range(30):
                tokens, lora, salt = conversations.next()
                for engine in source.sample(engines, 2):
                    engine.run(tokens, lora, salt)
            if source.random() < 0.2:
                source.choice(engines).reset()
            if source.random() < 0.3:
                source.choice(engines).drop_lower_tiers(0.3)
            for identity, publisher in watched.items():
                daemon.wait_applied(identity, publisher)
            self.check_sizes(daemon, model)
            for _ in range(40):
                tokens, lora, salt = conversations.ask()
                want = {name: model.instance_figures(name, tokens, lora, salt)
                        for name in hosts.values()}
                self.assert_answers(daemon, model, tokens, lora, salt)
                self.check_late_form(daemon, model, want, tokens, lora, salt)
                if not salt:
                    self.check_first_form(daemon, hosts, want, tokens, lora)
                asked += 1
                hits += any(figures.longest for figures in want.values())
        self.assertGreater(hits, asked // 2)
        self.assertGreater(sum(engine.evicted_blocks for engine in engines), 2000)

        # A daemon that knows nothing learns it all by replay, and says the same.
        daemon.stop()
        second = self.daemon()
        for identity, publisher in watched.items():
            instance, _, rank = identity.split("|")
            second.register(publisher, instance, MODEL, BLOCK_SIZE, int(rank))
        for identity, publisher in watched.items():
            second.wait_applied(identity, publisher)
        self.check_sizes(second, model)
        for _ in range(100):
            tokens, lora, salt = conversations.ask()
            self.assert_answers(second, model, tokens, lora, salt)

        # Who leaves is gone, and nobody else.
        second.unregister("two", 1)
        second.unregister("four")
        model.clear("two", 1)
        for rank in (0, 1):
            model.clear("four", rank)
        self.check_sizes(second, model)
        for _ in range(30):
            tokens, lora, salt = conversations.ask()
            entries = second.query(MODEL, tokens, lora_name=lora, cache_salt=salt)
            self.assertEqual(set(entries), {"one", "two", "three"})
            for name, entry in entries.items():
                self.assertEqual(
                    (entry["gpu"], entry["cpu"], entry["disk"]),
                    tuple(model.instance_figures(name, tokens, lora, salt)))

    def check_sizes(self, daemon, model):
        """Nothing is held that no answer would show."""
        self.assertEqual(daemon.metrics()["conductor_index_holdings"], model.holdings())

    def check_late_form(self, daemon, model, want, tokens, lora, salt):
        answer = daemon.ok("POST", "/query", {
            "model": MODEL, "block_size": BLOCK_SIZE, "token_ids": tokens, "lora_name": lora,
            "cache_salt": salt})["default"]
        for name, figures in want.items():
            got = answer[name]
            self.assertEqual((got["GPU"], got["CPU"], got["DISK"], got["longest_matched"]),
                             (*figures, figures.longest))
            for rank in model.ranks(name):
                self.assertEqual(got["DP"].get(str(rank), 0),
                                 model.rank_figures(name, rank, tokens, lora, salt).gpu)

    def check_first_form(self, daemon, hosts, want, tokens, lora):
        blocks = len(tokens) // BLOCK_SIZE
        answer = daemon.ok("POST", "/cache", {
            "instances": list(hosts), "token_ids": tokens, "model_name": MODEL,
            "lora_name": lora})
        self.assertEqual(answer, {"status": "ok", "HitStatus": {
            host: max(1, want[name].longest // BLOCK_SIZE * 100 // blocks)
            for host, name in hosts.items() if want[name].longest}})


class Together(EndToEndTest):
    def test_answers_stay_true_while_others_publish(self):
        """One instance stands still and is asked, five others store and evict all the while."""
        daemon = self.daemon()
        model = Model(BLOCK_SIZE)
        still = Engine(model, self.publisher(), "still")
        for length in (3, 8, 20):
            still.run(prompt("still", length))
        daemon.wait_applied(daemon.register(still.publisher, "still"), still.publisher)
        busy, stop, failures = [], threading.Event(), []
        for index in range(5):
            # A model each: they run at the same time.
            publisher = self.publisher()
            own = Model(BLOCK_SIZE)
            engine = Engine(own, publisher, f"busy-{index}", capacity=60)
            daemon.register(publisher, engine.instance)
            busy.append((engine, own))

        def work(engine):
            try:
                step = 0
                while not stop.is_set() and step < 3000:
                    engine.run(prompt("still", 1 + step % 20))
                    engine.run(prompt(f"{engine.instance} {step % 9}", 1 + step % 13))
                    step += 1
            except Exception as error:  # shown by the test
                failures.append(error)

        workers = [threading.Thread(target=work, args=(engine,)) for engine, _ in busy]
        for worker in workers:
            worker.start()
        try:
            for _ in range(100):
                for length in (2, 20, 25):
                    self.assertEqual(
                        daemon.query(MODEL, prompt("still", length))["still"]["longest_matched"],
                        min(length, 20) * BLOCK_SIZE)
        finally:
            stop.set()
            for worker in workers:
                worker.join()
        self.assertEqual(failures, [])
        for engine, own in busy:
            daemon.wait_applied(key(engine.instance), engine.publisher)
            for seed in ["still"] + [f"{engine.instance} {number}" for number in range(9)]:
                want = own.instance_figures(engine.instance, prompt(seed, 20))
                got = daemon.query(MODEL, prompt(seed, 20))[engine.instance]
                self.assertEqual((got["gpu"], got["cpu"], got["disk"]), tuple(want))


if __name__ == "__main__":
    unittest.main()
