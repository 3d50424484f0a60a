"""Programs whose allocations are hard on an allocator, in plain PyTorch; for tests/bench/replay.

  varying    training a small transformer with another sequence length every step
  lora       a frozen model with low-rank adapters, recomputing activations, lengths varying
  diffusion  a convolutional denoiser over pictures of several sizes
  mixed      PyTorch and CuPy taking turns in one process
"""
import argparse
import os
import random

# Every tensor is an allocation of the driver's: the trace is the program's own demand, not that of
# PyTorch's cache.
os.environ.setdefault("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint


class Layer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (-1, 64)).transpose(1, 2) for t in (q, k, v))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Adapter(nn.Module):
    """A frozen linear layer and a low-rank change of it."""

    def __init__(self, linear, rank=16):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, linear.in_features, device="cuda") * 0.01)
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank, device="cuda"))

    def forward(self, x):
        return self.linear(x) + F.linear(F.linear(x, self.a), self.b)


def train(layers, optimizer, lengths, width, recompute):
    for length in lengths:
        x = torch.randn(2, length, width, device="cuda")
        for layer in layers:
            x = checkpoint(layer, x, use_reentrant=False) if recompute else layer(x)
        x.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def varying(o, rng):
    width = 2048
    with torch.device("cuda"):
        layers = nn.ModuleList(Layer(width) for _ in range(24))
    lengths = [rng.randrange(64, 2048) for _ in range(o.steps)]
    train(layers, torch.optim.AdamW(layers.parameters(), lr=1e-4), lengths, width, False)


def lora(o, rng):
    width = 4096
    with torch.device("cuda"):
        layers = nn.ModuleList(Layer(width) for _ in range(16)).requires_grad_(False)
    for layer in layers:
        for name in ("qkv", "out", "up", "down"):
            setattr(layer, name, Adapter(getattr(layer, name)))
    chosen = [p for p in layers.parameters() if p.requires_grad]
    lengths = [rng.randrange(128, 3072) for _ in range(o.steps)]
    train(layers, torch.optim.AdamW(chosen, lr=1e-4), lengths, width, True)


def diffusion(o, rng):
    width = 320
    first = nn.Conv2d(4, width, 3, padding=1).cuda()
    downs = nn.ModuleList([nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
                           nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)]).cuda()
    ups = nn.ModuleList([nn.Conv2d(6 * width, 2 * width, 3, padding=1),
                         nn.Conv2d(3 * width, width, 3, padding=1)]).cuda()
    last = nn.Conv2d(width, 4, 3, padding=1).cuda()
    with torch.no_grad():
        for _ in range(max(1, o.steps // 4)):
            height, breadth = rng.choice([64, 96, 128, 160]), rng.choice([64, 96, 128, 192])
            x = torch.randn(rng.choice([1, 2, 4]), 4, height * 2, breadth * 2, device="cuda")
            for _ in range(4):
                kept = [first(x)]
                for down in downs:
                    kept.append(down(F.silu(kept[-1])))
                y = kept.pop()
                for up in ups:
                    beside = kept.pop()
                    y = up(torch.cat((F.interpolate(y, size=beside.shape[-2:]), beside), dim=1))
                x = x - 0.1 * last(F.silu(y))


def mixed(o, rng):
    import cupy
    cupy.cuda.set_allocator(None)  # no cache of CuPy's either
    kept = []
    for _ in range(o.steps):
        rows = rng.randrange(256, 32768)
        array = cupy.random.rand(rows, 1024, dtype=cupy.float32)
        tensor = torch.from_dlpack(array)
        kept.append(torch.mm(tensor, tensor.T[:, :rng.randrange(64, min(rows, 16384))]))
        spectrum = cupy.fft.fft(array, axis=1)
        kept.append(torch.from_dlpack(cupy.abs(spectrum)))
        while len(kept) > 12:
            kept.pop(rng.randrange(len(kept)))
    cupy.cuda.runtime.deviceSynchronize()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    works = {f.__name__: f for f in (varying, lora, diffusion, mixed)}
    parser.add_argument("work", choices=list(works))
    parser.add_argument("--steps", type=int, default=20)
    o = parser.parse_args()
    torch.manual_seed(1)
    works[o.work](o, random.Random(5))
    torch.cuda.synchronize()
    print("done", o.work)


if __name__ == "__main__":
    main()
