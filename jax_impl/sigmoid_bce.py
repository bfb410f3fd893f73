"""One neuron in JAX: forward, loss, and the gradient by ``jax.grad``."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jaxtyping import Float


class Neuron(nnx.Module):
    """z = wx + b, a = sigmoid(z), with scalar w and b."""

    def __init__(self) -> None:
        self.w = nnx.Param(jnp.zeros(()))
        self.b = nnx.Param(jnp.zeros(()))

    def logit(self, x: Float[Array, "*N"]) -> Float[Array, "*N"]:
        """The weighted input z, before the sigmoid."""
        return self.w * x + self.b

    def __call__(self, x: Float[Array, "*N"]) -> Float[Array, "*N"]:
        return nnx.sigmoid(self.logit(x))


def loss_fn(
    model: Neuron, x: Float[Array, "*N"], y: Float[Array, "*N"]
) -> tuple[Float[Array, ""], Float[Array, "*N"]]:
    """Mean binary cross-entropy in nats, taken from the logit, and the activation.

    From the logit, the loss stays exact however saturated the sigmoid is. The same written with
    ``jnp.log`` of the activation gives infinity, and NaN for its gradient.
    """
    z = model.logit(x)
    return optax.sigmoid_binary_cross_entropy(z, y).mean(), nnx.sigmoid(z)


def textbook_loss_fn(
    model: Neuron, x: Float[Array, "*N"], y: Float[Array, "*N"]
) -> tuple[Float[Array, ""], Float[Array, "*N"]]:
    """The textbook form, from the activation, which is wrong where a rounds to 0 or 1."""
    a = model(x)
    return -(y * jnp.log(a) + (1 - y) * jnp.log(1 - a)).mean(), a


def graph(model: Neuron, x: Float[Array, "*N"], y: Float[Array, "*N"]) -> str:
    """The jaxpr that JAX traced: one line an equation, from the inputs to the loss."""
    graphdef, state = nnx.split(model)
    jaxpr = jax.make_jaxpr(lambda state: loss_fn(nnx.merge(graphdef, state), x, y)[0])(state)
    return jaxpr.pretty_print(use_color=False)  # str() has colours where stdout is a terminal
