"""Decode speed of a transformer, batch 1, 1.2 B fp16 weights, written plainly (eager PyTorch).

A step is a token, the first one with the prompt. Takes turns, see take_turns.py.
"""
import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
import torch
import torch.nn.functional as F

from take_turns import take_turns

WIDTH, HEADS, LAYERS, VOCAB, PROMPT = 2048, 16, 20, 32000, 256
LONGEST = int(os.environ.get("LONGEST", 512))


class Block(torch.nn.Module):
    def __init__(self, length):
        super().__init__()
        self.norm1, self.norm2 = torch.nn.RMSNorm(WIDTH), torch.nn.RMSNorm(WIDTH)
        self.qkv = torch.nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.proj = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate_up = torch.nn.Linear(WIDTH, 8 * WIDTH, bias=False)
        self.down = torch.nn.Linear(4 * WIDTH, WIDTH, bias=False)
        self.keys = torch.zeros(1, HEADS, length, WIDTH // HEADS)
        self.values = torch.zeros_like(self.keys)

    def forward(self, x, start):
        end = start + x.shape[1]
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        out = F.scaled_dot_product_attention(q, self.keys[:, :, :end], self.values[:, :, :end],
                                             is_causal=start == 0)
        x = x + self.proj(out.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def main():
    torch.manual_seed(7)
    # The fused attention kernels add in an order that changes from run to run, and then so do tokens.
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.set_default_dtype(torch.float16)
    with torch.device("cuda"):
        embed = torch.nn.Embedding(VOCAB, WIDTH)
        blocks = torch.nn.ModuleList(Block(LONGEST) for _ in range(LAYERS))
        head = torch.nn.Linear(WIDTH, VOCAB, bias=False)
        tokens = torch.randint(VOCAB, (1, PROMPT))
    start = 0

    @torch.inference_mode()
    def step():
        nonlocal start, tokens
        x = embed(tokens)
        for block in blocks:
            x = block(x, start)
        start += tokens.shape[1]
        tokens = head(x[:, -1:]).argmax(-1)
        return tokens.item()  # waits for the GPU, as a program that prints tokens does

    take_turns(step, warmup=20, settle=2, counted=8)


main()
