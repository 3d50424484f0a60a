"""Trace logs of programs that nobody ran: the allocations that their shapes would make, in order.

What the programs of peers/churn.py ask for, from the sizes of their tensors; so that allocators can
be compared where there is no GPU and no PyTorch. write(name, path) makes the same log every time.
"""
import json
import random

MIB = 1 << 20


class Log:
    """Allocates as a program would: names are tensors, addresses never come twice."""

    def __init__(self, file):
        self.file, self.t, self.next, self.live = file, 1, 0x500000000000, {}
        self.line(kind="header", format=1, version="made-up", t=1, command=["made-up"], devices=[
            {"ordinal": 0, "name": "none", "total_bytes": 140 << 30}])

    def line(self, **fields):
        self.file.write(json.dumps(fields, separators=(",", ":")) + "\n")

    def alloc(self, bytes_):
        bytes_ = max(int(bytes_), 4)
        address, self.next, self.t = self.next, self.next + (bytes_ + 511) // 512 * 512, self.t + 1
        self.line(kind="alloc", t=self.t, device=0, address=hex(address), asked_bytes=bytes_,
                  given_bytes=bytes_, call="cuMemAlloc_v2")
        self.live[address] = bytes_
        return address

    def free(self, *addresses):
        for address in addresses:
            self.t += 1
            self.line(kind="free", t=self.t, device=0, address=hex(address),
                      asked_bytes=self.live.pop(address), call="cuMemFree_v2")


def layer_weights(log, width, each=4):
    return [log.alloc(each * n) for n in (3 * width * width, width * width, 4 * width * width,
                                          4 * width * width, 3 * width, width, 4 * width, width)]


def layer_activations(log, length, width):
    """Of one layer: what is kept for backward, and what is not."""
    kept = [log.alloc(4 * length * width * n) for n in (1, 3, 1, 1, 4, 4)]
    passing = [log.alloc(4 * length * width * n) for n in (1, 4)]
    return kept, passing


def transformer(log, rng, layers, width, steps, lengths, recompute, rank):
    weights = [layer_weights(log, width) for _ in range(layers)]
    trained = [4 * width * rank * n for n in (4, 2, 5, 5)] if rank else None
    sizes = trained or [log.live[w] for w in weights[0]]
    states = [[log.alloc(s) for s in sizes for _ in range(2)] for _ in range(layers)]
    for _ in range(steps):
        length = 2 * rng.randrange(*lengths)
        inputs, kept = [log.alloc(4 * length * width)], []
        for _ in range(layers):
            activations, passing = layer_activations(log, length, width)
            log.free(*passing)
            if recompute:
                log.free(*activations)
            else:
                kept.append(activations)
            inputs.append(log.alloc(4 * length * width))
        gradients, gradient = [], log.alloc(4 * length * width)
        for _ in range(layers):
            if recompute:
                activations, passing = layer_activations(log, length, width)
                log.free(*passing)
            else:
                activations = kept.pop()
            gradients += [log.alloc(s) for s in sizes]
            before, gradient = gradient, log.alloc(4 * length * width)
            log.free(*activations, before, inputs.pop())
        log.free(gradient, *inputs, *gradients)
    for block in weights + states:
        log.free(*block)


def varying(log, rng):
    transformer(log, rng, 24, 2048, 20, (64, 2048), False, 0)


def lora(log, rng):
    transformer(log, rng, 16, 4096, 20, (128, 3072), True, 16)


def diffusion(log, rng):
    weights = [log.alloc(4 * 9 * a * b) for a, b in
               ((4, 320), (320, 640), (640, 1280), (1920, 640), (960, 320), (320, 4))]
    for _ in range(40):
        pixels = 4 * rng.choice([1, 2, 4]) * rng.choice([64, 96, 128, 160]) * 4 * rng.choice(
            [64, 96, 128, 192])
        picture = log.alloc(4 * pixels)
        for _ in range(4):
            down = [log.alloc(pixels * n) for n in (320, 160, 80)]
            up = [log.alloc(pixels * n) for n in (80, 240, 160)]
            log.free(down[2], down[1], *up[:2])
            up += [log.alloc(pixels * n) for n in (160, 480, 320)]
            log.free(down[0], *up[2:])
            picture, before = log.alloc(4 * pixels), picture
            log.free(before)
        log.free(picture)
    log.free(*weights)


def mixed(log, rng):
    kept = []
    for _ in range(400):
        rows = rng.randrange(256, 32768)
        array = log.alloc(4096 * rows)
        kept.append(log.alloc(4 * rows * rng.randrange(64, min(rows, 16384))))
        spectrum = log.alloc(8192 * rows)
        kept.append(log.alloc(4096 * rows))
        kept += [log.alloc(rng.randrange(4, 200_000)) for _ in range(4)]
        log.free(spectrum, array)
        while len(kept) > 36:
            log.free(kept.pop(rng.randrange(len(kept))))
    log.free(*kept)


WORKS = {work.__name__: work for work in (varying, lora, diffusion, mixed)}


def write(name, path):
    with open(path, "w") as file:
        WORKS[name](Log(file), random.Random(5))
