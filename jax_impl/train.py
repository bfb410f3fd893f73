"""The training step and loop in JAX: gradients are a value, state goes in and comes out of jit."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jaxtyping import Float, Int

from jax_impl.distributed import ProcessGrid
from jax_impl.dropout import match, set_keys, sites
from jax_impl.gpt2 import GPT2, summed_loss
from jax_impl.optim import Optimizer
from jax_impl.params import compute_in, export_each, import_tensors
from jax_impl.runtime import Runtime
from shared.config import IGNORED, TrainConfig
from shared.params import Params
from shared.train_state import PARTS, Step, TrainState, step_keys

LossFn = Callable[..., tuple[Array, Array]]


def train_step(
    model: nnx.Module, optimizer: Optimizer, loss_fn: LossFn, batch: tuple[Array, ...]
) -> Float[Array, ""]:
    """Forward, loss, backward, update; returns the loss before the update."""
    gradient = nnx.value_and_grad(loss_fn, has_aux=True)
    (loss, _), gradients = gradient(model, *batch)
    optimizer.update(model, gradients)
    return loss


def passes(model: nnx.Module, loss_fn: LossFn) -> tuple[Callable[..., None], Callable[..., None]]:
    """Forward pass, and forward with backward, as functions of a batch that return when done."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss_of(params: nnx.State, *batch: Array) -> Array:
        return loss_fn(nnx.merge(graphdef, params, rest), *batch)[0]

    loss = jax.jit(loss_of)
    gradient = jax.jit(jax.value_and_grad(loss_of))

    def forward(*batch: Array) -> None:
        jax.block_until_ready(loss(params, *batch))

    def forward_backward(*batch: Array) -> None:
        jax.block_until_ready(gradient(params, *batch))

    return forward, forward_backward


def train(
    model: nnx.Module,
    optimizer: Optimizer,
    loss_fn: LossFn,
    batches: Iterable[tuple[Array, ...]],
) -> Float[Array, "N"]:
    """One step a batch; returns the losses, each taken before its update."""
    # jit over split state costs less Python a step than nnx.jit over modules, and donation lets
    # XLA write the new state over the old.
    graphdef, state = nnx.split((model, optimizer))

    @partial(jax.jit, donate_argnums=0)
    def step(state: nnx.State, batch: tuple[Array, ...]) -> tuple[nnx.State, Array]:
        model, optimizer = nnx.merge(graphdef, state)
        loss = train_step(model, optimizer, loss_fn, batch)
        return nnx.state((model, optimizer)), loss

    losses = []
    for batch in batches:
        state, loss = step(state, batch)
        losses.append(loss)
    nnx.update((model, optimizer), state)
    return jnp.stack(losses)


class MasterEmbedding(nnx.Embed):
    """An embedding that rounds rows after the look-up, so that gradients add up in float32.

    Flax's own rounds the whole table first. Adding up in bfloat16 would lose digits, and be slow on
    a GPU.
    """

    def __init__(self, master: nnx.Embed, dtype: jnp.dtype):
        def start(*_: object) -> Array:
            return master.embedding[...]

        sizes = (master.num_embeddings, master.features)
        super().__init__(*sizes, dtype=dtype, embedding_init=start, rngs=nnx.Rngs(0))

    def __call__(self, tokens: Int[Array, "*S"]) -> Float[Array, "*S C"]:
        return jnp.take(self.embedding[...], tokens, axis=0).astype(self.dtype)


