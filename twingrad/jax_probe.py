"""Any JAX model as values and a way to run it, with every module call open to a handler."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np

from twingrad.calls import Key, Plain
from twingrad.casts import log
from twingrad.decoding.decoded import DecodingRecord
from twingrad.foreign import Array, Loss, Model, ModuleCall, Optimizer, Tree
from twingrad.jax_compiled import compiled
from twingrad.jax_models import kinds, tracing
from twingrad.jax_models.model import Handler, Tensors, is_float, layout
from twingrad.numerics import plain
from twingrad.partners import Leaf


class Subject:
    """A JAX model of any kind, as values and a way to run it."""

    recorded = False
    left_out: Collection[Key] = ()

    def __init__(self, model: Model, dtype: str, train: bool):
        self.dtype = jnp.dtype(dtype)
        self.model = kinds.adapter(model, dtype, train)
        self.tensors = self.model.tensors
        # By loss: modules whose calls are within what is compiled, scanned or recomputed.
        self.hidden: dict[Loss, set[str]] = {}
        self._inlined: set[Loss] = set()
        self._paths: dict[Loss, dict[Key, str]] = {}
        self._compiled: dict[Loss, ModuleCall] = {}

    @property
    def trained(self) -> set[str]:
        """Paths of parameters."""
        return self.model.trained

    @property
    def state(self) -> set[str]:
        """Paths of numbers that a pass may change."""
        return self.model.state

    @property
    def required(self) -> set[str]:
        """Paths of state that has a partner in every port."""
        return self.model.required

    @property
    def channels_last(self) -> bool:
        """Whether the library's convolutions have the channels of images last."""
        return self.model.channels_last

    def run(
        self, tensors: Tensors, loss_fn: Loss, batch: tuple[jax.Array, ...], handler: Handler | None
    ) -> tuple[jax.Array, Tensors]:
        """The loss, and the state afterwards, with every call of a module open to ``handler``."""
        inlined = tracing.inlined() if handler and loss_fn in self._inlined else nullcontext()
        with tracing.beginning(), inlined:
            return self.model.run(tensors, loss_fn, batch, handler)

    def mean_square(self, *arguments: Tree) -> Tree:
        """The loss of a pair without one: the mean squares of all outputs, added up."""
        output, *state = self.model.outputs(*arguments)
        return (_mean_square(output), *state)

    def leaves(self) -> list[Leaf]:
        """Parameters and state."""
        return [self._leaf(path) for path in self.tensors]

    def _leaf(self, path: str) -> Leaf:
        kind = self.model.kinds.get(path.rpartition(".")[0])
        return Leaf(
            path,
            tuple(self.tensors[path].shape),
            kind.__name__ if kind else "",
            optional=path not in self.trained | self.model.required,
            layout=layout(kind),
        )

    def give(self, values: Mapping[str, Array]) -> None:
        """Replace the numbers of parameters and state."""
        for path, value in values.items():
            self.tensors[path] = self.model.cast(value)

    def batch(self, batch: Sequence[Array]) -> tuple[jax.Array, ...]:
        """Arrays on the device: floats in the dtype, all others as they are."""
        dtypes = {"f": self.dtype, "c": self.model.complex_dtype}
        return tuple(jnp.asarray(x, dtypes.get(x.dtype.kind)) for x in batch)

    def paths(self, loss_fn: Loss, batch: Sequence[Array]) -> dict[Key, str]:
        """The calls of one pass and the classes of their modules, found without computing.

        Where calls are out of reach, the pass is inlined from then on; the modules of those that
        still are out of reach are ``hidden``.
        """
        if loss_fn not in self._paths:
            self._paths[loss_fn] = self._look(loss_fn, batch)
            if self.model.hidden:
                self._inlined.add(loss_fn)
                self._paths[loss_fn] = self._look(loss_fn, batch)
            seen = {key.path for key in self._paths[loss_fn]}
            self.hidden[loss_fn] = self.model.hidden - seen
        return self._paths[loss_fn]

    def out_of_reach(self, loss_fn: Loss) -> set[str]:
        """Modules with calls that are not seen, once ``paths`` has looked."""
        return self.hidden[loss_fn]

    def _look(self, loss_fn: Loss, batch: Sequence[Array]) -> dict[Key, str]:
        seen: dict[Key, str] = {}
        self.model.hidden.clear()

        def look(key: Key, call: ModuleCall, args: Tree, kwargs: Tree) -> Tree:
            kind = self.model.kinds.get(key.path)
            seen[key] = kind.__name__ if kind else ""
            return call(*args, **kwargs)

        jax.eval_shape(lambda t: self.run(t, loss_fn, self.batch(batch), look)[0], self.tensors)
        return seen

    def plain(
        self, loss_fn: Loss, batch: Sequence[Array], state: Mapping[str, Array] | None = None
    ) -> Plain:
        """One pass as users run it, from the state as it is or, where given, from ``state``."""
        self.paths(loss_fn, batch)  # which calls are seen
        moving = {path: x for path, x in self.tensors.items() if path in self.trained}
        still = {path: x for path, x in self.tensors.items() if path not in self.trained}
        still |= {path: self.model.cast(x) for path, x in (state or {}).items()}
        if loss_fn not in self._compiled:
            self._compiled[loss_fn] = self._differentiated(loss_fn)
        run = self._compiled[loss_fn]
        (loss, (state, inputs, outputs)), gradients = run(moving, still, self.batch(batch))
        return Plain(
            loss=float(loss),
            gradients={path: conjugated(g) for path, g in gradients.items()},
            state={path: plain(x) for path, x in state.items()},
            inputs=_by_call(inputs),
            outputs=_by_call(outputs),
        )

    def states(self, loss_fn: Loss, batches: Sequence[Sequence[Array]]) -> list[dict[str, Array]]:
        """The state before the first of ``batches``, and after each of them in a row."""
        states = [{path: plain(self.tensors[path]) for path in self.state}]
        for number, batch in enumerate(batches):
            state = states[-1] if number else None
            states.append({**(state or {}), **self.plain(loss_fn, batch, state).state})
        return states

    def stepped(
        self, optimizer: Optimizer, paths: Sequence[str], gradients: Sequence[Mapping[str, Array]]
    ) -> list[dict[str, Array]]:
        """The parameters at ``paths`` after each step of optax's ``optimizer``, one a gradient."""
        import optax

        params = self.model.own_tree({path: self.tensors[path] for path in paths})
        state, steps = optimizer.init(params), []
        for step in gradients:
            tree = self.model.own_tree({path: jnp.asarray(step[path]) for path in paths})
            updates, state = optimizer.update(tree, state, params)
            params = optax.apply_updates(params, updates)
            steps.append({p: plain(x) for p, x in self.model.by_path(params).items()})
        return steps

    def _differentiated(self, loss_fn: Loss) -> ModuleCall:
        """Loss, statistics and outputs of every call, and gradients, compiled."""

        def loss_of(
            moving: Tensors, still: Tensors, batch: tuple[jax.Array, ...]
        ) -> tuple[jax.Array, Tree]:
            inputs: dict[Key, list[jax.Array]] = {}
            outputs: dict[Key, list[jax.Array]] = {}

            def look(key: Key, call: ModuleCall, args: Tree, kwargs: Tree) -> Tree:
                given = [x for x in jax.tree_util.tree_leaves((args, kwargs)) if is_float(x)]
                tracing.whole(lambda xs: inputs.setdefault(key, xs), given)
                with log.inside(key.path):
                    output = call(*args, **kwargs)
                floats = [x for x in jax.tree_util.tree_leaves(output) if is_float(x)]
                tracing.whole(lambda xs: outputs.setdefault(key, xs), floats)
                return output

            loss, state = self.run({**still, **moving}, loss_fn, batch, look)
            seen = ({tuple(k): xs for k, xs in calls.items()} for calls in (inputs, outputs))
            return loss, (state, *seen)

        return compiled(jax.value_and_grad(loss_of, has_aux=True))

    def decoding(self) -> DecodingRecord | None:
        """Nothing: it can be run itself."""
        return None


