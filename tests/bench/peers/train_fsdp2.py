"""train.py with FSDP2 and its CPUOffloadPolicy, in a world of one: weights, gradients and optimizer
states lie in pinned host memory, the optimizer runs on the processor.
"""
import os

# One process, and perhaps no network.
os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
import train
import torch
import torch.distributed as dist
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard


class Sharded:
    def __init__(self, o):
        torch.cuda.set_device(0)
        dist.init_process_group("cpu:gloo,cuda:nccl", store=dist.HashStore(), rank=0, world_size=1)
        self.model = train.build(o)
        options = {"offload_policy": CPUOffloadPolicy(pin_memory=True),
                   "mp_policy": MixedPrecisionPolicy(param_dtype=torch.bfloat16,
                                                     reduce_dtype=torch.float32)}
        for block in self.model.blocks:
            fully_shard(block, **options)
        fully_shard(self.model, **options)
        self.optimizer = None

    def parameters(self):
        """The shards as the plain host tensors that they are."""
        return [p.to_local().detach() for p in self.model.parameters()]

    def update(self):
        # For plain host tensors the optimizer has a fused implementation. It is made late, because
        # FSDP2 may replace the tensors until the first forward pass.
        if self.optimizer is None:
            self.shards = self.parameters()
            self.optimizer = torch.optim.AdamW(self.shards, lr=3e-4, fused=True)
        for shard, parameter in zip(self.shards, self.model.parameters()):
            shard.grad = None if parameter.grad is None else parameter.grad.to_local()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.model.zero_grad(set_to_none=True)


if __name__ == "__main__":
    train.main(Sharded)
    dist.destroy_process_group()
