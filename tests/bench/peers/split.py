"""Weights of a Llama divided between device and pinned host memory, for the peers of llama.py."""
import llama
import torch


def host_layers(layers, count):
    """`count` of the layers, spread evenly over the pass, so that transfers can hide behind all."""
    return [i for i in range(layers) if (i + 1) * count // layers > i * count // layers]


def layers_over(o, model):
    """Which layers must lie on the host for the weights to keep to --weights-on-device."""
    whole, layer = llama.weight_bytes(model), llama.weight_bytes(model.blocks[0])
    over = max(0, whole - o.weights_on_device)
    return host_layers(o.layers, min(o.layers, -(-over // layer)))


def layout(block):
    """[(name, shape, first element)] of a layer's weights in one flat tensor, and its length.
    Every weight begins at a multiple of 512 bytes, as allocations of their own would."""
    places, at = [], 0
    for name, parameter in block.named_parameters():
        places.append((name, parameter.shape, at))
        at += -(-parameter.numel() // 256) * 256
    return places, at


def view(flat, shape, at):
    return flat[at:at + shape.numel()].view(shape)


def divide(o, model, hosted, new_host):
    """Makes all weights; those of the layers in `hosted` go into flat host tensors, one for each
    layer, from `new_host`. The others become the model's own. {layer: host tensor}"""
    places, length = layout(model.blocks[0])
    flats = {i: new_host(length) for i in hosted}
    where = {name: (shape, at) for name, shape, at in places}
    for name, tensor in llama.weights(model, o.device):
        parts = name.split(".", 2)
        if parts[0] == "blocks" and int(parts[1]) in flats:
            view(flats[int(parts[1])], *where[parts[2]]).copy_(tensor)
        else:
            llama.put(model, name, tensor)
    return flats, places


def pinned(length):
    return torch.empty(length, dtype=torch.float16, pin_memory=True)
