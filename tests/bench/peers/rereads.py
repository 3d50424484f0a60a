"""Products with large matrices in plain PyTorch, all of them on one GPU: each reads its matrix
several times over, one after the other, round after round, and nothing ever writes one. Beside it a
second thread submits small work of its own and notes how long each call takes. See work.py for the
rest.
"""
import argparse
import threading
import time

import work
import torch


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("count", 32), ("inner", 8192), ("columns", 16384), ("rows", 4096),
                        ("rounds", 64), ("warmup", 8)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--device", default="cuda")
    o = parser.parse_args()
    if o.small:
        o.count, o.inner, o.columns, o.rows, o.rounds, o.warmup = 8, 512, 1024, 256, 6, 2
    return o


class Beside:
    """A thread with a stream of its own: a small kernel a millisecond, while it is in use."""

    def __init__(self, device):
        self.device, self.done, self.calls_us = device, threading.Event(), []
        self.thread = threading.Thread(target=self.submit)

    def submit(self):
        counter = torch.zeros(64, device=self.device)
        stream = torch.cuda.Stream() if self.device == "cuda" else None
        with torch.cuda.stream(stream):
            while not self.done.wait(0.001):
                begin = time.perf_counter()
                counter.add_(1)
                self.calls_us.append((time.perf_counter() - begin) * 1e6)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def percentile(self, share):
        calls = sorted(self.calls_us)
        return calls[min(int(len(calls) * share), len(calls) - 1)] if calls else 0.0


def main():
    o = parse()
    generator = torch.Generator(o.device)
    generator.manual_seed(3)

    def matrix(rows, columns):
        tensor = torch.empty(rows, columns, dtype=torch.float16, device=o.device)
        return tensor.normal_(0, 0.02, generator=generator)
    with torch.no_grad():
        begin = time.perf_counter()
        matrices = [matrix(o.inner, o.columns) for _ in range(o.count)]
        x = matrix(o.rows, o.inner)
        out = torch.empty(o.rows, o.columns, dtype=torch.float16, device=o.device)
        work.synchronize()
        work.result("build", ms=f"{(time.perf_counter() - begin) * 1e3:.1f}",
                    weight_bytes=sum(m.numel() * m.element_size() for m in matrices))
        phase = work.Phase("rereads", o.warmup)
        with Beside(o.device) as beside:
            for number in range(o.rounds):
                with phase.iteration():
                    for m in matrices:
                        torch.mm(x, m, out=out)
                if number == o.warmup:
                    beside.calls_us.clear()
                phase.keep(out[:: max(1, o.rows // 64)].clone())
        phase.report(calls=len(beside.calls_us), call_p50_us=f"{beside.percentile(0.5):.1f}",
                     call_p99_us=f"{beside.percentile(0.99):.1f}")
    work.end()


if __name__ == "__main__":
    main()
