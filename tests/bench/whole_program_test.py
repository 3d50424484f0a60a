#!/usr/bin/env python3
"""The comparison of whole programs, with programs made up here instead of PyTorch's."""
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
import textwrap
import types
import unittest
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
from whole_program import Failed, compare, run_pair, sign_interval

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
            self.assertGreaterEqual(sides[0].step_ms(), 5)
            self.assertGreater(sides[1].step_ms(), 1.3 * sides[0].step_ms())
            with open(self.log) as file:
                steps = [line.split() for line in file][2:]  # but for the warm-ups
            os.unlink(self.log)
            self.assertEqual(" ".join(s[0] for s in steps[::4]), order)
            for before, after in zip(steps, steps[1:]):
                self.assertLessEqual(float(before[2]), float(after[1]))
            cores = sorted(os.sched_getaffinity(0))[-4:]
            self.assertEqual({tuple(s[3:]) for s in steps}, {tuple(map(str, cores))})

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
                                      options=types.SimpleNamespace(program_rounds=6))
        bench.python = types.MethodType(run.Bench.python, bench)
        with mock.patch.object(importlib.util, "find_spec", return_value=True):
            for text, verdict in ((STEADY, "missed"), (STEADY.replace("0.010", "0.002"), "met")):
                self.write(text)
                table = run.Table()
                run.whole_program(self.path, "made up")(bench, table, 1)
                self.assertEqual(table.rows[0]["verdict"], verdict)
                self.assertEqual(len(table.rows[0]["ratios"]), 6)
                self.assertIn("quartiles", table.rows[0]["flexlom"])
            self.assertEqual(len(bench.repetitions), 24)
            self.assertEqual({len(r["turns"]) for r in bench.repetitions}, {4})
            self.write(STEADY.replace("return 42", "return side"))
            with self.assertRaisesRegex(Failed, "results differ"):
                run.whole_program(self.path, "made up")(bench, run.Table(), 1)


class Judging(unittest.TestCase):
    def test_interval(self):
        # The usual table of the sign test: order statistics that hold the median with 95 %.
        for n, rank in ((6, 1), (8, 1), (9, 2), (12, 3), (15, 4), (20, 6), (25, 8)):
            self.assertEqual(sign_interval(list(range(n, 0, -1))), (rank, n + 1 - rank))
        for n in range(6):
            self.assertIsNone(sign_interval(list(range(n))))

    def test_verdict(self):
        def verdict(*percents):
            return compare([1 + p / 100 for p in percents], 1.01).verdict
        self.assertEqual(verdict(-.2, -.1, 0, .1, .2, .3, .4, .8, 5), "met")
        self.assertEqual(verdict(-4, -4, -4, -4, -4, -4), "met")
        self.assertEqual(verdict(1.1, 1.2, 1.3, 1.4, 1.5, 1.6), "missed")
        self.assertEqual(verdict(-2.5, -1, 0, .2, .3, .5, .9, 1.2, 2.7), "not shown")
        self.assertEqual(verdict(0, 0, 0, 0, 0), "not shown")
        self.assertEqual(verdict(0), "not shown")

    def test_text(self):
        self.assertEqual(str(compare([1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06], 1.01)),
                         "+3.00 %, quartiles +1.50 to +4.50, 95 % +0.00 to +6.00")
        self.assertEqual(str(compare([.99], 1.01)), "-1.00 %")


if __name__ == "__main__":
    outcome = unittest.main(exit=False).result
    bad = len(outcome.failures) + len(outcome.errors)
    print(f"{outcome.testsRun - bad - len(outcome.skipped)} passed, {bad} failed, "
          f"{len(outcome.skipped)} skipped")
    sys.exit(1 if bad else 0)
