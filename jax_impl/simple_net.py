"""``SimpleNet`` 10-5-1 in JAX: the smallest network with every step of training in it."""

import jax
import optax
from flax import nnx
from jax import Array
from jaxtyping import Float


class SimpleNet(nnx.Module):
    """Linear 10 to 5, ReLU, Linear 5 to 1, sigmoid."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.fc1 = nnx.Linear(10, 5, rngs=rngs)
        self.fc2 = nnx.Linear(5, 1, rngs=rngs)

    def logits(self, x: Float[Array, "B 10"]) -> Float[Array, "B 1"]:
        """The output before the sigmoid."""
        return self.fc2(nnx.relu(self.fc1(x)))

    def __call__(self, x: Float[Array, "B 10"]) -> Float[Array, "B 1"]:
        return nnx.sigmoid(self.logits(x))


def loss_fn(
    model: SimpleNet, x: Float[Array, "B 10"], y: Float[Array, "B 1"]
) -> tuple[Float[Array, ""], Float[Array, "B 1"]]:
    """Mean binary cross-entropy in nats, taken from the logits, and the probabilities."""
    logits = model.logits(x)
    return optax.sigmoid_binary_cross_entropy(logits, y).mean(), nnx.sigmoid(logits)


def accumulated_gradients(model: SimpleNet, batches: list[tuple[Array, Array]]) -> nnx.State:
    """Gradient of the batches' summed loss: gradients are values, so the sum is written out."""
    gradient = nnx.jit(nnx.grad(loss_fn, has_aux=True))
    total, _ = gradient(model, *batches[0])
    for x, y in batches[1:]:
        grads, _ = gradient(model, x, y)
        total = jax.tree.map(lambda a, b: a + b, total, grads)
    return total


def uncleared_gradients(model: SimpleNet, x: Array, y: Array) -> nnx.State:
    """The gradient of a second step: nothing is left over from the first one to forget."""
    gradient = nnx.jit(nnx.grad(loss_fn, has_aux=True))
    for _ in range(2):
        grads, _ = gradient(model, x, y)
    return grads
