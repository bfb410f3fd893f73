"""Several devices and reproducibility, in JAX."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P


def mean_over_devices(x):
    mesh = jax.make_mesh(
        (1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )

    def mean(part):
        return jax.lax.pmean(part.mean(axis=0), "data")

    return jax.shard_map(mean, mesh=mesh, in_specs=P("data"), out_specs=P())(x)


def data_parallel(x, y, weight):
    mesh = jax.make_mesh(
        (1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    x, y = jax.device_put((x, y), NamedSharding(mesh, P("data")))
    weight = jax.device_put(weight, NamedSharding(mesh, P()))

    @jax.jit  # XLA adds what is needed to average over the devices
    def loss_and_gradient(weight, x, y):
        return jax.value_and_grad(lambda w: jnp.square(x @ w.T - y).mean())(
            weight
        )

    return loss_and_gradient(weight, x, y)


def sharded_parameters(x, y, weight):
    mesh = jax.make_mesh(
        (1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    x, y = jax.device_put((x, y), NamedSharding(mesh, P("data")))
    weight = jax.device_put(
        weight, NamedSharding(mesh, P("data", None))
    )  # its rows, too

    @jax.jit
    def loss_and_gradient(weight, x, y):
        return jax.value_and_grad(lambda w: jnp.square(x @ w.T - y).mean())(
            weight
        )

    return loss_and_gradient(weight, x, y)


def own_part_of_the_data(x):
    process, processes = 1, 2  # jax.process_index(), jax.process_count()
    return x[process::processes]


def one_process_alone():
    return jax.process_index() == 0, jax.process_count()


def same_bits(x, index):
    # On a GPU set xla_gpu_exclude_nondeterministic_ops in XLA_FLAGS
    runs = [jnp.zeros(3, x.dtype).at[index].add(x) for _ in range(2)]
    return runs[0], jnp.array_equal(*runs)