def made(model: Model) -> Model:
    """A copy of ``model``, or what it makes where it is a function."""
    nnx = kinds.loaded("flax.nnx")
    if nnx and isinstance(model, nnx.Module):
        return nnx.clone(model)
    equinox, keras = map(kinds.loaded, ("equinox", "keras"))
    if keras and isinstance(model, keras.Layer):
        return model  # which is not written to
    is_value = isinstance(model, tuple) or (equinox and isinstance(model, equinox.Module))
    return model if is_value else model()


def _mean_square(output: Tree) -> jax.Array:
    outputs = jax.tree_util.tree_leaves(output)
    means = [(jnp.abs(x) ** 2).mean() for x in outputs if is_float(x) or jnp.iscomplexobj(x)]
    if not means:
        raise ValueError("the JAX model has no output of numbers: give torch_loss and jax_loss")
    return jnp.stack(means).sum()


def _by_call(tensors: Mapping[tuple[str, int], Sequence[jax.Array]]) -> dict[Key, list[Array]]:
    return {Key(*key): [plain(x) for x in values] for key, values in tensors.items()}


def conjugated(gradient: jax.Array) -> Array:
    """A gradient as PyTorch has it, which for a complex number is the conjugate of JAX's."""
    conjugate: Array = np.conj(plain(gradient))
    return conjugate
