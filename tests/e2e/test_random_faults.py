"""Random faults on many publishers at once, with the daemon's times as they are by default.

After every fault each publisher is true: `live` and equal to the brute-force model, or `degraded`
in the direction that its reason names. And none is that cheaply: a publisher whose faults can all
be healed (its replay endpoint is up again and its ring covers what was lost) is live and equal to
the model within five seconds of its return.

CONDUCTOR_TIME_FACTOR stretches the five seconds (2 by default: machines that run tests are busy);
CONDUCTOR_LONG_TESTS=1 runs many more seeds; CONDUCTOR_FAULT_SEEDS="3 17" just these.
"""

import collections
import os
import random
import time
import unittest

import events
import faulty
from daemon import key, show
from engine import Engine
from faulty import FaultyPublisher
from model import Model
from publisher import ReplayForm
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt

LONG = os.environ.get("CONDUCTOR_LONG_TESTS") == "1"
SEEDS = [int(seed) for seed in os.environ.get(
    "CONDUCTOR_FAULT_SEEDS", " ".join(map(str, range(40 if LONG else 2)))).split()]
FACTOR = float(os.environ.get("CONDUCTOR_TIME_FACTOR", "2"))
STEPS = 7           # faults of each publisher
HEALED_WITHIN = 5   # seconds
# A publisher that swallows requests one after the other is back when it stops doing so: each is
# given up after --replay-timeout.
REPLAY_TIMEOUT = 3
BLOCKS = 12         # of a prompt

# (tokens, LoRA name, salt). Those of the last two kinds need an encoding with extra keys.
PLAIN = [(prompt(number, BLOCKS), "", "") for number in range(9)]
APART = [(prompt(number, BLOCKS), "sql", "") for number in (0, 9)] + [
    (prompt(number, BLOCKS), "", "tenant-a") for number in (1, 10)]
NEVER_RUN = [(prompt("never run", BLOCKS), "", ""),
             (prompt(2, 3) + prompt("another end", BLOCKS - 3), "", "")]
ASKED = PLAIN + APART + NEVER_RUN


class Subject:
    """A publisher, the engine ranks behind it, and what is expected of it."""

    def __init__(self, publisher, engines, identity, seed, prompts):
        self.publisher = publisher
        self.engines = engines
        self.identity = identity
        self.random = random.Random(f"{identity} {seed}")
        self.prompts = prompts
        self.can_heal = False      # by what it is: a replay endpoint with a ring that is long enough
        self.damaged = False       # something is lost that no replay brings back
        self.extra = 0             # seconds beyond HEALED_WITHIN
        self.history = []
        self.steps = iter(())      # the fault that is happening
        self.wake = None           # a time, or a function that says when to go on
        self.returned = None       # when the last fault was over
        self.good_since = None     # when it was first seen to be as it must
        self.dwell = 0             # seconds that it must stay so
        self.expected = {}         # (rank, index of a prompt) -> figures

    @property
    def must_be_live(self):
        return self.can_heal and not self.damaged

    @property
    def waiting(self):
        return self.returned is not None


