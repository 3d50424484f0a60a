"""transformers: a Llama shape of 1.1 B random fp16 weights answers greedily, about 2.5 GiB.

Prints one line: RESULT digest=<sha256 of the tokens and of every step's logits> peak_bytes=<peak>.
"""
import hashlib
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
import torch
from transformers import LlamaConfig, LlamaForCausalLM

PROMPT_TOKENS, NEW_TOKENS = 512, 64


def main():
    torch.manual_seed(2)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # The fused attention kernels add in an order that changes from run to run.
    config = LlamaConfig(attn_implementation="eager", hidden_size=2048, intermediate_size=5632,
                         num_hidden_layers=20, num_attention_heads=16, num_key_value_heads=16, vocab_size=32000,
                         max_position_embeddings=2048, tie_word_embeddings=False)
    torch.set_default_dtype(torch.float16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).eval()
    prompt = torch.randint(3, config.vocab_size, (1, PROMPT_TOKENS), device="cuda")
    with torch.inference_mode():
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                             min_new_tokens=NEW_TOKENS, max_new_tokens=NEW_TOKENS, pad_token_id=0,
                             return_dict_in_generate=True, output_logits=True)
    tokens = out.sequences[:, PROMPT_TOKENS:].cpu()
    assert tokens.numel() == NEW_TOKENS
    digest = hashlib.sha256(tokens.numpy().tobytes())
    for logits in out.logits:
        assert torch.isfinite(logits).all()
        digest.update(logits.cpu().numpy().tobytes())
    print("tokens", tokens[0, :8].tolist())
    print(f"RESULT digest={digest.hexdigest()} peak_bytes={torch.cuda.max_memory_allocated()}")


main()
