"""PyTorch: green contexts, each a part of the GPU's multiprocessors, about 4 GiB at the peak.

Tensors are made, computed on and freed inside of two green contexts in turn and outside of them; what
is made in one is read in the other and outlives both.
Prints RESULT digest=<sha256 of everything computed> peak_bytes=<allocator's peak>.
"""
import hashlib

import torch
from torch.cuda.green_contexts import GreenContext

BLOCKS, WIDTH, ROUNDS = 16, 4096, 4


def main():
    torch.manual_seed(7)
    torch.use_deterministic_algorithms(True)
    torch.zeros(1, device="cuda")
    outside = [torch.randn(WIDTH, WIDTH, device="cuda") for _ in range(BLOCKS)]
    digest = hashlib.sha256()
    kept = []
    for turn in range(ROUNDS):
        # Of their own in each round: contexts go while memory that was made in them stays.
        for green in (GreenContext.create(num_sms=32, device_id=0),
                      GreenContext.create(num_sms=16, device_id=0)):
            green.set_context()
            made = [torch.randn(WIDTH, WIDTH, device="cuda") for _ in range(BLOCKS)]
            kept = [(a @ b).mul_(1 / WIDTH) for a, b in zip(made, kept or outside)]
            del made
            torch.cuda.empty_cache()
            torch.cuda.synchronize()
            green.pop_context()
            del green
        for mine, theirs in zip(outside, kept):
            mine.lerp_(theirs, 0.25)
        torch.cuda.empty_cache()
        digest.update(torch.stack([t.double().sum() for t in outside]).cpu().numpy().tobytes())
    for tensor in outside + kept:
        values = tensor.cpu()
        assert torch.isfinite(values).all()
        digest.update(values.numpy().tobytes())
    print(f"sum {outside[0].sum():.6f}")
    print(f"RESULT digest={digest.hexdigest()} peak_bytes={torch.cuda.max_memory_allocated()}")


main()
