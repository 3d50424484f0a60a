"""PyTorch on two GPUs from one process: layers on either, activations and gradients go between them.

Prints RESULT digest=<sha256 of every loss and final weight> peak_bytes=<peak of the first device>.
"""
import hashlib
import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # must be set before cuBLAS starts
import torch
import torch.nn.functional as F

WIDTH, LAYERS, BATCH, STEPS = 4096, 12, 4096, 20


def main():
    torch.manual_seed(1)
    torch.use_deterministic_algorithms(True)
    devices = [torch.device("cuda", i) for i in range(2)]
    layers = [torch.nn.Linear(WIDTH, WIDTH, device=devices[i % 2]) for i in range(LAYERS)]
    parameters = [p for layer in layers for p in layer.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    target = torch.randn(BATCH, WIDTH, device=devices[1])
    losses = []
    for step in range(STEPS):
        x = torch.randn(BATCH, WIDTH, device=devices[0])
        for i, layer in enumerate(layers):  # every layer's input comes from the other device
            x = x + F.gelu(layer(x.to(devices[i % 2]))).to(x.device)
        loss = F.mse_loss(x.to(devices[1], non_blocking=True), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
    losses = torch.stack(losses).cpu()
    assert torch.isfinite(losses).all()
    digest = hashlib.sha256(losses.numpy().tobytes())
    for parameter in parameters:
        there = parameter.detach().to(devices[1 - parameter.device.index])
        assert torch.equal(there.cpu(), parameter.detach().cpu())
        digest.update(there.cpu().numpy().tobytes())
    print(f"loss {losses[0]:.6f} -> {losses[-1]:.6f}")
    print(f"RESULT digest={digest.hexdigest()} peak_bytes={torch.cuda.max_memory_allocated(0)}")


main()
