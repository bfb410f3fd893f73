"""Modules, parameters and buffers, in JAX with Flax NNX."""

import jax
import jax.numpy as jnp
from flax import nnx


def linear(x, weight, bias):
    layer = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    layer.kernel, layer.bias = nnx.Param(weight.T), nnx.Param(bias)
    return layer(x)


def own_module(x, scale):
    class Scale(nnx.Module):
        def __init__(self, scale):
            self.scale = nnx.Param(scale)

        def __call__(self, x):
            return x * self.scale

    model = Scale(scale)
    gradients = nnx.grad(lambda model: jnp.square(model(x)).sum())(model)
    return model(x), gradients["scale"][...]


def list_of_layers(x, weights):
    class Stack(nnx.Module):
        def __init__(self, weights, rngs):
            self.layers = nnx.List(
                nnx.Linear(3, 3, use_bias=False, rngs=rngs) for _ in weights
            )
            for layer, weight in zip(self.layers, weights, strict=True):
                layer.kernel = nnx.Param(weight.T)

        def __call__(self, x):
            for layer in self.layers:
                x = nnx.relu(layer(x))
            return x

    return Stack(weights, nnx.Rngs(0))(x)


def sequential(x, weight):
    model = nnx.Sequential(
        nnx.Linear(3, 3, use_bias=False, rngs=nnx.Rngs(0)), jnp.tanh
    )
    model.layers[0].kernel = nnx.Param(weight.T)
    return model(x)


def buffer(x):
    class Buffer(nnx.Variable):
        pass

    class Running(nnx.Module):
        def __init__(self):
            self.mean = Buffer(jnp.zeros(3))

        def __call__(self, x):
            self.mean[...] = 0.9 * self.mean + 0.1 * x.mean(0)
            return x - self.mean

    model = Running()
    model(x)
    return (
        model(x),
        model.mean[...],
        len(jax.tree.leaves(nnx.state(model, nnx.Param))),
    )


def shared_weights(tokens, table):
    class Tied(nnx.Module):
        def __init__(self, table, rngs):
            self.embed = nnx.Embed(5, 3, dtype=table.dtype, rngs=rngs)
            self.embed.embedding = nnx.Param(table)

        def __call__(self, tokens):
            return self.embed.attend(self.embed(tokens))

    model = Tied(table, nnx.Rngs(0))
    gradients = nnx.grad(lambda model: jnp.square(model(tokens)).sum())(model)
    parameters = jax.tree.leaves(nnx.state(model, nnx.Param))
    return model(tokens), gradients["embed"]["embedding"][...], len(parameters)


def initialise():
    initializer = nnx.initializers.xavier_uniform()
    layer = nnx.Linear(
        400,
        300,
        kernel_init=initializer,
        param_dtype=jnp.float64,
        rngs=nnx.Rngs(0),
    )
    return (
        layer.kernel[...].std(),
        jnp.abs(layer.kernel[...]).max(),
        jnp.abs(layer.bias[...]).max(),
    )


def freeze(x, first, second):
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Linear(3, 3, use_bias=False, rngs=rngs),
        nnx.Linear(3, 1, use_bias=False, rngs=rngs),
    )
    model.layers[0].kernel, model.layers[1].kernel = (
        nnx.Param(first.T),
        nnx.Param(second.T),
    )
    trained = nnx.All(
        nnx.Param, nnx.Not(lambda path, _: path[:2] == ("layers", 0))
    )

    def loss(model):
        return jnp.square(model(x)).mean()

    gradients = nnx.grad(loss, argnums=nnx.DiffState(0, trained))(model)
    return gradients["layers"][1]["kernel"][...].T, len(
        jax.tree.leaves(gradients)
    )


def intermediates(x, weight):
    class Net(nnx.Module):
        def __init__(self, weight):
            self.weight = nnx.Param(weight.T)

        def __call__(self, x):
            hidden = x @ self.weight
            self.sow(nnx.Intermediate, "hidden", hidden)
            return jnp.tanh(hidden)

    output, seen = nnx.capture(Net(weight), nnx.Intermediate)(x)
    return output, seen["hidden"][0]


def gradient_of_an_intermediate(x, weight):
    def loss(zeros):
        hidden = x @ weight + zeros
        return jnp.tanh(hidden).sum()

    return jax.grad(loss)(jnp.zeros((len(x), weight.shape[1]), x.dtype))


def count_parameters():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Linear(3, 4, rngs=rngs), nnx.LayerNorm(4, rngs=rngs)
    )
    return sum(
        parameter.size
        for parameter in jax.tree.leaves(nnx.state(model, nnx.Param))
    )


def by_name():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)
    )
    named = {
        ".".join(map(str, path[1:])): parameter
        for path, parameter in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }
    return [
        (name, p.ndim) for name, p in named.items() if name.endswith("bias")
    ]


def embedding(tokens, table):
    embed = nnx.Embed(5, 3, dtype=table.dtype, rngs=nnx.Rngs(0))
    embed.embedding = nnx.Param(table)
    gradients = nnx.grad(lambda embed: jnp.square(embed(tokens)).sum())(embed)
    return embed(tokens), gradients["embedding"][...]


def convolution(images, kernel):
    layer = nnx.Conv(2, 3, (3, 3), padding=1, use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel = nnx.Param(
        kernel.transpose(2, 3, 1, 0)
    )  # height, width, in, out
    channels_last = images.transpose(0, 2, 3, 1)
    return layer(channels_last).transpose(0, 3, 1, 2)


def pooling(images):
    x = images.transpose(0, 2, 3, 1)
    largest = nnx.max_pool(x, (2, 2), strides=(2, 2))
    mean = nnx.avg_pool(x, (2, 2), strides=(2, 2))
    return largest.transpose(0, 3, 1, 2), mean.transpose(0, 3, 1, 2)


def resize(images):
    B, C, H, W = images.shape
    return jax.image.resize(images, (B, C, 2 * H, 2 * W), method="bilinear")


def layer_norm(x, scale):
    layer = nnx.LayerNorm(
        3, epsilon=1e-5, use_fast_variance=False, rngs=nnx.Rngs(0)
    )
    layer.scale, layer.bias = nnx.Param(scale), nnx.Param(jnp.zeros(3))
    return layer(x)


def attention(q, k, v):
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # batch, time, heads, size
    return jax.nn.dot_product_attention(q, k, v, is_causal=True).swapaxes(1, 2)


def gelu(x):
    return jax.nn.gelu(x, approximate=False), jax.nn.gelu(x)


def copy_a_model(x):
    model = nnx.Linear(3, 2, param_dtype=x.dtype, rngs=nnx.Rngs(0))
    other = nnx.clone(model)
    other.kernel[...] += 1
    return other(x) - model(x)


def as_a_function(x, weight):
    model = nnx.Linear(3, 2, use_bias=False, rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(model)
    state["kernel"] = nnx.Param(weight.T)
    return nnx.merge(graphdef, state)(x)


def replace_a_layer(x):
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)
    )
    model.layers[1] = nnx.identity
    return tuple(model(x).shape)


def ensemble(x, weights):
    @nnx.vmap
    def make(weight):
        model = nnx.Linear(3, 2, use_bias=False, rngs=nnx.Rngs(0))
        model.kernel = nnx.Param(weight.T)
        return model

    def call(model, x):
        return model(x)

    return nnx.vmap(call, in_axes=(0, None))(make(weights), x)
