"""gather.py with the table split in two by hand: the first part on the device, the rest in pinned
host memory, which the kernels read where it lies. With all rows equally likely no split of the same
size is better.
"""
import gather
import mapped
import torch


class Split:
    def __init__(self, o):
        inside = min(o.weights_on_device // 4, o.elements) // gather.PIECE * gather.PIECE
        self.device = torch.empty(inside, dtype=torch.int32, device=o.device)
        self.host = torch.empty(o.elements - inside, dtype=torch.int32, pin_memory=True)
        gather.fill([*self.device.split(gather.PIECE), *self.host.split(gather.PIECE)], o.device)
        self.mapped = mapped.on_device(self.host)

    def gather(self, width, rows, out):
        device, host = self.device.view(-1, width), self.mapped.view(-1, width)
        inside = rows < device.shape[0]
        for part, chosen, first in ((device, inside, 0), (host, ~inside, device.shape[0])):
            places = chosen.nonzero().squeeze(1)
            out.index_copy_(0, places, part.index_select(0, rows[places] - first))


if __name__ == "__main__":
    gather.main(Split)
