"""A CUDA graph that needs more memory than there is: each replay multiplies with some matrices six
times over and scales others once, which are larger together. All of it is on one GPU, in plain
PyTorch. Before it comes other work, with the others, so that nothing that is known of that fits the
graph. Without a GPU the same work runs without a graph. See work.py for the rest.
"""
import argparse
import time

import work
import torch


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("scaled", 96), ("factors", 32), ("inner", 4096), ("columns", 8192),
                        ("rows", 512), ("times", 6), ("before", 10), ("replays", 60),
                        ("warmup", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--device", default="cuda")
    o = parser.parse_args()
    if o.small:
        o.scaled, o.factors, o.inner, o.columns, o.rows = 6, 2, 512, 1024, 64
        o.before, o.replays, o.warmup = 2, 6, 2
    return o


class Step:
    def __init__(self, o):
        generator = torch.Generator(o.device)
        generator.manual_seed(3)

        def matrix(rows, columns):
            tensor = torch.empty(rows, columns, dtype=torch.float16, device=o.device)
            return tensor.normal_(0, 0.02, generator=generator)
        self.o = o
        self.scaled = [matrix(o.inner, o.columns) for _ in range(o.scaled)]
        self.factors = [matrix(o.inner, o.columns) for _ in range(o.factors)]
        self.x = matrix(o.rows, o.inner)
        self.sum = torch.zeros(o.rows, o.columns, device=o.device)
        self.product = torch.empty(o.rows, o.columns, dtype=torch.float16, device=o.device)

    def other_work(self):
        for m in self.scaled[: self.o.scaled // 2]:
            torch.mm(self.x, m, out=self.product)

    def step(self):
        self.sum.zero_()
        for _ in range(self.o.times):
            for m in self.factors:
                torch.mm(self.x, m, out=self.product)
                self.sum.add_(self.product)
        for m in self.scaled:
            m.mul_(0.998)

    def outputs(self):
        return [self.sum[:: max(1, self.o.rows // 16)].clone(),
                torch.stack([m[0, :64] for m in self.scaled])]

    def bytes(self):
        return sum(m.numel() * m.element_size() for m in self.scaled + self.factors)


def replay_of(step, device):
    """step.step, as a graph where there are graphs."""
    if device != "cuda":
        return step.step
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step.step()
    return graph.replay


def main():
    o = parse()
    with torch.no_grad():
        begin = time.perf_counter()
        step = Step(o)
        work.synchronize()
        work.result("build", ms=f"{(time.perf_counter() - begin) * 1e3:.1f}",
                    weight_bytes=step.bytes())
        step.other_work()  # before the capture: cuBLAS makes its workspace at first use
        replay = replay_of(step, o.device)
        for _ in range(o.before):
            step.other_work()
        work.synchronize()
        phase = work.Phase("graph", o.warmup)
        for _ in range(o.replays):
            with phase.iteration():
                replay()
            phase.keep(*step.outputs())
        phase.report()
    work.end()


if __name__ == "__main__":
    main()
