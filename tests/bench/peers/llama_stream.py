"""llama.py with some layers in pinned host memory, copied ahead of their use into two buffers on
the device: what an expert writes by hand when the weights do not fit.
"""
import copy

import llama
import split
import torch


class Streamed(torch.nn.Module):
    def __init__(self, o):
        super().__init__()
        self.model = llama.skeleton(o)
        self.hosted = split.layers_over(o, self.model)
        # The shells keep the shape of a layer, and stand in for every layer on the host in turn.
        shells = [copy.deepcopy(self.model.blocks[0]) for _ in range(2)]
        self.flats, places = split.divide(o, self.model, self.hosted, split.pinned)
        # What making the weights left in PyTorch's cache is not of the buffers' sizes, and nothing
        # may still run in the memory that another stream now writes.
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        length = split.layout(self.model.blocks[0])[1]
        self.buffers = [torch.empty(length, dtype=torch.float16, device=o.device)
                        for _ in range(2)] if self.hosted else []
        for shell, buffer in zip(shells, self.buffers):
            for name, shape, at in places:
                llama.put(shell, name, split.view(buffer, shape, at))
        self.shells = shells
        self.copying = torch.cuda.Stream()
        self.copied = [torch.cuda.Event() for _ in range(2)]
        self.used = [torch.cuda.Event() for _ in range(2)]
        self.turn = 0  # how many streamed layers have been computed
        for slot in range(2 if self.hosted else 0):
            self.fetch(slot)

    def fetch(self, number):
        """Copies the layer that is the `number`-th to be computed, counted over all passes."""
        slot = number % 2
        with torch.cuda.stream(self.copying):
            self.copying.wait_event(self.used[slot])  # at first not recorded: no wait
            self.buffers[slot].copy_(self.flats[self.hosted[number % len(self.hosted)]],
                                     non_blocking=True)
            self.copied[slot].record(self.copying)

    def forward(self, tokens, cache, start, cos, sin):
        x = self.model.embed(tokens)
        for i, (keys, values) in enumerate(cache):
            if i not in self.flats:
                x = self.model.blocks[i](x, keys, values, start, cos, sin)
                continue
            slot, stream = self.turn % 2, torch.cuda.current_stream()
            stream.wait_event(self.copied[slot])
            x = self.shells[slot](x, keys, values, start, cos, sin)
            self.used[slot].record(stream)
            if len(self.hosted) > 1:  # a single one stays in both buffers
                self.fetch(self.turn + 2)
            self.turn += 1
        return self.model.head(self.model.norm(x[:, -1:]))


if __name__ == "__main__":
    llama.main(Streamed)
