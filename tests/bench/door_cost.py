"""What the doors of launches cost a program: they are switched in and out within one process.

python3 tests/bench/door_cost.py PROGRAM.py, with LD_PRELOAD="door_switch.so libflexlom.so" and a
program that takes turns (take_turns.py). Every few steps the doors are switched; neighbouring
stretches see the same processor, clocks, addresses and neighbours, which differ far more between
two processes than what is measured here. Prints one JSON object; see tests/bench/run.
"""
import ctypes
import json
import os
import random
import runpy
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import take_turns

STRETCH = 3  # steps between two switches; the first of them is not timed
RESAMPLES = 2000


def interval(values):
    draws = random.Random(1)
    medians = sorted(statistics.median(draws.choices(values, k=len(values)))
                     for _ in range(RESAMPLES))
    return [medians[int(RESAMPLES * q)] for q in (0.025, 0.975)]


def alternate(step, warmup, settle, counted):
    switch = ctypes.CDLL(None).door_switch
    pairs = int(os.environ.get("DOOR_COST_PAIRS", "200"))
    for _ in range(warmup):
        step()

    def stretch(past):
        if switch(past) <= 0:
            sys.exit("door_cost.py: the program was given no launch call that can be switched")
        step()
        begin = time.perf_counter()
        for _ in range(STRETCH - 1):
            step()
        return (time.perf_counter() - begin) * 1e3 / (STRETCH - 1)

    past, through = [], []
    for number in range(pairs):
        for which in ((1, 0), (0, 1))[number % 2]:
            (past if which else through).append(stretch(which))
    ratios = [b / a - 1 for a, b in zip(past, through)]
    print(json.dumps({"pairs": pairs, "past_ms": statistics.median(past),
                      "through_ms": statistics.median(through),
                      "percent": 100 * statistics.median(ratios),
                      "interval": [100 * v for v in interval(ratios)]}))


if __name__ == "__main__":
    take_turns.take_turns = alternate
    runpy.run_path(sys.argv[1], run_name="__main__")
