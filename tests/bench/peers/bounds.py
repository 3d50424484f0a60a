"""What tests/bench/residency computes: reading RESULT lines, limits of the link, MIN of a trace."""
import collections
import math
import re

LISTS = ("times_ms", "live_bytes", "accesses")


def value_of(key, text):
    if key in LISTS:
        return [float(x) if "." in x else int(x) for x in text.split(",") if x]
    if "digest" in key:
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def results_of(out):
    """{phase: {key: value}} of a program's RESULT lines."""
    phases = {}
    for line in re.findall(r"^RESULT (phase=.*)$", out, re.MULTILINE):
        facts = dict(word.split("=", 1) for word in line.split() if "=" in word)
        name = facts.pop("phase")
        phases[name] = {k: value_of(k, v) for k, v in facts.items()}
    return phases


def stats_of(err):
    """flexlom's own counters, of all lines of the process that asked for most: helper processes
    such as compilers may print some too."""
    processes = {}
    for pid, line in re.findall(r"^flexlom\[(\d+)\]: stats: (.*)$", err, re.MULTILINE):
        stats = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)(?!\S)", line)}
        processes.setdefault(pid, {}).update(stats)
    return max(processes.values(), key=lambda s: s.get("asked_peak_bytes", 0), default={})


def same_digest(mine, reference):
    """True, False, or None where the two did not do enough of the same to be compared."""
    if mine.get("digest") and mine.get("iterations") == reference.get("iterations"):
        return mine["digest"] == reference.get("digest")
    if mine.get("head_digest") and mine.get("head") == reference.get("head"):
        return mine["head_digest"] == reference.get("head_digest")
    return None


def ms(bytes_, gb_per_s):
    return bytes_ / gb_per_s / 1e6 if bytes_ > 0 else 0.0


def promoted_at(err):
    """[(ms, bytes promoted so far)] of the lines that flexlom prints every so often, of the process
    that promoted most."""
    moments, so_far = {}, {}
    for pid, line in re.findall(r"^flexlom\[(\d+)\]: stats: (.*)$", err, re.MULTILINE):
        facts = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)(?!\S)", line)}
        so_far[pid] = facts.get("promoted_bytes", so_far.get(pid, 0))
        if "at_ms" in facts:
            moments.setdefault(pid, []).append((facts["at_ms"], so_far[pid]))
    return max(moments.values(), key=lambda m: m[-1][1], default=[])


def rate_of_promotion(moments, round_ms, resident_ms):
    """GB/s over the time that a round takes beyond the resident one. What a round promotes is what
    is promoted in its time at the pace of the middle one of the intervals between two moments:
    before it the first rounds are learned from, after it nothing is left to do."""
    paces = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(moments, moments[1:]) if b[0] > a[0]]
    paces = sorted(p for p in paces if p > 0)
    if not paces or round_ms <= resident_ms:
        return 0.0
    return paces[len(paces) // 2] * round_ms / (round_ms - resident_ms) / 1e6


def decode(resident_ms, over, link):
    return max(resident_ms, ms(over, link["p"]))


def prefill(resident_ms, over, link):
    return resident_ms + ms(over, link["p"])


def train(resident_ms, over, link):
    return resident_ms + ms(2 * over, link["duplex"])


def load(resident_ms, over, link):
    return resident_ms + ms(over, link["frames"] or math.inf)


def growing(resident, budget, link):
    """{iteration: bound} of those iterations after the warm-up that need more than the budget."""
    every = zip(resident["times_ms"], resident["live_bytes"])
    return {i: max(t, ms(live - budget, link["p"])) for i, (t, live) in enumerate(every)
            if i >= resident["warmup"] and live > budget}


def min_misses(accesses, capacity):
    """The fewest accesses outside a store of `capacity` objects of one size, whatever it holds at
    the start, when an object may also be read without being taken in (Belady's MIN)."""
    following, at = [math.inf] * len(accesses), {}
    for i in range(len(accesses) - 1, -1, -1):
        following[i] = at.get(accesses[i], math.inf)
        at[accesses[i]] = i
    # At the start it holds what is used first.
    held = dict(sorted(at.items(), key=lambda item: item[1])[:capacity])
    misses = 0
    for i, name in enumerate(accesses):
        if name in held:
            held[name] = following[i]
            continue
        misses += 1
        if not held:
            continue
        furthest = max(held, key=held.get)
        if held[furthest] > following[i]:
            del held[furthest]
            held[name] = following[i]
    return misses


def fixed_misses(accesses, capacity):
    """The same with the objects held that are asked for most, and no others: the best choice that
    never changes, known only in hindsight."""
    counts = collections.Counter(accesses)
    return len(accesses) - sum(count for _, count in counts.most_common(capacity))