class Trainer:
    """A GPT-2 in training: its parameters and moments, and the step that changes them.

    ``model`` is in the dtype of ``runtime.master``. Where the compute dtype is narrower, passes go
    through a copy of it in that dtype.

    In a run of several processes each has a trainer, which takes its own rows of every batch. All
    processes must call the same methods in the same order.
    """

    def __init__(self, model: GPT2, config: TrainConfig, runtime: Runtime):
        self.config, self.runtime = config, runtime
        if config.dropout == "matched":
            match(model)
        self.sites = len(sites(model))
        self.steps = 0
        set_keys(model, jnp.zeros((self.sites, 2), jnp.uint32))
        compute_in(model, runtime.dtype)
        # Not for shards, which are put together in the compute dtype.
        self.mixed = runtime.dtype != runtime.master.dtype and config.processes == 1
        if self.mixed:
            model.wte = MasterEmbedding(model.wte, runtime.dtype)
            model.wpe = MasterEmbedding(model.wpe, runtime.dtype)
        model.train()
        optimizer = Optimizer(model, config.optimizer)
        self.graphdef, state = nnx.split((model, optimizer))
        self.grid = ProcessGrid(config, runtime)
        # A copy: a donated array must have no other reference. Flattened once, since Python takes
        # milliseconds for that at every step.
        self.leaves, self.structure = jax.tree.flatten(self.grid.distribute(state))
        jit = partial(jax.jit, compiler_options=runtime.compiler_options)
        self._step = jit(self._updated, donate_argnums=0)
        self._gradients = jit(self._differentiated)
        self._evaluate = jit(self._evaluated)

    def step(self, inputs: Int[np.ndarray, "A B T"], targets: Int[np.ndarray, "A B T"]) -> Step:
        """One update from A micro-batches, as if they were one batch.

        Where loss or gradients are not finite, no parameter moves.
        """
        self.leaves, loss, norm = self._step(self.leaves, self._batch(inputs, targets))
        self.steps += 1
        return Step(loss=loss, grad_norm=norm)

    def gradients(
        self, inputs: Int[np.ndarray, "A B T"], targets: Int[np.ndarray, "A B T"]
    ) -> tuple[Float[Array, ""], nnx.State]:
        """The loss of A micro-batches, and its gradients."""
        return self._gradients(self.leaves, self._batch(inputs, targets))

    def _batch(self, inputs: np.ndarray, targets: np.ndarray) -> tuple[Array, Array, np.ndarray]:
        keys = step_keys(self.config.seed, self.steps, len(inputs), self.sites)
        x, y = self.grid.batch(inputs, targets)
        return x, y, keys

    @property
    def state(self) -> nnx.State:
        """Model and optimizer as one state."""
        return self._state(self.leaves)

    def _state(self, leaves: list[Array]) -> nnx.State:
        return jax.tree.unflatten(self.structure, leaves)

    def _updated(
        self, leaves: list[Array], batch: tuple[Array, Array, Array]
    ) -> tuple[list[Array], Array, Array]:
        state = self._state(leaves)
        loss, gradients = self._differentiated(leaves, batch)
        norm = optax.tree.norm(gradients)

        def updated() -> nnx.State:
            # A copy: without it, the update would write into ``state`` itself.
            model, optimizer = nnx.merge(self.graphdef, state, copy=True)
            optimizer.update(model, gradients)
            after = nnx.state((model, optimizer))
            return self.grid.shard(after)

        # ``cond`` decides on the device; with ``where`` both branches would be computed.
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        after = jax.lax.cond(finite, updated, lambda: self.grid.shard(state))
        return jax.tree.leaves(after), loss, norm

    def _differentiated(
        self, leaves: list[Array], batch: tuple[Array, Array, Array]
    ) -> tuple[Array, nnx.State]:
        model = nnx.merge(self.graphdef, self._state(leaves), copy=True)[0]
        modeldef, params, rest = nnx.split(model, nnx.Param, ...)
        # The mean over all targets: a mean of means would differ where some are IGNORED.
        count = jnp.maximum((batch[1] != IGNORED).sum(), 1)

        def loss_of(params: nnx.State, inputs: Array, targets: Array, keys: Array) -> Array:
            # A copy, since variables traced outside must not be written to inside.
            narrow = self._narrow(params)
            if self.mixed:
                narrow["wte"], narrow["wpe"] = params["wte"], params["wpe"]
            model = nnx.merge(modeldef, narrow, rest, copy=True)
            set_keys(model, keys)
            return summed_loss(model, inputs, targets, self.config.loss_chunk) / count

        gradient = jax.value_and_grad(loss_of)

        def accumulate(
            total: tuple[Array, nnx.State], micro_batch: tuple[Array, ...]
        ) -> tuple[tuple[Array, nnx.State], None]:
            return jax.tree.map(jnp.add, total, gradient(params, *micro_batch)), None

        if len(batch[0]) == 1:  # a loop over one would only allocate sums
            return gradient(params, *(array[0] for array in batch))
        # A loop in the program, not in Python: traced and compiled once for all micro-batches.
        nothing = (jnp.zeros((), self.runtime.master.dtype), jax.tree.map(jnp.zeros_like, params))
        return jax.lax.scan(accumulate, nothing, batch)[0]

    def evaluate(
        self, inputs: Int[np.ndarray, "B T"], targets: Int[np.ndarray, "B T"]
    ) -> Float[Array, ""]:
        """Sum of the cross-entropies in nats, without dropout."""
        return self._evaluate(self.leaves, self.grid.batch(inputs, targets))

    def _evaluated(self, leaves: list[Array], batch: tuple[Array, Array]) -> Array:
        return summed_loss(self._computing(self._state(leaves)), *batch, self.config.loss_chunk)

    def computing_model(self) -> GPT2:
        """The model in the compute dtype, without dropout, to inspect or decode with."""
        return self._computing(self.state)

    def _computing(self, state: nnx.State) -> GPT2:
        modeldef, params, rest = nnx.split(nnx.merge(self.graphdef, state)[0], nnx.Param, ...)
        model = nnx.merge(modeldef, self._narrow(params), rest, copy=True)
        model.eval()
        return model

    def export(self) -> TrainState:
        """Parameters and moments under canonical names, as copies."""
        copies: dict[str, Params] = {part: {} for part in PARTS}
        for part, name, value in self.export_each():
            copies[part][name] = value.copy()
        return TrainState(self.steps, **copies)

    def export_each(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Part of the state, canonical name and value, tensor by tensor, in canonical order.

        Where the model is sharded, all processes must ask for each tensor together.
        """
        model, optimizer = nnx.merge(self.graphdef, self.state)
        params = nnx.state(model, nnx.Param)
        for part, tensors in zip(PARTS, (params, *optimizer.moments()), strict=True):
            for name, value in export_each(tensors):
                yield part, name, value

    def restore(self, state: TrainState) -> None:
        """Continue from ``state``, of either framework."""
        self.steps, master = state.step, self.runtime.master
        model, optimizer = nnx.merge(self.graphdef, self.state)
        nnx.update(model, import_tensors(model, state.params, master))
        first = import_tensors(model, state.first_moment, master)
        second = import_tensors(model, state.second_moment, master)
        optimizer.restore(first, second, state.step)
        self.leaves = jax.tree.leaves(nnx.state((model, optimizer)))

    def _narrow(self, params: nnx.State) -> nnx.State:
        """The parameters, rounded to the compute dtype; their gradients are widened again."""
        narrow = jax.tree.map(lambda p: p.astype(self.runtime.dtype), params)
        return self.grid.gather(narrow)
