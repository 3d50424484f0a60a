"""Training of a transformer with 1.6 B parameters in plain PyTorch, all of it on one GPU: AdamW
with fp32 weights and states, bf16 autocast, activation checkpointing, 4x1024 tokens a step. About
24.4 GiB at the peak. What it prints is described in work.py; the loss is printed too, for programs
whose arithmetic is another.
"""
import argparse
import time

import work
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("layers", 22), ("hidden", 2048), ("intermediate", 8192), ("heads", 16),
                        ("vocab", 32000), ("batch", 4), ("length", 1024), ("steps", 24),
                        ("warmup", 16)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--weights-on-device", type=int, default=0, metavar="BYTES",
                        help="accepted for the runner's sake")
    return parser.parse_args()


class Block(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.heads = o.heads
        self.norm1 = nn.RMSNorm(o.hidden, eps=1e-5)
        self.qkv = nn.Linear(o.hidden, 3 * o.hidden, bias=False)
        self.out = nn.Linear(o.hidden, o.hidden, bias=False)
        self.norm2 = nn.RMSNorm(o.hidden, eps=1e-5)
        self.gate = nn.Linear(o.hidden, o.intermediate, bias=False)
        self.up = nn.Linear(o.hidden, o.intermediate, bias=False)
        self.down = nn.Linear(o.intermediate, o.hidden, bias=False)

    def forward(self, x):
        return checkpoint(self.compute, x, use_reentrant=False, preserve_rng_state=False)

    def compute(self, x):
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.embed = nn.Embedding(o.vocab, o.hidden)
        self.blocks = nn.ModuleList(Block(o) for _ in range(o.layers))
        self.norm = nn.RMSNorm(o.hidden, eps=1e-5)
        self.head = nn.Linear(o.hidden, o.vocab, bias=False)

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def deterministic():
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cuda.enable_cudnn_sdp(False)


def build(o):
    torch.manual_seed(1)
    with torch.device(o.device):
        return Model(o)


def checksums(parameters):
    """One integer for each, exact whatever the order of adding."""
    return torch.stack([p.detach().contiguous().view(torch.int32).sum(dtype=torch.int64)
                        for p in parameters])


class Resident:
    """The model and its optimizer; FSDP2's has the same methods."""

    def __init__(self, o):
        self.model = build(o)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4, fused=True)

    def update(self):
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def parameters(self):
        return list(self.model.parameters())


def main(prepare=Resident):
    o = parse()
    deterministic()
    begin = time.perf_counter()
    trained = prepare(o)
    work.synchronize()
    work.result("build", ms=f"{(time.perf_counter() - begin) * 1e3:.1f}",
                weight_bytes=sum(p.numel() * p.element_size() for p in trained.parameters()))
    chosen = torch.Generator()
    chosen.manual_seed(5)
    phase, losses = work.Phase("train", o.warmup), []
    for _ in range(o.steps):
        tokens = torch.randint(o.vocab, (o.batch, o.length + 1), generator=chosen).to(o.device)
        with phase.iteration():
            with torch.autocast(o.device, dtype=torch.bfloat16):
                logits = trained.model(tokens[:, :-1])
                loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
            del logits
            loss.backward()
            trained.update()
        losses.append(loss.detach())
        phase.keep(losses[-1])
    phase.keep(checksums(trained.parameters()))
    first, last = losses[0].item(), losses[-1].item()
    phase.report(first_loss=f"{first:.5f}", last_loss=f"{last:.5f}")
    work.end()


if __name__ == "__main__":
    main()
