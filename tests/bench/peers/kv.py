"""Decoding for a batch of long contexts in plain PyTorch, all of it on one GPU: few weights, and a
cache of keys and values that grows by a chunk of 512 tokens at a time, each chunk in tensors of its
own, as servers with a paged cache keep it. live_bytes says how much was live at each token. See
work.py for what is printed.
"""
import argparse
import time

import work
import torch
import torch.nn.functional as F


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("layers", 8), ("heads", 16), ("batch", 32), ("chunk", 512),
                        ("chunks", 12), ("tokens", 6), ("warmup", 6)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--device", default="cuda")
    o = parser.parse_args()
    if o.small:
        o.layers, o.batch, o.chunk, o.chunks, o.tokens = 2, 8, 64, 4, 3
    o.width = 128
    o.hidden = o.heads * o.width
    return o


class Cache:
    """Keys and values of one layer: whole chunks, and the tokens decoded since."""

    def __init__(self, o):
        self.o, self.keys, self.values, self.length = o, [], [], 0
        shape = (o.batch, o.heads, o.chunks * o.tokens, o.width)
        self.tail = [torch.zeros(shape, dtype=torch.float16, device=o.device) for _ in range(2)]

    def add_chunk(self, generator):
        for chunks in (self.keys, self.values):
            chunk = torch.empty(self.o.batch, self.o.heads, self.o.chunk, self.o.width,
                                dtype=torch.float16, device=self.o.device)
            chunks.append(chunk.normal_(0, 0.5, generator=generator))

    def append(self, k, v):
        for tail, new in zip(self.tail, (k, v)):
            tail[:, :, self.length:self.length + 1] = new
        self.length += 1

    def attend(self, q):
        keys = [*self.keys, self.tail[0][:, :, :self.length]]
        values = [*self.values, self.tail[1][:, :, :self.length]]
        scores = torch.cat([q @ k.transpose(-1, -2) for k in keys], dim=-1)
        shares = F.softmax(scores.float() / self.o.width ** 0.5, dim=-1).to(q.dtype)
        parts = shares.split([k.shape[2] for k in keys], dim=-1)
        return sum(part @ v for part, v in zip(parts, values))

    def bytes(self):
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values, *self.tail))


class Layer:
    def __init__(self, o, generator):
        def weight(rows):
            tensor = torch.empty(rows, o.hidden, dtype=torch.float16, device=o.device)
            return tensor.normal_(0, 0.02, generator=generator)
        self.o, self.cache = o, Cache(o)
        self.qkv, self.out = weight(3 * o.hidden), weight(o.hidden)

    def forward(self, x):
        qkv = F.linear(F.layer_norm(x, x.shape[-1:]), self.qkv)
        q, k, v = (t.view(self.o.batch, self.o.heads, 1, self.o.width)
                   for t in qkv.chunk(3, dim=-1))
        self.cache.append(k, v)
        return x + F.linear(self.cache.attend(q).flatten(1), self.out)

    def bytes(self):
        return self.cache.bytes() + sum(t.numel() * t.element_size() for t in (self.qkv, self.out))


def main():
    o = parse()
    generator = torch.Generator(o.device)
    generator.manual_seed(7)
    tokens, growth, live = work.Phase("kv", o.warmup), work.Phase("growth"), []
    with torch.no_grad():
        begin = time.perf_counter()
        layers = [Layer(o, generator) for _ in range(o.layers)]
        work.synchronize()
        weight_bytes = sum(layer.bytes() for layer in layers)
        work.result("build", ms=f"{(time.perf_counter() - begin) * 1e3:.1f}",
                    weight_bytes=weight_bytes)
        x = torch.empty(o.batch, o.hidden, dtype=torch.float16, device=o.device)
        x.normal_(generator=generator)
        for _ in range(o.chunks):
            with growth.iteration():
                for layer in layers:
                    layer.cache.add_chunk(generator)
            for _ in range(o.tokens):
                with tokens.iteration():
                    for layer in layers:
                        x = layer.forward(x)
                    x = F.layer_norm(x, x.shape[-1:])
                tokens.keep(x)
                live.append(sum(layer.bytes() for layer in layers))
    growth.report()
    tokens.report(live_bytes=",".join(map(str, live)))
    work.end()


if __name__ == "__main__":
    main()