class Faults:
    """What may happen to a subject. Each fault is a generator: it yields seconds, or a function
    that becomes true, to be gone on with afterwards. The model is told by the engines."""

    def __init__(self, subject):
        self.subject = subject
        self.publisher = subject.publisher
        self.random = subject.random

    # Of those that a replay heals.

    HEALABLE = (
        "work", "lose_some", "lose_the_tail", "swap", "double", "overlap", "malformed_frames",
        "clear", "clear_that_is_lost", "new_connection", "live_socket_down", "replay_socket_down",
        "silent_replays", "bad_answer", "bad_answer_to_a_new_life", "paused_answer",
        "removal_during_a_replay", "lower_life", "equal_life", "higher_life", "life_without_a_word",
        "life_behind_the_same_connection", "two_lives", "two_lives_within_one_answer")
    # Nothing brings back what these lose.
    DAMAGING = ("garbage", "truncated_payload", "failure_to_encode")
    # A lost tail is not among these: without a replay endpoint nothing can tell of it.
    WITHOUT_REPLAY = (
        "work", "lose_some", "swap", "double", "overlap", "malformed_frames", "clear",
        "clear_that_is_lost", "new_connection", "live_socket_down", "lower_life", "higher_life",
        "life_behind_the_same_connection", "two_lives", *DAMAGING)

    def work(self, batches=6):
        self._work(batches)
        yield 0

    def first_work_without_replay(self):
        """Some are met late. What is said to nobody stays unknown, and one that only said such
        things is not known to say anything."""
        if self.random.random() < 0.5:
            self._work()
        yield self.publisher.has_subscriber
        self._work_at_once()
        self._work()

    def lose_some(self):
        with self.publisher.live_fault(self._sometimes_lost):
            self._work(15)
        self._work_at_once()
        yield 0

    def lose_the_tail(self):
        with self.publisher.live_fault(self._lost):
            self._work_at_once()
        yield 0

    def swap(self):
        for _ in range(3):
            held = []
            with self.publisher.live_fault(lambda *batch: held.append(batch)):
                self._work_at_once()
            self._work_at_once()
            for batch in held:
                self.publisher.send_again(*batch)
        self._work_at_once()
        yield 0

    def double(self):
        def doubled(sequence, payload):
            self.publisher.send_again(sequence, payload)
            self.publisher.send_again(sequence, payload)
        with self.publisher.live_fault(doubled):
            self._work()
        yield 0

    def overlap(self):
        self._work()
        for sequence in self.publisher.newest(8):
            self.publisher.repeat(sequence)
        self._work(2)
        yield 0

    def malformed_frames(self):
        for frames in ([b""], [b"", b""], [b"", bytes(4), b"payload"], [b"", b"", b""],
                       [b""] * 5):
            self.publisher.send_frames(*frames)
            self._work(2)
        yield 0

    def clear(self):
        for engine in self.subject.engines:
            engine.reset()
        self._work()
        yield 0

    def clear_that_is_lost(self):
        with self.publisher.live_fault(self._lost):
            for engine in self.subject.engines:
                engine.reset()
        self._work_at_once()
        yield 0

    def new_connection(self):
        self.publisher.lose_connections()
        self._work()
        yield from self._perhaps_a_subscriber()
        self._work_at_once()

    def live_socket_down(self):
        self.publisher.stop_live()
        self._work()
        yield self.random.uniform(0.2, 2)
        self._work()
        self.publisher.start_live()
        yield from self._perhaps_a_subscriber()
        self._work_at_once()

    def replay_socket_down(self):
        self.publisher.stop_replay()
        with self.publisher.live_fault(self._sometimes_lost):
            self._work(10)
        self._work_at_once()
        yield self.random.uniform(0.2, 2)
        self._work()
        self.publisher.start_replay()

    def silent_replays(self):
        self.publisher.silent = True
        with self.publisher.live_fault(self._sometimes_lost):
            self._work(10)
        self._work_at_once()
        yield self.random.uniform(0.2, 2)
        self._work()
        self.publisher.silent = False

    def bad_answer(self):
        self._bad_answers()
        with self.publisher.live_fault(self._lost):
            self._work_until(self.publisher.last_sequence + self.random.randrange(1, 8))
        self._work_at_once()
        yield 0

    def bad_answer_to_a_new_life(self):
        self._forget()
        self.publisher.restart()
        self._work(10)
        self._bad_answers()
        yield from self._perhaps_a_subscriber()
        self._work_at_once()

    def paused_answer(self):
        yield from self._pause()
        yield self.random.uniform(0, 1)
        self.publisher.resumed.set()

    def removal_during_a_replay(self):
        yield from self._pause()
        for engine in self.subject.engines:
            engine.reset()
        self._work()
        yield self.random.uniform(0, 0.2)
        self.publisher.resumed.set()

    def lower_life(self):
        """Ends below the cursor of the old one."""
        self._work_until(self.publisher.last_sequence + 6)
        yield 0.2
        yield from self._new_life(lambda last: max(0, last - self.random.randrange(1, 6)))

    def equal_life(self):
        yield from self._new_life(lambda last: last)

    def higher_life(self):
        yield from self._new_life(lambda last: last + self.random.randrange(1, 8))

    def life_without_a_word(self):
        self._forget()
        self.publisher.restart()
        yield 0

    def life_behind_the_same_connection(self):
        """Only its numbers and its batches tell of it. The first number that is heard must not be
        the next of the old life's: nobody could tell that from the old life."""
        yield self.publisher.has_subscriber
        last = self.publisher.last_sequence
        self._forget()
        self.publisher.begin_again()
        if self.publisher.replay:
            lost = self.random.choice([first for first in (0, 1, last, last + 2, last + 5)
                                       if first != last + 1])
            with self.publisher.live_fault(self._lost):
                self._work_until(lost - 1)
        self._work_at_once()
        with self.publisher.live_fault(self._sometimes_lost):
            self._work(self.random.choice([2, 20]))
        self._work_at_once()

    def two_lives(self):
        for _ in range(2):
            self._forget()
            self.publisher.restart()
            self._work()
        yield self.random.uniform(0, 0.3)
        self._work_at_once()

    def two_lives_within_one_answer(self):
        yield from self._pause()
        for _ in range(2):
            self._forget()
            self.publisher.restart()
            self._work()
            yield self.random.uniform(0, 0.2)

    # Damage.

    def garbage(self):
        for payload in self.random.sample(
                [b"", b"\xc1", b"no msgpack", b"\x93\xcb\x00", b"\xdd\xff\xff\xff\xff"], 3):
            self.publisher.publish_payload(payload)
            self._work(2)
        self.subject.damaged = True
        yield 0

    def truncated_payload(self):
        self.subject.damaged = True
        publish = self.publisher.publish_payload

        def truncated(payload):
            return publish(payload[:self.random.randrange(len(payload))])

        self.publisher.publish_payload = truncated
        self._work(3)
        self.publisher.publish_payload = publish
        self._work_at_once()
        yield 0

    def failure_to_encode(self):
        self.subject.damaged = True
        self._work_at_once()
        publish, self.publisher.publish = self.publisher.publish, self.publisher.skip
        self._work(3)
        self.publisher.publish = publish
        self._work_at_once()
        yield 0

    # Within.

    def _lost(self, sequence, payload):
        pass

    def _sometimes_lost(self, sequence, payload):
        if self.random.random() < 0.5:
            self.publisher.send_again(sequence, payload)

    def _work(self, batches=6):
        for _ in range(self.random.randrange(1, batches)):
            tokens, lora, salt = self.random.choice(self.subject.prompts)
            tokens = tokens[:self.random.randrange(1, BLOCKS + 1) * BLOCK_SIZE]
            self.random.choice(self.subject.engines).run(tokens, lora, salt)

    def _work_until(self, sequence):
        """Until this one is published, and no more."""
        while self.publisher.last_sequence < sequence:
            if self.random.random() < 0.2:
                self.random.choice(self.subject.engines).reset()
            else:
                self._work(2)  # nothing, where all is cached

    def _work_at_once(self):
        """Exactly one batch."""
        self._work_until(self.publisher.last_sequence + 1)

    def _forget(self):
        self.subject.damaged = False
        for engine in self.subject.engines:
            engine.forget()

    def _perhaps_a_subscriber(self):
        """Sometimes what follows comes through live, sometimes it is sent to nobody."""
        if self.random.random() < 0.5 or not self.publisher.replay:
            yield self.publisher.has_subscriber

    def _new_life(self, length):
        last = length(self.publisher.last_sequence)
        self._forget()
        self.publisher.restart()
        early = self.random.choice([0, last // 2, last])
        self._work_until(early)
        yield from self._perhaps_a_subscriber()
        self._work_until(last)

    def _bad_answers(self):
        answers = self.random.sample(faulty.FAULTS_OF_ANSWERS, self.random.randrange(1, 3))
        self.publisher.faults_of_answers.extend(answers)
        # Each of these ends when the request is given up.
        unanswered = (faulty.no_answer, faulty.half_an_answer, faulty.no_end)
        self.subject.extra = REPLAY_TIMEOUT * sum(answer in unanswered for answer in answers)

    def _pause(self):
        """Until a replay has come half the way."""
        self.publisher.paused.clear()
        self.publisher.resumed.clear()
        self.publisher.faults_of_answers.append(self.publisher.pause)
        with self.publisher.live_fault(self._lost):
            self._work_until(self.publisher.last_sequence + 3)
        self._work_at_once()
        yield self.publisher.paused.is_set


class Fleet:
    """The daemon, its subjects, and the judgement of what it says of them."""

    def __init__(self, test, seed):
        self.test = test
        self.seed = seed
        self.conductor = test.daemon()
        self.model = Model(BLOCK_SIZE)
        self.subjects = []
        self.times = collections.defaultdict(list)  # fault -> seconds until healed
        form = ReplayForm
        self.add("g0", events.G0, form.PLAIN)
        self.add("g1-medium", events.G1_MEDIUM, form.PLAIN, offload=0.3)
        self.add("g1-lora", events.G1_LORA, form.TOPIC, lru=False)
        self.add("g1-extra", events.G1_EXTRA.with_hashes(events.signed), form.PLAIN, extra=True)
        self.add("g1-groups", events.G1_GROUPS.with_hashes(events.digest), form.TOPIC, extra=True,
                 lru=False, offload=0.3)
        self.add("g2", events.G2, form.TOPIC, extra=True)
        self.add("g2-digest", events.G2.with_hashes(events.digest), form.PLAIN, offload=0.4)
        self.add("g3", events.G3, form.TOPIC, extra=True, lru=False)
        # Two ranks with a publisher each, two behind one publisher, and an engine that knows
        # nothing of its rank and says 0.
        self.add("pair", events.G2, form.TOPIC, extra=True)
        self.add("pair", events.G1_EXTRA, form.PLAIN, rank=1, offload=0.3)
        self.add("both", events.G3, form.TOPIC, ranks=(0, 1), extra=True)
        self.add("says-zero", events.G2, form.TOPIC, rank=1, tell_rank=0)
        self.add("topic", events.G2, form.TOPIC, topic=b"kv@10.0.0.1@model",
                 register={"topic": "kv@"})
        self.add("short-ring", events.G2, form.TOPIC, ring=5, extra=True)
        self.add("shorter-ring", events.G1_MEDIUM, form.PLAIN, ring=2)
        self.add("no-replay", events.G2, None, extra=True)
        self.add("no-replay-g1", events.G1_LORA, None, lru=False)
        self.all_judged = 0
        self.decks = collections.defaultdict(list)
        self.source = random.Random(f"fleet {seed}")

    def add(self, instance, encoding, form, rank=0, ranks=None, ring=10000, extra=False,
            tell_rank="own", topic=b"", register=None, **engine):
        publisher = FaultyPublisher(encoding=encoding, replay=form, rank=rank, ring=ring,
                                    topic=topic)
        self.test.addCleanup(publisher.die)
        engines = [Engine(self.model, publisher, instance, rank=each, capacity=50, seed=self.seed,
                          tell_rank=tell_rank, **engine) for each in ranks or (rank,)]
        identity = key(instance, rank)
        subject = Subject(publisher, engines, identity, self.seed, PLAIN + (APART if extra else []))
        subject.can_heal = form is not None and ring >= 10000
        self.subjects.append(subject)
        # Some are met late.
        if subject.can_heal and subject.random.random() < 0.5:
            for _ in Faults(subject).work(30):
                pass
        self.conductor.register(publisher, instance, rank=rank, **(register or {}))
        self.begin(subject, "work" if form is not None else "first_work_without_replay")

    # What happens.

    def next_fault(self, subject):
        if subject.can_heal:
            names, deck = Faults.HEALABLE, "can heal"
            if subject.random.random() < 0.12:
                names, deck = Faults.DAMAGING, "damaging"
        elif subject.publisher.replay:
            names, deck = Faults.HEALABLE + Faults.DAMAGING, "short ring"
        else:
            names, deck = Faults.WITHOUT_REPLAY, "no replay"
        if not self.decks[deck]:
            self.decks[deck] = self.source.sample(names, len(names))
        return self.decks[deck].pop()

    def begin(self, subject, name):
        subject.history.append(name)
        subject.publisher.note(f"--- {name}")
        subject.extra = 0
        subject.publisher.faults_of_answers.clear()
        subject.steps = getattr(Faults(subject), name)()
        subject.wake = time.monotonic()
        subject.returned = None
        subject.good_since = None

    def go_on(self, subject):
        """As far as its fault can go now."""
        while not subject.waiting:
            if callable(subject.wake):
                if not subject.wake():
                    if time.monotonic() > subject.wake_deadline:
                        self.fail(subject, f"{subject.wake} never came true")
                    return
            elif time.monotonic() < subject.wake:
                return
            try:
                pause = next(subject.steps)
            except StopIteration:
                self.over(subject)
                return
            subject.wake = pause if callable(pause) else time.monotonic() + pause
            subject.wake_deadline = time.monotonic() + 2 * self.patience(subject)

    def over(self, subject):
        subject.returned = time.monotonic()
        subject.publisher.note("--- over")
        subject.good_since = None
        subject.dwell = subject.random.choice([0, 0, 0, 6.5 if subject.can_heal else 3])
        subject.expected = {
            (engine.rank, index): self.model.rank_figures(engine.instance, engine.rank, *asked)
            for engine in subject.engines for index, asked in enumerate(ASKED)}

    def patience(self, subject):
        return (HEALED_WITHIN + subject.extra) * FACTOR

    def run(self, steps):
        """Every subject through so many faults, each judged before the next."""
        left = {subject: steps for subject in self.subjects}
        while left:
            for subject in self.subjects:
                self.go_on(subject)
            self.judge_all()
            time.sleep(0.03)
            now = time.monotonic()
            for subject in list(left):
                if subject.good_since is None or now < subject.good_since + subject.dwell:
                    continue
                if left[subject] == 0:
                    del left[subject]
                    continue
                left[subject] -= 1
                self.begin(subject, self.next_fault(subject))

    def end(self):
        """Everything can be live again: by a new life, or where a replay is missing or too short,
        by a cleared cache."""
        for subject in self.subjects:
            heals_by_replay = subject.can_heal and subject.damaged
            self.begin(subject, "higher_life" if heals_by_replay else "clear")
            subject.can_heal, subject.damaged = True, False

    # What is true.

    def judge_all(self):
        """Reads all states and figures, and judges the subjects that wait for it."""
        waiting = [subject for subject in self.subjects if subject.waiting]
        states = self.states()
        # Those that are well already are looked at again now and then.
        now = time.monotonic()
        if now > self.all_judged + 0.5:
            self.all_judged = now
        else:
            waiting = [subject for subject in waiting if subject.good_since is None]
        worth_it = [subject for subject in waiting
                    if self.verdict_on_state(subject, states) is None]
        answers = self.answers() if worth_it else []
        # Figures and states are of one moment only if nothing changed between.
        after = self.states() if worth_it else states
        for subject in waiting:
            verdict = self.verdict_on_state(subject, states)
            if verdict is None:
                if after[subject.identity] != states[subject.identity]:
                    continue
                verdict = self.verdict_on_figures(subject, states[subject.identity], answers)
            now = time.monotonic()
            if verdict is None:
                if subject.good_since is None:
                    subject.good_since = now
                    subject.publisher.faults_of_answers.clear()
                    if subject.must_be_live:
                        self.times[subject.history[-1], subject.extra].append(
                            now - subject.returned)
            elif (subject.good_since is not None and
                  subject.publisher.last_fault > subject.good_since - 1):
                # What was left of its faults met a probe.
                subject.returned, subject.good_since = now, None
            elif subject.good_since is not None and subject.must_be_live:
                self.fail(subject, f"it was well, and nothing happened, but now {verdict}")
            elif now > subject.returned + self.patience(subject):
                self.fail(subject, f"{now - subject.returned:.1f} s after its return {verdict}")
        self.judge_instances(states, answers, after)

    def states(self):
        return {entry["id"]: (entry["state"], entry["reason"], entry["cursor"], entry["detail"])
                for entry in self.conductor.publishers()}

    def answers(self):
        """One for each of ASKED: instance id -> entry."""
        answers = []
        for tokens, lora, salt in ASKED:
            more = {"lora_name": lora} if lora else {}
            if salt:
                more["cache_salt"] = salt
            answers.append(self.conductor.query(MODEL, tokens, **more))
        return answers

    @staticmethod
    def verdict_on_state(subject, states):
        """What is wrong with it, whatever the figures are; None: nothing."""
        state, reason, cursor, detail = states[subject.identity]
        if state not in ("live", "degraded"):
            return f"it is {state} ({reason}: {detail})"
        if subject.must_be_live and state != "live":
            return f"it is {state}, {reason}, though all can be healed ({detail})"
        last = subject.publisher.last_sequence
        hears_all = subject.publisher.replay or subject.must_be_live
        if hears_all and cursor != (last if last >= 0 else None):
            return f"it is {state} at {cursor} while {last} was published"
        return None

    @classmethod
    def verdict_on_figures(cls, subject, state, answers):
        for (rank, index), want in subject.expected.items():
            entry = answers[index][subject.engines[0].instance]
            tiers = entry["ranks"].get(str(rank), {"gpu": 0, "cpu": 0, "disk": 0})
            wrong = cls.wrong(state[0], state[1], tiers, want)
            if wrong:
                return f"rank {rank}, prompt {index}: {wrong}"
        return None

    @staticmethod
    def wrong(state, reason, entry, want):
        got = (entry["gpu"], entry["cpu"], entry["disk"])
        if state == "live":
            well = got == tuple(want)
        elif reason == "incomplete":
            well = all(have <= true for have, true in zip(got, want))
        else:
            well = reason == "doubtful"
        return None if well else f"{state} {reason} {got}, and the truth is {tuple(want)}"

    def judge_instances(self, states, answers, after):
        """An answer's own state is true of its figures where all publishers of it are at rest."""
        for instance in self.model.instances() if answers else ():
            behind = [subject for subject in self.subjects
                      if subject.engines[0].instance == instance]
            at_rest = all(subject.good_since is not None and
                          states[subject.identity] == after[subject.identity] for subject in behind)
            if not at_rest:
                continue
            for index, asked in enumerate(ASKED):
                entry = answers[index][instance]
                wrong = self.wrong(entry["state"], entry["reason"], entry,
                                   self.model.instance_figures(instance, *asked))
                if wrong and entry["state"] in ("live", "degraded"):
                    self.fail(behind[0], f"{instance} as a whole, prompt {index}: {wrong}")

    def fail(self, subject, why):
        schedule = "\n".join(f"  {each.identity}: {' '.join(each.history)}"
                             for each in self.subjects)
        journal = "\n".join(f"  {line}" for line in subject.publisher.journal)
        raise AssertionError(
            f"{subject.identity}, seed {self.seed}, after {subject.history[-1]}: {why}\n"
            f"what happened to each:\n{schedule}\n"
            f"journal of {subject.identity} (now {time.monotonic():.3f}):\n{journal}\n"
            f"what the daemon says of it: {self.conductor.publisher(subject.identity)}")

    def show_times(self):
        lines = [f"  {max(seconds):5.2f} of {5 + extra:2} s at most, {len(seconds):2} times: {name}"
                 for (name, extra), seconds in sorted(
                     self.times.items(), key=lambda item: -max(item[1]))]
        show(f"seed {self.seed}: seconds until healed\n" + "\n".join(lines))


class RandomFaults(EndToEndTest):
    def test_never_wrong_and_live_and_never_cheap(self):
        for seed in SEEDS:
            with self.subTest(seed=seed):
                fleet = Fleet(self, seed)
                try:
                    fleet.run(STEPS)
                    fleet.end()
                    fleet.run(0)
                    self.assertEqual(fleet.conductor.metrics()["conductor_index_holdings"],
                                     fleet.model.holdings())
                finally:
                    fleet.show_times()
                fleet.conductor.stop()


if __name__ == "__main__":
    unittest.main()
