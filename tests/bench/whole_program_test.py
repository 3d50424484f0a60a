#!/usr/bin/env python3
"""The comparison of whole programs, with programs made up here instead of PyTorch's."""
import importlib.machinery
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import textwrap
import types
import unittest
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
from whole_program import CORES, LEAST_ROUNDS, TURNS, Failed, compare, low_end, percentile, recorded_rounds, \
    run_pair, run_pairs

HEAD = f"import os, sys, time\nsys.path.insert(0, {HERE!r})\nfrom take_turns import take_turns\n"
# Twice as slow where LD_PRELOAD is set; each turn's begin and end go into the file LOG.
STEADY = """
    side = "flexlom" if "LD_PRELOAD" in os.environ else "bare"
    def step():
        begin = time.monotonic()
        time.sleep(0.010 if side == "flexlom" else 0.005)
        with open(os.environ["LOG"], "a") as log:
            print(side, begin, time.monotonic(), *sorted(os.sched_getaffinity(0)), file=log)
        return 42
    print("a line of the program's own")
    take_turns(step, warmup=1, settle=1, counted=3)
"""


class Programs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path, self.log = (os.path.join(folder.name, n) for n in ("made_up.py", "log"))
        self.bare = dict(os.environ, LOG=self.log, PYTHONDONTWRITEBYTECODE="1")
        self.bare.pop("LD_PRELOAD", None)
        # A library that is in every process anyway.
        self.flexlom = dict(self.bare, LD_PRELOAD="libc.so.6")

    def write(self, text):
        with open(self.path, "w") as file:
            file.write(HEAD + textwrap.dedent(text))

    def run_program(self, text, **more):
        self.write(text)
        return run_pair([sys.executable, self.path], (self.bare, self.flexlom), **more)

    def fails(self, text, *words, **more):
        with self.assertRaises(Failed) as caught:
            self.run_program(text, **more)
        for word in words:
            self.assertIn(word, str(caught.exception))

    def test_turns(self):
        for first, order in ((0, "bare flexlom flexlom bare"), (1, "flexlom bare bare flexlom")):
            sides, digests = self.run_program(STEADY, turns=2, first=first)
            self.assertEqual(digests[0], digests[1])
            self.assertEqual([[len(t) for t in side.turns] for side in sides], [[3, 3], [3, 3]])
            self.assertEqual([len(side.steps()) for side in sides], [6, 6])
            self.assertGreaterEqual(min(sides[0].steps()), 5)
            self.assertGreater(low_end(sides[1].steps()), 1.3 * low_end(sides[0].steps()))
            with open(self.log) as file:
                steps = [line.split() for line in file][2:]  # but for the warm-ups
            os.unlink(self.log)
            self.assertEqual(" ".join(s[0] for s in steps[::4]), order)
            for before, after in zip(steps, steps[1:]):
                self.assertLessEqual(float(before[2]), float(after[1]))
            core = sorted(os.sched_getaffinity(0))[-CORES:][0]
            self.assertEqual({tuple(s[3:]) for s in steps}, {(str(core),)})

    def test_pairs_do_not_work_at_the_same_time(self):
        self.write(STEADY)
        pairs = [((self.bare, self.flexlom), first) for first in (0, 1, 0)]
        found = run_pairs([sys.executable, self.path], pairs, turns=2)
        self.assertEqual([[len(side.steps()) for side in sides] for sides, _ in found],
                         [[6, 6]] * 3)
        self.assertEqual(len({digest for _, digests in found for digest in digests}), 1)
        with open(self.log) as file:
            steps = sorted((line.split() for line in file), key=lambda s: float(s[1]))
        steps = steps[6:]  # but for the warm-ups, all of which come before
        self.assertEqual(" ".join(s[0] for s in steps[::4]),
                         "bare flexlom flexlom bare flexlom bare bare flexlom bare flexlom flexlom "
                         "bare")
        for before, after in zip(steps, steps[1:]):
            self.assertLessEqual(float(before[2]), float(after[1]))

    def test_one_of_several_ends(self):
        self.write("""
            if os.environ["WHICH"] == "1":
                sys.exit(4)
            take_turns(lambda: 1, 0, 0, 1)""")
        pairs = [((dict(self.bare, WHICH=w), dict(self.flexlom, WHICH=w)), 0) for w in "012"]
        with self.assertRaisesRegex(Failed, "status 4 before a line READY"):
            run_pairs([sys.executable, self.path], pairs)

    def test_end_before_ready(self):
        self.fails("sys.exit('no such model')", "made_up.py", "status 1", "READY", "no such model")

    def test_end_in_a_turn(self):
        self.fails("""
            print("READY", flush=True)
            if "LD_PRELOAD" in os.environ:
                sys.exit(3)
            take_turns(lambda: 1, 0, 0, 1)""", "under flexlom", "status 3", "TURN")

    def test_no_number(self):
        self.fails("print('READY\\nTURN soon', flush=True); time.sleep(9)", "could not convert")

    def test_no_step(self):
        self.fails("take_turns(lambda: 1, 0, 0, 0)", "without a step")

    def test_no_result(self):
        self.fails("print('READY\\nTURN 1\\nRESULT'); sys.stdin.read()", "RESULT", turns=1)

    def test_bad_exit(self):
        self.fails("take_turns(lambda: 1, 0, 0, 1); sys.exit(5)", "status 5")

    def test_hang(self):
        self.fails("time.sleep(60)", "no end after 0.5 s", limit_s=0.5)

    def test_whole_part(self):
        loader = importlib.machinery.SourceFileLoader("bench_run", os.path.join(HERE, "run"))
        run = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_run", loader))
        loader.exec_module(run)
        bench = types.SimpleNamespace(environment=self.bare, preload="libc.so.6", repetitions=[],
                                      options=types.SimpleNamespace(program_rounds=6, together=2))
        bench.python = types.MethodType(run.Bench.python, bench)
        with mock.patch.object(importlib.util, "find_spec", return_value=True):
            for text, verdict in ((STEADY, "missed"), (STEADY.replace("0.010", "0.002"), "met")):
                self.write(text)
                table = run.Table()
                run.whole_program(self.path, "made up")(bench, table, 1)
                self.assertEqual(table.rows[0]["verdict"], verdict)
                self.assertEqual(len(table.rows[0]["interval"]), 2)
                self.assertIn("; median ", table.rows[0]["flexlom"])
                self.assertIn("(median ", table.rows[0]["bare"])
            self.assertEqual(len(bench.repetitions), 24)
            self.assertEqual({len(r["turns"]) for r in bench.repetitions}, {TURNS})
            judged = recorded_rounds(bench.repetitions)[self.path]
            self.assertEqual([[len(side) for side in pair] for pair in judged], [[3 * TURNS] * 2] * 12)
            self.write(STEADY.replace("return 42", "return side"))
            with self.assertRaisesRegex(Failed, "results differ"):
                run.whole_program(self.path, "made up")(bench, run.Table(), 1)


