"""PyTorch: 20 steps of optimizers that take many tensors in one kernel, about 3.5 GiB at the peak.

Each launch gets the addresses of some of its tensors in its parameters and finds the rest by further
launches: foreach and fused AdamW, clipping by the norm of all, a moving average of the weights.
Prints RESULT digest=<sha256 of every norm, weight and average> peak_bytes=<allocator's peak>.
"""
import hashlib

import torch

TENSORS, WIDTH, STEPS = 40, 2048, 20
# Sizes that are no multiple of what a kernel takes at a time, and some that are small.
SHAPES = [(WIDTH, WIDTH + i % 5) if i % 8 else (WIDTH,) for i in range(TENSORS + TENSORS // 8)]


def main():
    torch.manual_seed(3)
    torch.use_deterministic_algorithms(True)
    with torch.device("cuda"):
        weights = [torch.nn.Parameter(torch.randn(shape) / WIDTH ** 0.5) for shape in SHAPES]
    averages = [w.detach().clone() for w in weights]
    optimizers = [torch.optim.AdamW(weights[::2], lr=1e-3, foreach=True),
                  torch.optim.AdamW(weights[1::2], lr=1e-3, fused=True)]
    norms = []
    for w in weights:
        w.grad = torch.empty_like(w)
    for _ in range(STEPS):
        with torch.no_grad():
            gradients = [w.grad for w in weights]
            for gradient in gradients:
                gradient.normal_()
            torch._foreach_add_(gradients, weights, alpha=0.5)
        norms.append(torch.nn.utils.clip_grad_norm_(weights, 1.0, foreach=True))
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(averages, weights, 0.05)
    norms = torch.stack(norms).cpu()
    assert torch.isfinite(norms).all()
    digest = hashlib.sha256(norms.numpy().tobytes())
    for tensor in [*weights, *averages]:
        values = tensor.detach().cpu()
        assert torch.isfinite(values).all()
        digest.update(values.numpy().tobytes())
    print(f"norm {norms[0]:.6f} -> {norms[-1]:.6f}")
    print(f"RESULT digest={digest.hexdigest()} peak_bytes={torch.cuda.max_memory_allocated()}")


main()
