"""The measured side of whole_program.py: works when it is told to, and says how long it took.

Standard input gives one line a turn. Standard output has a line READY after the warm-up, a line
TURN <milliseconds of each step> a turn, and at the end of the input RESULT digest=<of all results>.
By hand: yes | head -n 4 | python3 tests/bench/torch_decode.py
"""
import hashlib
import sys
import time


def take_turns(step, warmup, settle, counted):
    """step() does one step, waits for its end, and returns its result. A turn's first `settle`
    steps are not timed: until then the other side had the processor's and the GPU's caches."""
    results = [step() for _ in range(warmup)]
    print("READY", flush=True)
    for _ in sys.stdin:
        results += [step() for _ in range(settle)]
        times = []
        for _ in range(counted):
            begin = time.perf_counter()
            results.append(step())
            times.append((time.perf_counter() - begin) * 1e3)
        print("TURN", *(f"{t:.4f}" for t in times), flush=True)
    print(f"RESULT digest={hashlib.sha256(repr(results).encode()).hexdigest()}", flush=True)
