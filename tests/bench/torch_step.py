"""Training-step speed of a 0.4 B parameter transformer, bf16 autocast, AdamW (eager PyTorch).

Takes turns, see take_turns.py.
"""
import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
import torch
import torch.nn.functional as F

from take_turns import take_turns

WIDTH, HEADS, LAYERS, VOCAB, BATCH, LENGTH = 2048, 16, 6, 32000, 8, 512


def main():
    torch.manual_seed(8)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    with torch.device("cuda"):
        embed = torch.nn.Embedding(VOCAB, WIDTH)
        layer = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0,
                                                 activation="gelu", batch_first=True,
                                                 norm_first=True)
        body = torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        head = torch.nn.Linear(WIDTH, VOCAB, bias=False)
        mask = torch.nn.Transformer.generate_square_subsequent_mask(LENGTH)
    model = torch.nn.ModuleList((embed, body, head))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step():
        tokens = torch.randint(VOCAB, (BATCH, LENGTH + 1), device="cuda")
        with torch.autocast("cuda", dtype=torch.bfloat16):
            x = body(embed(tokens[:, :-1]), mask=mask, is_causal=True)
            loss = F.cross_entropy(head(x).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()  # waits for the GPU, as a program that logs its loss does

    take_turns(step, warmup=6, settle=1, counted=3)


main()
