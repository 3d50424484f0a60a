"""Runs a program bare and under flexlom at the same time, in turns, and judges the difference.

Both processes start together, which halves the time that goes into starting; after that only one
of them works at a time, a second or less, so that both see the same clocks and neighbours. They
are bound to the same processors. The program speaks as take_turns.py does.
"""
import dataclasses
import math
import os
import statistics
import subprocess
import tempfile
import threading

CORES = 4
TURNS = 4


class Failed(Exception):
    pass


class Side:
    """One of the two processes."""

    def __init__(self, argv, environment, cores):
        self.name = os.path.basename(argv[-1])
        if "LD_PRELOAD" in environment:
            self.name += " under flexlom"
        self.turns = []  # milliseconds of each step, by turn
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            argv, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors, preexec_fn=lambda: os.sched_setaffinity(0, cores))

    def fail(self, why):
        self.errors.seek(0)
        tail = self.errors.read().strip().splitlines()[-1:]
        raise Failed(": ".join([self.name, why] + tail))

    def expect(self, word):
        """The rest of the next line that begins with `word`; what else it prints is ignored."""
        for line in self.process.stdout:
            found = line.split()
            if found[:1] == [word]:
                return found[1:]
        return self.fail(f"status {self.process.wait()} before a line {word}")

    def take_turn(self):
        try:
            self.process.stdin.write("turn\n")
            self.process.stdin.flush()
            times = [float(t) for t in self.expect("TURN")]
        except (OSError, ValueError) as error:
            self.fail(str(error))
        if not times:
            self.fail("a turn without a step")
        self.turns.append(times)

    def finish(self):
        """The digest of all that it computed."""
        self.process.stdin.close()
        found = self.expect("RESULT")
        if len(found) != 1 or not found[0].startswith("digest="):
            self.fail(f"RESULT {' '.join(found)}")
        if self.process.wait() != 0:
            self.fail(f"status {self.process.returncode}")
        return found[0].removeprefix("digest=")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        try:
            self.process.stdin.close()
        except OSError:
            pass  # it ended with a turn still unread
        self.errors.close()

    def step_ms(self):
        return statistics.median(t for turn in self.turns for t in turn)


def run_pair(argv, environments, turns=TURNS, first=0, limit_s=300):
    """(sides, digests) of one process for each of the two environments. `first` goes first in the
    first turn and last in the next, and so on, so that what drifts meets both alike."""
    cores = sorted(os.sched_getaffinity(0))[-CORES:]
    sides = []
    too_long = threading.Event()

    def stop():
        too_long.set()
        for side in sides:
            side.process.kill()

    watchdog = threading.Timer(limit_s, stop)
    watchdog.daemon = True
    try:
        for environment in environments:
            sides.append(Side(argv, environment, cores))
        watchdog.start()
        for side in sides:
            side.expect("READY")
        for turn in range(turns):
            for which in (first, 1 - first) if turn % 2 == 0 else (1 - first, first):
                sides[which].take_turn()
        return sides, [side.finish() for side in sides]
    except Failed:
        if too_long.is_set():
            raise Failed(f"{sides[0].name}: no end after {limit_s} s") from None
        raise
    finally:
        watchdog.cancel()
        for side in sides:
            side.kill()


def sign_interval(values, confidence=0.95):
    """The values between which the median of all such values lies, at least this surely, whatever
    their distribution (sign test); None when there are too few to say: below 6 for 95 %."""
    n, ordered, outside, best = len(values), sorted(values), 0, None
    for k in range((n + 1) // 2):
        outside += 2 * math.comb(n, k) / 2**n
        if outside > 1 - confidence:
            break
        best = ordered[k], ordered[n - 1 - k]
    return best


@dataclasses.dataclass
class Comparison:
    median: float
    quartiles: tuple
    interval: tuple
    verdict: str

    def __str__(self):
        def percent(ratio):
            return f"{(ratio - 1) * 100:+.2f}"
        text = f"{percent(self.median)} %"
        if self.quartiles:
            text += f", quartiles {percent(self.quartiles[0])} to {percent(self.quartiles[1])}"
        if self.interval:
            text += f", 95 % {percent(self.interval[0])} to {percent(self.interval[1])}"
        return text


def compare(ratios, most):
    """Ratios of flexlom to bare, one a round, against the largest that is wanted: met when the
    interval of their median lies within it, missed when it lies above, else not shown."""
    interval = sign_interval(ratios)
    quartiles = ()
    if len(ratios) > 1:
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        quartiles = low, high
    if interval and interval[1] <= most:
        verdict = "met"
    elif interval and interval[0] > most:
        verdict = "missed"
    else:
        verdict = "not shown"
    return Comparison(statistics.median(ratios), quartiles, interval, verdict)
