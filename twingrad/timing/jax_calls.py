"""What is timed of a JAX model: its loss, the gradients, a step of its optimizer.

The model is a function of its tensors, whatever kind it is of: compiled by ``jax.jit`` as a whole,
or operation by operation.
"""

from collections.abc import Callable

import jax
import optax

from twingrad import devices, jax_probe
from twingrad.foreign import ModuleCall, Tree, Untyped
from twingrad.jax_models.model import Tensors
from twingrad.live import LivePair
from twingrad.pair import Pair
from twingrad.timing.rounds import Mode, Workload

Step = Callable[[], float]  # -> the loss


class JaxCalls:
    """The JAX model of a pair with PyTorch's numbers, and a function of no arguments for a task."""

    def __init__(self, pair: Pair, dtype: str):
        self.pair = pair
        self.live = LivePair.build(pair, dtype)
        assert isinstance(self.live.jax, jax_probe.Subject)  # a recorded one cannot be timed
        self.subject = self.live.jax
        self.batch = self.subject.batch(self.live.jax_batch)

    def step(self, mode: Mode, workload: Workload) -> Step:
        """The step to time."""
        wrap: ModuleCall = jax.jit if mode == "compiled" else lambda function: function
        subject = self.subject
        moving = {path: x for path, x in subject.tensors.items() if path in subject.trained}
        still = {path: x for path, x in subject.tensors.items() if path not in subject.trained}
        if workload == "forward":
            forward = wrap(self._loss)
            return lambda: _waited(forward(moving, still, self.batch))[0]
        gradients = jax.value_and_grad(self._loss, has_aux=True)
        if workload == "forward and backward":
            both = wrap(gradients)
            return lambda: _waited(both(moving, still, self.batch))[0][0]
        return self._training(wrap, gradients, moving, still)

    def _loss(
        self, moving: Tensors, still: Tensors, batch: tuple[jax.Array, ...]
    ) -> tuple[jax.Array, Tensors]:
        return self.subject.run({**still, **moving}, self.live.jax_loss, batch, None)

    def _training(
        self, wrap: ModuleCall, gradients: ModuleCall, moving: Tensors, still: Tensors
    ) -> Step:
        """A step that goes on from where the last one ended: parameters, state, optimizer."""
        model, optimizer = self.subject.model, self.pair.jax_optimizer

        def updated(
            moving: Tensors, still: Tensors, state: Tree, batch: tuple[jax.Array, ...]
        ) -> tuple[jax.Array, Tensors, Tensors, Tree]:
            (loss, after), gradient = gradients(moving, still, batch)
            params = model.own_tree(moving)
            updates, state = optimizer.update(model.own_tree(gradient), state, params)
            moved = model.by_path(optax.apply_updates(params, updates))
            return loss, moved, {**still, **after}, state

        run = wrap(updated)
        now = [moving, still, optimizer.init(model.own_tree(moving))]

        def step() -> float:
            loss, *now[:] = _waited(run(*now, self.batch))
            return float(loss)

        return step

    def facts(self) -> dict[str, int]:
        """Devices that compute; XLA takes all cores that the process may use."""
        return {"jax_devices": len(jax.devices(devices.current()))}


def _waited(result: Tree) -> Tree:
    """The result once all of it is computed."""
    framework: Untyped = jax
    return framework.block_until_ready(result)
