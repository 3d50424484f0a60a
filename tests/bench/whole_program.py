"""Runs a program bare and under flexlom at the same time, in turns, and judges the difference.

Several pairs of processes start together, which takes most of the time; after that only one process
works at a time, a fraction of a second, the two of a pair in turns, so that both see the same clocks
and neighbours. They are bound to the same processors, their first threads to the same one: one that
shares its core with a neighbour would be a matter of luck. The program speaks as take_turns.py does.

Neighbours on a shared machine only ever add time, so the low end of the step times is what the
program itself takes, and the 10th percentile of all steps of a side finds it where medians follow
the neighbours. What differs from one start to the next (addresses, clocks) goes either way and is
the same for all steps of a process, so the doubt is measured by drawing whole rounds, both sides
together, again and again. A cost that flexlom put on some of the steps only would look like a
neighbour and is not seen here, which is why the medians stand beside it.
"""
import dataclasses
import os
import random
import statistics
import subprocess
import tempfile
import threading

CORES = 4
TURNS = 8
LEAST_ROUNDS = 6  # with fewer, the drawn rounds are too few to differ as the next run might
RESAMPLES = 1000
SEED = 1


class Failed(Exception):
    pass


class Side:
    """One of the two processes."""

    def __init__(self, argv, environment, cores):
        self.name = os.path.basename(argv[-1])
        if "LD_PRELOAD" in environment:
            self.name += " under flexlom"
        self.turns = []  # milliseconds of each step, by turn
        self.core = cores[0]
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

    def await_ready(self):
        self.expect("READY")
        # The threads that it has made meanwhile keep all the cores it started with.
        os.sched_setaffinity(self.process.pid, {self.core})

    def take_turn(self):
        try:
            self.process.stdin.write("turn\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended, and how it ended says more
        try:
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

    def steps(self):
        return [t for turn in self.turns for t in turn]


def pairs_together():
    """How many pairs can start at once with all the processors that one could use."""
    return max(1, len(os.sched_getaffinity(0)) // CORES)


def run_pairs(argv, pairs, turns=TURNS, limit_s=300):
    """[(sides, digests)] of one process for each of the two environments of each (environments,
    first) of `pairs`. All start together, a pair on processors of its own, because starting takes
    longer than all the turns; the pairs work one after the other, with all others waiting. `first`
    goes first in the first turn and last in the next, and so on, so that what drifts meets both
    sides alike. `limit_s` is for all of it."""
    cores = sorted(os.sched_getaffinity(0))
    each = min(CORES, max(1, len(cores) // len(pairs)))
    started = []
    too_long = threading.Event()

    def stop():
        too_long.set()
        for side in sides():
            side.process.kill()

    def sides():
        return [side for pair in started for side in pair]

    watchdog = threading.Timer(limit_s, stop)
    watchdog.daemon = True
    try:
        for number, (environments, _) in enumerate(pairs):
            at = len(cores) - each * (number % (len(cores) // each))
            mine = cores[max(0, at - each):at]
            started.append([])
            for environment in environments:
                started[-1].append(Side(argv, environment, mine))
        watchdog.start()
        for side in sides():
            side.await_ready()
        for pair, (_, first) in zip(started, pairs):
            for turn in range(turns):
                for which in (first, 1 - first) if turn % 2 == 0 else (1 - first, first):
                    pair[which].take_turn()
        # Only now may any of them end: that, too, is work.
        return [(pair, [side.finish() for side in pair]) for pair in started]
    except Failed:
        if too_long.is_set():
            raise Failed(f"{started[0][0].name}: no end after {limit_s} s") from None
        raise
    finally:
        watchdog.cancel()
        for side in sides():
            side.kill()


def run_pair(argv, environments, turns=TURNS, first=0, limit_s=300):
    """(sides, digests) of one pair by itself."""
    return run_pairs(argv, [(environments, first)], turns, limit_s)[0]


def percentile(times, share):
    """Of sorted times, with `share` of them (0 to 1) below; between two of them, in proportion."""
    whole, part = divmod(share * (len(times) - 1), 1)
    below = times[int(whole)]
    return below + part * (times[int(whole) + 1] - below) if part else below


def low_end(times):
    return percentile(sorted(times), 0.10)


def ratio_of(rounds):
    """flexlom to bare, all rounds in one heap: a round disturbed from end to end has no say."""
    bare, flexlom = ([t for pair in rounds for t in pair[side]] for side in (0, 1))
    return low_end(flexlom) / low_end(bare)


def draw_interval(rounds):
    """Where 95 % of the ratios of drawn rounds lie, None below LEAST_ROUNDS; the same every time.
    Each draw has one round fewer than there are: as many would make the interval too narrow, by
    sqrt(1 - 1/n), which counts with so few. 95 % is exact for many rounds only; of nine with noise
    made up in several ways, 89 to 98 % held the truth."""
    if len(rounds) < LEAST_ROUNDS:
        return None
    draws = random.Random(SEED)
    in_order = [tuple(sorted(steps) for steps in pair) for pair in rounds]  # quicker to sort again
    ratios = sorted(ratio_of(draws.choices(in_order, k=len(rounds) - 1))
                    for _ in range(RESAMPLES))
    return percentile(ratios, 0.025), percentile(ratios, 0.975)


@dataclasses.dataclass
class Comparison:
    low_ms: tuple  # of each side: bare, flexlom
    median_ms: tuple
    ratio: float
    interval: tuple
    verdict: str

    def cells(self):
        """What a table says of the bare side, and of flexlom's."""
        bare, mine = (f"{ms:.3f} ms" for ms in self.low_ms)
        bare_median, median = (f"median {ms:.3f}" for ms in self.median_ms)
        change, *interval = (f"{(ratio - 1) * 100:+.2f}"
                             for ratio in (self.ratio, *(self.interval or ())))
        text = f"{change} %"
        if interval:
            text += f", 95 % {interval[0]} to {interval[1]}"
        return f"{bare} ({bare_median})", f"{mine} ({text}; {median})"


def compare(rounds, most):
    """(Steps bare, steps under flexlom) of each round, against the largest ratio that is wanted:
    met when the interval lies within it, missed when it lies above, else not shown."""
    interval = draw_interval(rounds)
    sides = [sorted(t for pair in rounds for t in pair[side]) for side in (0, 1)]
    if interval and interval[1] <= most:
        verdict = "met"
    elif interval and interval[0] > most:
        verdict = "missed"
    else:
        verdict = "not shown"
    return Comparison(tuple(map(low_end, sides)), tuple(map(statistics.median, sides)),
                      ratio_of(rounds), interval, verdict)


def recorded_rounds(repetitions):
    """{program: rounds} of the repetitions of a JSON file that tests/bench/run wrote, where those
    of a round lie next to each other, bare first. Others than of whole programs are passed over."""
    programs, digests = {}, {}
    for one in repetitions:
        if "turns" not in one:
            continue
        name = one["argv"][0]
        steps = [float(t) for turn in one["turns"] for t in turn]
        rounds = programs.setdefault(name, [])
        half = bool(rounds) and len(rounds[-1]) == 1
        if not steps or min(steps) <= 0:
            raise Failed(f"{name}: a side without steps, or a step without time")
        if one["flexlom"] != half:
            raise Failed(f"{name}: bare and flexlom do not take turns")
        if digests.setdefault(name, one["digest"]) != one["digest"]:
            raise Failed(f"{name}: results differ between runs")
        if half:
            rounds[-1] += (steps,)
        else:
            rounds.append((steps,))
    for name, rounds in programs.items():
        if len(rounds[-1]) == 1:
            raise Failed(f"{name}: the last round has one side only")
    return programs
