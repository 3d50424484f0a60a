"""JAX: 20 jitted training steps of a wide MLP, about 5 GiB, with whatever allocator settings the
environment holds (XLA_PYTHON_CLIENT_PREALLOCATE, XLA_PYTHON_CLIENT_MEM_FRACTION).

Prints RESULT digest=<sha256 of every loss and the final weights> peak_bytes=<peak in use>.
"""
import hashlib
import os

# Timing-based choice of algorithms would make two runs differ in their last bits.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_gpu_exclude_nondeterministic_ops=true --xla_gpu_autotune_level=0")
import jax
import jax.numpy as jnp
import numpy

WIDTH, LAYERS, BATCH, STEPS = 4096, 12, 4096, 20


def loss_of(weights, x, y):
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.mean((x - y) ** 2)


@jax.jit
def step(weights, momentum, x, y):
    loss, gradients = jax.value_and_grad(loss_of)(weights, x, y)
    momentum = [0.9 * m + g for m, g in zip(momentum, gradients)]
    weights = [w - 0.1 * m for w, m in zip(weights, momentum)]
    return weights, momentum, loss


def main():
    assert jax.devices()[0].platform == "gpu", jax.devices()
    keys = jax.random.split(jax.random.key(4), LAYERS + 2)
    weights = [jax.random.normal(k, (WIDTH, WIDTH)) / WIDTH**0.5 for k in keys[:LAYERS]]
    momentum = [jnp.zeros((WIDTH, WIDTH)) for _ in weights]
    x = jax.random.normal(keys[-2], (BATCH, WIDTH))
    y = jnp.tanh(jax.random.normal(keys[-1], (BATCH, WIDTH)))
    digest = hashlib.sha256()
    for _ in range(STEPS):
        weights, momentum, loss = step(weights, momentum, x, y)
        loss = numpy.asarray(loss)
        assert numpy.isfinite(loss)
        digest.update(loss.tobytes())
    for w in weights:
        digest.update(numpy.asarray(w).tobytes())
    stats = jax.devices()[0].memory_stats() or {}
    print(f"loss {float(loss):.6f}")
    print(f"RESULT digest={digest.hexdigest()} peak_bytes={stats.get('peak_bytes_in_use', 0)}")


main()
