"""Decoding with a mixture of experts in plain PyTorch, all of it on one GPU: every expert's weights
are tensors of their own, two experts of a layer see a token, a few are asked far more often than
the rest. The choices are drawn beforehand and printed (accesses=layer * experts + expert, in
order), so that the least that any policy could move can be computed. See work.py for the rest.
"""
import argparse
import itertools
import random
import time

import work
import torch
import torch.nn.functional as F


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("layers", 8), ("experts", 24), ("hidden", 2048), ("intermediate", 4096),
                        ("tokens", 300), ("warmup", 100)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--device", default="cuda")
    o = parser.parse_args()
    if o.small:
        o.layers, o.experts, o.hidden, o.intermediate, o.tokens, o.warmup = 4, 8, 1024, 2048, 40, 8
    return o


def choices(o):
    """[token][layer] -> two experts: popularity falls as 1/rank, another order in every layer, and
    for a while in favour of those chosen lately, as a text that stays with its subject."""
    drawn = random.Random(11)
    ranks = [drawn.sample(range(o.experts), o.experts) for _ in range(o.layers)]
    cumulative = list(itertools.accumulate(1 / (rank + 1) for rank in range(o.experts)))
    previous, tokens = [None] * o.layers, []
    for _ in range(o.tokens):
        for layer in range(o.layers):
            if previous[layer] is not None and drawn.random() < 0.3:
                continue
            pair = []
            while len(pair) < 2:
                expert = drawn.choices(ranks[layer], cum_weights=cumulative)[0]
                if expert not in pair:
                    pair.append(expert)
            previous[layer] = pair
        tokens.append(list(previous))
    return tokens


class Experts:
    def __init__(self, o):
        generator = torch.Generator(o.device)
        generator.manual_seed(7)

        def weight(*shape):
            tensor = torch.empty(shape, dtype=torch.float16, device=o.device)
            return tensor.normal_(0, 0.02, generator=generator)
        self.mix = [weight(o.hidden, o.hidden) for _ in range(o.layers)]
        self.experts = [[(weight(2 * o.intermediate, o.hidden), weight(o.hidden, o.intermediate))
                         for _ in range(o.experts)] for _ in range(o.layers)]
        self.start = weight(1, o.hidden) * 50

    def expert_bytes(self):
        return sum(t.numel() * t.element_size() for t in self.experts[0][0])

    def bytes(self):
        count = len(self.experts) * len(self.experts[0])
        return count * self.expert_bytes() + sum(t.numel() * t.element_size() for t in self.mix)

    def token(self, x, chosen):
        for mix, experts, pair in zip(self.mix, self.experts, chosen):
            h = F.linear(F.layer_norm(x, x.shape[-1:]), mix)
            out = 0
            for number in pair:
                up, down = experts[number]
                gate, value = F.linear(h, up).chunk(2, dim=-1)
                out = out + F.linear(F.silu(gate) * value, down)
            x = x + out / 2
        return x


def main():
    o = parse()
    plan = choices(o)
    with torch.no_grad():
        begin = time.perf_counter()
        model = Experts(o)
        work.synchronize()
        work.result("build", ms=f"{(time.perf_counter() - begin) * 1e3:.1f}",
                    weight_bytes=model.bytes())
        phase, x = work.Phase("moe", o.warmup), model.start
        for chosen in plan:
            with phase.iteration():
                x = F.layer_norm(model.token(x, chosen), x.shape[-1:])
            phase.keep(x)
    accesses = [layer * o.experts + number for chosen in plan
                for layer, pair in enumerate(chosen) for number in pair]
    phase.report(expert_bytes=model.expert_bytes(), accesses=",".join(map(str, accesses)))
    work.end()


if __name__ == "__main__":
    main()
