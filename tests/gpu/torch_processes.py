"""PyTorch on two GPUs from two processes: tensors shared over CUDA IPC, then data-parallel training
over NCCL.

Prints RESULT digest=<sha256 of what either computed> peak_bytes=<allocator's peak of the first>.
"""
import hashlib
import os
import tempfile

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # must be set before cuBLAS starts
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

WIDTH, LAYERS, BATCH, STEPS, SHARED = 4096, 8, 2048, 12, 1 << 22


def share(rank, tensors, turns):
    """Each rank writes into memory of both devices that the other one allocated."""
    own = [torch.arange(SHARED, device=f"cuda:{i}", dtype=torch.int32) * (rank + 3) for i in (0, 1)]
    for tensor in own:
        torch.cuda.synchronize(tensor.device)
    tensors[rank].put(own)
    others = tensors[1 - rank].get()
    for tensor in others:
        tensor.mul_(2)
        tensor[::2] += rank + 1
        torch.cuda.synchronize(tensor.device)
    turns.wait()
    results = [tensor.cpu() for tensor in own + others]
    turns.wait()  # before anything of it is freed
    del others
    turns.wait()
    return results


def train(rank):
    torch.manual_seed(1)
    device = torch.device("cuda", rank)
    model = torch.nn.Sequential(*[torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.GELU())
                                  for _ in range(LAYERS)]).to(device)
    parallel = torch.nn.parallel.DistributedDataParallel(model, device_ids=[rank])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    generator = torch.Generator(device).manual_seed(rank)
    for _ in range(STEPS):
        x = torch.randn(BATCH, WIDTH, device=device, generator=generator)
        loss = F.mse_loss(parallel(x), x)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert torch.isfinite(loss)
    gathered = [torch.empty_like(loss) for _ in range(2)]
    dist.all_gather(gathered, loss.detach())
    return [torch.stack(gathered).cpu(), *[p.detach().cpu() for p in model.parameters()]]


def work(rank, store, tensors, turns, answers):
    torch.cuda.set_device(rank)
    torch.use_deterministic_algorithms(True)
    digest = hashlib.sha256()
    for tensor in share(rank, tensors, turns):
        digest.update(tensor.numpy().tobytes())
    dist.init_process_group("nccl", init_method=f"file://{store}", rank=rank, world_size=2)
    for tensor in train(rank):
        digest.update(tensor.numpy().tobytes())
    answers.put((rank, digest.hexdigest(), torch.cuda.max_memory_allocated(rank)))
    dist.destroy_process_group()


def main():
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        tensors, answers = [context.Queue() for _ in (0, 1)], context.Queue()
        turns = context.Barrier(2)
        mp.spawn(work, (os.path.join(folder, "store"), tensors, turns, answers), nprocs=2)
        results = sorted(answers.get() for _ in (0, 1))
    digest = hashlib.sha256("".join(result[1] for result in results).encode()).hexdigest()
    print(f"RESULT digest={digest} peak_bytes={results[0][2]}")


if __name__ == "__main__":
    main()
