"""Triton: a row softmax and a blocked matrix product, written as kernels, checked against PyTorch.

Prints one line: RESULT digest=<sha256 of samples of both results> peak_bytes=<peak allocated>.
"""
import hashlib

import torch
import triton
import triton.language as tl

ROWS, COLUMNS, SIDE = 65536, 4096, 8192


@triton.jit
def softmax_rows(out, x, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    values = tl.load(x + row * columns + at, mask=at < columns, other=-float("inf"))
    values = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row * columns + at, values / tl.sum(values, axis=0), mask=at < columns)


@triton.jit
def matmul(a, b, c, side, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    rows = tl.program_id(0) * M + tl.arange(0, M)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    total = tl.zeros((M, N), dtype=tl.float32)
    for start in range(0, side, K):
        k = start + tl.arange(0, K)
        total = tl.dot(tl.load(a + rows[:, None] * side + k[None, :]),
                       tl.load(b + k[:, None] * side + columns[None, :]), total)
    tl.store(c + rows[:, None] * side + columns[None, :], total.to(tl.float16))


def main():
    torch.manual_seed(5)
    x = torch.randn(ROWS, COLUMNS, device="cuda")
    out = torch.empty_like(x)
    softmax_rows[(ROWS,)](out, x, COLUMNS, BLOCK=4096, num_warps=8)
    assert (out[:512] - torch.softmax(x[:512], 1)).abs().max() < 1e-5

    a = torch.randn(SIDE, SIDE, device="cuda", dtype=torch.float16) / SIDE**0.5
    b = torch.randn(SIDE, SIDE, device="cuda", dtype=torch.float16)
    c = torch.empty_like(a)
    matmul[(SIDE // 128, SIDE // 128)](a, b, c, SIDE, M=128, N=128, K=32, num_warps=8)
    assert (c[:256].float() - (a[:256] @ b).float()).abs().max() < 0.05

    digest = hashlib.sha256()
    for result in (out, c):
        digest.update(result.flatten()[::97].cpu().numpy().tobytes())
        total = result.flatten().view(torch.int32).sum(dtype=torch.int64)
        digest.update(total.cpu().numpy().tobytes())
    print(f"RESULT digest={digest.hexdigest()} peak_bytes={torch.cuda.max_memory_allocated()}")


main()
