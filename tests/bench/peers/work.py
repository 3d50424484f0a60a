"""What the programs of this folder share: how they time themselves and what they print.

Every program prints lines of key=value pairs, which tests/bench/residency reads:

  RESULT phase=build ms=... weight_bytes=...
  RESULT phase=NAME iterations=... warmup=... median_ms=... digest=... head=... head_digest=...
         times_ms=first,second,...
  RESULT phase=end peak_bytes=...

The digest covers the outputs of all iterations, head_digest those of the first few, so that a
program that did fewer iterations can still be compared.
"""
import contextlib
import hashlib
import os
import statistics
import time

# Must be set before cuBLAS starts: without it, its choice of a workspace may change its results.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
import torch

HEAD = 4
GIB = 1 << 30


def synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def result(phase, **facts):
    print(f"RESULT phase={phase}", *[f"{k}={v}" for k, v in facts.items()], flush=True)


def end(**facts):
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    result("end", peak_bytes=peak, **facts)


def plain_attention():
    """The written-out attention only: not all fused ones add in the same order every time."""
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)


def bytes_of(tensor):
    flat = tensor.detach().contiguous().view(-1)
    return flat.view(torch.uint8).cpu().numpy().tobytes()


class Phase:
    """Times iterations and keeps their outputs (on the device, so that hashing costs no time)."""

    def __init__(self, name, warmup=0):
        self.name, self.warmup = name, warmup
        self.times_ms, self.outputs = [], []

    @contextlib.contextmanager
    def iteration(self):
        begin = time.perf_counter()
        yield
        synchronize()
        self.times_ms.append((time.perf_counter() - begin) * 1e3)

    def keep(self, *tensors):
        self.outputs.append(tensors)

    def report(self, **facts):
        digest, head = hashlib.sha256(), hashlib.sha256()
        for i, tensors in enumerate(self.outputs):
            for tensor in tensors:
                data = bytes_of(tensor)
                digest.update(data)
                if i < HEAD:
                    head.update(data)
        steady = self.times_ms[min(self.warmup, len(self.times_ms) - 1):]
        result(self.name, iterations=len(self.times_ms), warmup=self.warmup,
               median_ms=f"{statistics.median(steady):.4f}", digest=digest.hexdigest(),
               head=min(HEAD, len(self.outputs)), head_digest=head.hexdigest(), **facts,
               times_ms=",".join(f"{t:.3f}" for t in self.times_ms))
        return digest.hexdigest()
