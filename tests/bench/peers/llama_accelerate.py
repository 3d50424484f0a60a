"""llama.py with the weights that do not fit on the host, moved by Hugging Face accelerate."""
import accelerate
import llama


def device_of(name, device_map):
    """Where the map puts the weight: the entry of its longest prefix."""
    prefixes = [p for p in device_map if p == "" or name == p or name.startswith(p + ".")]
    return device_map[max(prefixes, key=len)]


def prepare(o):
    model = llama.skeleton(o)
    # It keeps room free for one layer by itself, which here comes out of the allowance.
    limit = o.weights_on_device + llama.weight_bytes(model.blocks[0])
    device_map = accelerate.infer_auto_device_map(
        model, max_memory={0: limit, "cpu": 1 << 40}, no_split_module_classes=["Block"])
    for name, tensor in llama.weights(model, o.device):
        llama.put(model, name, tensor.cpu() if device_of(name, device_map) == "cpu" else tensor)
    return accelerate.dispatch_model(model, device_map=device_map, main_device=0)


if __name__ == "__main__":
    llama.main(prepare)
