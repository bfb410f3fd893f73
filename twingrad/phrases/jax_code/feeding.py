"""Batches, devices, transfers and memory, in JAX."""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np


def batches(x, y):
    count = len(x) // 2
    return [
        (x[2 * i : 2 * i + 2] * y[2 * i : 2 * i + 2]).sum()
        for i in range(count)
    ]


def shuffled_batches(x):
    def epoch(number):
        order = jax.random.permutation(
            jax.random.fold_in(jax.random.key(0), number), len(x)
        )
        return jnp.concatenate(
            [x[order[i : i + 2]] for i in range(0, len(x), 2)]
        )

    epochs = [epoch(number) for number in range(2)]
    same = jnp.array_equal(*epochs)
    return [jnp.sort(epoch) for epoch in epochs], same


def pad_a_batch(x):
    rows = [x[:2], x[:4], x[:1]]
    longest = max(len(row) for row in rows)
    batch = jnp.stack([jnp.pad(row, (0, longest - len(row))) for row in rows])
    lengths = jnp.array([len(row) for row in rows])
    return batch, jnp.arange(longest) < lengths[:, None]


def to_a_device(x):
    device = jax.devices()[0]
    y = jax.device_put(x, device)
    return jax.device_put(y, jax.devices("cpu")[0]) * 2, y.device == device


def without_copying(x):
    array = np.array(x)  # anything that has __dlpack__
    return jnp.from_dlpack(array)


def bytes_of_an_array(x):
    return x.nbytes, x.dtype.itemsize


def memory_of_the_device(x):
    statistics = x.device.memory_stats()  # None on a CPU
    if statistics is None:
        return x.sum(), True
    return x.sum(), statistics["peak_bytes_in_use"] > 0


def profile(x):
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            total = (x @ x.T).sum().block_until_ready()
        files = [
            file for file in Path(folder).rglob("*.pb") if file.stat().st_size
        ]
        return total, len(files) > 0  # for TensorBoard or XProf
