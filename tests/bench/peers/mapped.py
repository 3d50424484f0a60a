"""Pinned host memory as a tensor on the device: its kernels read and write it where it lies."""
import torch

TYPES = {torch.float16: "<f2", torch.int32: "<i4"}


class Mapped:
    """By unified addressing the device sees pinned memory at the host's own address."""

    def __init__(self, host):
        self.__cuda_array_interface__ = {
            "shape": tuple(host.shape), "typestr": TYPES[host.dtype],
            "data": (host.data_ptr(), False), "version": 3}


def on_device(host):
    """A view of `host`, which must outlive it."""
    if not host.is_pinned():
        raise ValueError("not pinned")
    tensor = torch.as_tensor(Mapped(host), device="cuda")
    if tensor.data_ptr() != host.data_ptr():
        raise RuntimeError("the view was copied to the device")
    return tensor