STEPS = 60


def made_up_rounds(seed, slowdown=0.0, rounds=9, busy=(0.5, 0.5), starts=0.003):
    """Steps of 10 ms, a little apart from start to start, of which the share busy[side] takes up to
    twice as long because of neighbours; these also spoil one whole process of each side."""
    draw = random.Random(seed)
    found = []
    for number in range(rounds):
        pair = []
        for side in (0, 1):
            own = 10 * (1 + slowdown * side) * (1 + draw.gauss(0, starts))
            spoilt = 4 if busy[side] and number == 2 + side else 0
            pair.append([own * (1 + draw.uniform(0, 0.01)) + spoilt +
                         (draw.uniform(0, 10) if draw.random() < busy[side] else 0)
                         for _ in range(STEPS)])
        found.append(tuple(pair))
    return found


class Judging(unittest.TestCase):
    # Whose steps are disturbed: nobody's, half of both, of one side only, most of both.
    NEIGHBOURS = ((0, 0), (0.5, 0.5), (0.5, 0), (0, 0.5), (0.7, 0.7))

    def verdicts(self, neighbours=NEIGHBOURS, seeds=range(4), **more):
        return [compare(made_up_rounds(seed, busy=busy, **more), 1.01).verdict
                for busy in neighbours for seed in seeds]

    def test_percentile(self):
        self.assertEqual(low_end([5.0]), 5.0)
        self.assertEqual(low_end(range(20, -1, -1)), 2)
        self.assertAlmostEqual(low_end([20, 10]), 11)
        self.assertEqual(percentile([1, 2, 4], 1), 4)

    def test_neighbours_do_not_matter(self):
        self.assertEqual(set(self.verdicts()), {"met"})

    def test_slowdown_shows_through_neighbours(self):
        self.assertEqual(set(self.verdicts(slowdown=0.02)), {"missed"})

    def test_medians_would_not_do(self):
        disturbed = compare(made_up_rounds(1, busy=(0, 0.8)), 1.01)
        self.assertGreater(disturbed.median_ms[1], 1.2 * disturbed.median_ms[0])
        self.assertAlmostEqual(disturbed.ratio, 1, delta=0.01)

    def test_nearly_always_disturbed(self):
        # So little is left of the low end that it may cost the verdict, but never turns it round.
        nearly_always = (0.8, 0), (0, 0.8), (0.8, 0.8)
        self.assertNotIn("missed", self.verdicts(nearly_always))
        self.assertNotIn("met", self.verdicts(nearly_always, slowdown=0.02))

    def test_doubt(self):
        # At the limit itself, and where one start differs far more from the next than is asked.
        for doubtful in ({"slowdown": 0.01}, {"starts": 0.03}):
            found = self.verdicts([(0.5, 0.5)], range(20), **doubtful)
            self.assertGreaterEqual(found.count("not shown"), 15, doubtful)

    def test_too_few_rounds(self):
        for slowdown in (-0.02, 0, 0.02, 0.5):
            for rounds in range(1, LEAST_ROUNDS):
                found = compare(made_up_rounds(1, slowdown, rounds), 1.01)
                self.assertEqual((found.verdict, found.interval), ("not shown", None))
        self.assertEqual(compare(made_up_rounds(1, 0.5, LEAST_ROUNDS), 1.01).verdict, "missed")
        self.assertEqual(compare(made_up_rounds(1, -0.5, LEAST_ROUNDS), 1.01).verdict, "met")

    def test_sides_stay_together(self):
        # The machine's own drift, the same for both sides of a round, must not widen the interval.
        drift = [([10.0 * f] * 20, [10.05 * f] * 20) for f in (1, 2, 1.5, 3, 1.2, 5, 1, 1.1, 4)]
        found = compare(drift, 1.01)
        self.assertEqual(found.verdict, "met")
        for end in found.interval:
            self.assertAlmostEqual(end, 1.005)

    def test_same_every_time(self):
        rounds = made_up_rounds(3)
        self.assertEqual(compare(rounds, 1.01), compare(rounds, 1.01))
        low, high = compare(rounds, 1.01).interval
        self.assertLess(low, compare(rounds, 1.01).ratio)
        self.assertGreater(high, compare(rounds, 1.01).ratio)

    def test_cells(self):
        steady = [([10.0, 10.0, 12.0], [10.2, 10.2, 10.2])]
        self.assertEqual(compare(steady, 1.01).cells(), (
            "10.000 ms (median 10.000)", "10.200 ms (+2.00 %; median 10.200)"))
        self.assertEqual(compare(steady * 6, 1.01).cells()[1],
                         "10.200 ms (+2.00 %, 95 % +2.00 to +2.00; median 10.200)")


