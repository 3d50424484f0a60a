"""Random rows out of one big table in plain PyTorch, all of it on one GPU: rows of 16 bytes and of
512 bytes, every row as likely as any other. See work.py for what is printed.
"""
import argparse
import time

import work
import torch

PIECE = 1 << 24  # elements filled at a time
ROWS = {"rows16": (4, 1 << 20), "rows512": (128, 1 << 18)}  # elements a row, rows gathered


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("gib", 8), ("iterations", 60), ("warmup", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--weights-on-device", type=int, default=0, metavar="BYTES",
                        help="for the program that splits the table itself")
    o = parser.parse_args()
    o.elements = (1 << 26) if o.small else o.gib << 28
    return o


def fill(pieces, device):
    """Always the same values, whatever the pieces are parts of."""
    generator = torch.Generator(device)
    generator.manual_seed(7)
    made = torch.empty(PIECE, dtype=torch.int32, device=device)
    for piece in pieces:
        made.random_(generator=generator)
        piece.copy_(made)


class Whole:
    def __init__(self, o):
        self.table = torch.empty(o.elements, dtype=torch.int32, device=o.device)
        fill(self.table.split(PIECE), o.device)

    def gather(self, width, rows, out):
        torch.index_select(self.table.view(-1, width), 0, rows, out=out)


def measure(table, o, name):
    width, count = ROWS[name]
    generator = torch.Generator(o.device)
    generator.manual_seed(width)
    out = torch.empty(count, width, dtype=torch.int32, device=o.device)
    phase = work.Phase(name, o.warmup)
    for _ in range(o.iterations):
        rows = torch.randint(o.elements // width, (count,), generator=generator, device=o.device)
        work.synchronize()
        with phase.iteration():
            table.gather(width, rows, out)
        phase.keep(out.sum(dtype=torch.int64), out[:16].clone())
    phase.report()


def main(prepare=Whole):
    o = parse()
    begin = time.perf_counter()
    table = prepare(o)
    work.synchronize()
    work.result("build", ms=f"{(time.perf_counter() - begin) * 1e3:.1f}",
                weight_bytes=o.elements * 4)
    for name in ROWS:
        measure(table, o, name)
    work.end()


if __name__ == "__main__":
    main()
