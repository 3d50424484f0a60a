"""llama.py with some layers in pinned host memory, which the kernels read where it lies."""
import llama
import mapped
import split


def prepare(o):
    model = llama.skeleton(o)
    hosted = split.layers_over(o, model)
    flats, places = split.divide(o, model, hosted, split.pinned)
    for i, flat in flats.items():
        seen = mapped.on_device(flat)
        for name, shape, at in places:
            llama.put(model.blocks[i], name, split.view(seen, shape, at))
    model.host_memory = flats  # the views do not own it
    return model


if __name__ == "__main__":
    llama.main(prepare)