class Again(unittest.TestCase):
    """tests/bench/run --judge on files made up here."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "recorded.json")
        self.repetitions = [{"argv": ["growth"], "flexlom": True, "seconds": 1, "output": "{}"}]
        for name, slowdown in (("torch_decode.py", 0), ("other.py", 0.02)):
            for pair in made_up_rounds(4, slowdown):
                for side in (0, 1):
                    turns = [pair[side][at:at + 15] for at in range(0, STEPS, 15)]
                    self.repetitions.append({"argv": [name], "flexlom": bool(side), "seconds": 1,
                                             "turns": turns, "digest": name})

    def judge(self, *more, text=None):
        with open(self.path, "w") as file:
            file.write(text if text is not None else json.dumps(
                {"driver": {"device": "a GPU", "driver": "1"}, "repetitions": self.repetitions}))
        # Neither a build nor a driver is wanted.
        answer = subprocess.run([sys.executable, os.path.join(HERE, "run"), "--judge", self.path,
                                 "--build", "/nonexistent", *more], capture_output=True, text=True)
        self.assertEqual(answer.stderr, "")
        return answer.returncode, answer.stdout

    def refuses(self, words, **more):
        status, said = self.judge(**more)
        self.assertEqual(status, 1)
        self.assertIn(words, said)
        self.assertNotIn("verdict", said)

    def test_table(self):
        status, said = self.judge()
        self.assertEqual(status, 0)
        self.assertIn("a GPU, driver 1, recorded: 9 rounds of torch_decode.py, 9 rounds of other",
                      said)
        rows = {line.split("  ")[0]: line.split()[-1] for line in said.splitlines()[3:]}
        self.assertEqual(rows, {"PyTorch decode, a token": "met", "other.py": "missed"})
        self.assertEqual(self.judge("--check"), (1, said))
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["recorded.json"])

    def test_refused(self):
        whole = list(self.repetitions)
        self.repetitions = whole[:-1]
        self.refuses("other.py: the last round has one side only")
        self.repetitions = whole[:1] + whole[2:]
        self.refuses("torch_decode.py: bare and flexlom do not take turns")
        self.repetitions = whole[:-1] + [dict(whole[-1], digest="another")]
        self.refuses("other.py: results differ")
        self.repetitions = whole[:-1] + [dict(whole[-1], turns=[[], []])]
        self.refuses("other.py: a side without steps")
        self.repetitions = whole[:-1] + [dict(whole[-1], turns=[[1.0, 0.0]])]
        self.refuses("a step without time")
        self.repetitions = whole[:1]
        self.refuses("no whole program")
        for text in ("", "[]", "7", "{}", '{"driver": {}, "repetitions": [{"turns": [[1]]}]}'):
            self.refuses("not what a run wrote", text=text)


if __name__ == "__main__":
    outcome = unittest.main(exit=False).result
    bad = len(outcome.failures) + len(outcome.errors)
    print(f"{outcome.testsRun - bad - len(outcome.skipped)} passed, {bad} failed, "
          f"{len(outcome.skipped)} skipped")
    sys.exit(1 if bad else 0)
