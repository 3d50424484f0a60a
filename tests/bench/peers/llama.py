"""A Llama shape at batch 1 in plain PyTorch, all of it on one GPU: decode, prefill, or one after
the other. Random fp16 weights (the default shape has 11.1 GiB of them), made on the GPU in the
order of the layers from a fixed seed. What it prints is described in work.py.
"""
import argparse
import time

import work
import torch
import torch.nn as nn
import torch.nn.functional as F


ALIGN_ELEMENTS = 128  # 256 bytes, as allocators have it


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", default="decode", choices=["decode", "prefill", "both", "all"],
                        help="both: a prefill and then --follow tokens; all: one phase of each")
    for name, value in (("layers", 32), ("hidden", 4096), ("intermediate", 11008), ("heads", 32),
                        ("kv-heads", 8), ("vocab", 32000), ("prompt", 16), ("length", 2048),
                        ("tokens", 64), ("warmup", 16), ("prefills", 12), ("prefill-warmup", 4),
                        ("rounds", 2), ("follow", 256)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--one-block", action="store_true",
                        help="all weights in one allocation, as programs with arenas have them")
    parser.add_argument("--weights-on-device", type=int, default=0, metavar="BYTES",
                        help="for the programs that keep some weights on the host themselves")
    return parser.parse_args(arguments)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Block(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.kv_heads, self.group = o.kv_heads, o.heads // o.kv_heads
        self.head_width = o.hidden // o.heads
        narrow = o.kv_heads * self.head_width
        self.norm1 = nn.RMSNorm(o.hidden, eps=1e-5)
        self.query = nn.Linear(o.hidden, o.hidden, bias=False)
        self.key = nn.Linear(o.hidden, narrow, bias=False)
        self.value = nn.Linear(o.hidden, narrow, bias=False)
        self.out = nn.Linear(o.hidden, o.hidden, bias=False)
        self.norm2 = nn.RMSNorm(o.hidden, eps=1e-5)
        self.gate = nn.Linear(o.hidden, o.intermediate, bias=False)
        self.up = nn.Linear(o.hidden, o.intermediate, bias=False)
        self.down = nn.Linear(o.intermediate, o.hidden, bias=False)

    def attend(self, q, keys, values):
        """q: (1, kv_heads, group, length, width). One token: the heads of a group are the rows of
        one matrix. Many: a group at a time, which bounds the memory of the scores."""
        if q.shape[3] == 1:
            out = F.scaled_dot_product_attention(q.squeeze(3), keys, values)
            return out.reshape(1, 1, -1)
        parts = []
        for i in range(self.kv_heads):
            shape = (1, self.group, *keys.shape[2:])
            parts.append(F.scaled_dot_product_attention(
                q[:, i], keys[:, i:i + 1].expand(shape), values[:, i:i + 1].expand(shape),
                is_causal=True))
        return torch.cat(parts, dim=1).transpose(1, 2).flatten(2)

    def forward(self, x, keys, values, start, cos, sin):
        length, end = x.shape[1], start + x.shape[1]
        h = self.norm1(x)
        q = self.query(h).view(1, length, -1, self.head_width).transpose(1, 2)
        k = self.key(h).view(1, length, -1, self.head_width).transpose(1, 2)
        v = self.value(h).view(1, length, -1, self.head_width).transpose(1, 2)
        q, k = rotate(q, cos[start:end], sin[start:end]), rotate(k, cos[start:end], sin[start:end])
        keys[:, :, start:end] = k
        values[:, :, start:end] = v
        q = q.unflatten(1, (self.kv_heads, self.group))
        x = x + self.out(self.attend(q, keys[:, :, :end], values[:, :, :end]))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.embed = nn.Embedding(o.vocab, o.hidden)
        self.blocks = nn.ModuleList(Block(o) for _ in range(o.layers))
        self.norm = nn.RMSNorm(o.hidden, eps=1e-5)
        self.head = nn.Linear(o.hidden, o.vocab, bias=False)

    def forward(self, tokens, cache, start, cos, sin):
        x = self.embed(tokens)
        for block, (keys, values) in zip(self.blocks, cache):
            x = block(x, keys, values, start, cos, sin)
        return self.head(self.norm(x[:, -1:]))


def skeleton(o):
    """The model without memory behind its weights."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        with torch.device("meta"):
            return Llama(o).requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def weights(model, device, one_block=False):
    """Every weight, made on the device: (name, tensor), always the same values."""
    generator = torch.Generator(device)
    generator.manual_seed(7)
    parameters = list(model.named_parameters())
    if one_block:
        sizes = [-(-p.numel() // ALIGN_ELEMENTS) * ALIGN_ELEMENTS for _, p in parameters]
        pieces = iter(torch.empty(sum(sizes), dtype=torch.float16, device=device).split(sizes))
    for name, parameter in parameters:
        if one_block:
            tensor = next(pieces)[:parameter.numel()].view(parameter.shape)
        else:
            tensor = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
        if parameter.dim() == 1:
            tensor.fill_(1)
        else:
            tensor.normal_(0, 0.02, generator=generator)
        yield name, tensor


def put(model, name, tensor):
    """Makes `tensor` the weight `name` of the model."""
    path, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(path), leaf, nn.Parameter(tensor, requires_grad=False))


def weight_bytes(model):
    return sum(p.numel() * p.element_size() for p in model.parameters())


def resident(o):
    model = skeleton(o)
    for name, tensor in weights(model, o.device, o.one_block):
        put(model, name, tensor)
    return model


class Session:
    """A model with a cache of keys and values for up to `length` tokens."""

    def __init__(self, model, o, length):
        self.model = model
        width = o.hidden // o.heads
        angles = torch.outer(torch.arange(length, dtype=torch.float64),
                             10000.0 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width))
        self.cos = angles.cos().half().to(o.device)
        self.sin = angles.sin().half().to(o.device)
        shape = (1, o.kv_heads, length, width)
        self.cache = [tuple(torch.zeros(shape, dtype=torch.float16, device=o.device)
                            for _ in range(2)) for _ in range(o.layers)]
        chosen = torch.Generator()
        chosen.manual_seed(3)
        self.text = torch.randint(o.vocab, (1, length), generator=chosen).to(o.device)

    def logits(self, tokens, start):
        return self.model(tokens, self.cache, start, self.cos, self.sin)

    def generate(self, tokens, start, count, phase):
        for _ in range(count):
            with phase.iteration():
                logits = self.logits(tokens, start)
                start += tokens.shape[1]
                tokens = logits[:, -1].argmax(-1, keepdim=True)
                tokens.item()  # waits, as a program that prints its tokens does
            phase.keep(logits, tokens)

    def read(self, length, phase):
        """A prefill; the token that follows."""
        with phase.iteration():
            logits = self.logits(self.text[:, :length], 0)
            token = logits[:, -1].argmax(-1, keepdim=True)
            token.item()
        phase.keep(logits, token)
        return token


def decode(model, o):
    # The same cache for any number of tokens up to 256: its strides are part of the arithmetic.
    session = Session(model, o, o.prompt + max(o.tokens, 256))
    phase = work.Phase("decode", o.warmup)
    session.generate(session.text[:, :o.prompt], 0, o.tokens, phase)
    phase.report()


def prefill(model, o):
    session, phase = Session(model, o, o.length), work.Phase("prefill", o.prefill_warmup)
    for _ in range(o.prefills):
        session.read(o.length, phase)
    phase.report()


def both(model, o):
    session = Session(model, o, o.length + o.follow)
    whole = work.Phase("round", min(1, o.rounds - 1))
    for number in range(o.rounds):
        phases = work.Phase(f"round{number}-prefill"), work.Phase(f"round{number}-decode")
        with whole.iteration():
            token = session.read(o.length, phases[0])
            session.generate(token, o.length, o.follow, phases[1])
        whole.keep(*[t for phase in phases for kept in phase.outputs for t in kept])
        for phase in phases:
            phase.report()
    whole.report(tokens=o.follow)


def main(prepare=resident):
    """`prepare` makes the model from the options: callable with the arguments of Llama.forward."""
    o = parse()
    work.plain_attention()
    with torch.no_grad():
        begin = time.perf_counter()
        model = prepare(o)
        work.synchronize()
        work.result("build", ms=f"{(time.perf_counter() - begin) * 1e3:.1f}",
                    weight_bytes=weight_bytes(skeleton(o)))
        if o.mode in ("decode", "all"):
            decode(model, o)
        if o.mode in ("prefill", "all"):
            prefill(model, o)
        if o.mode == "both":
            both(model, o)
    work.end()


if __name__ == "__main__":
    main()
