"""Any JAX model as values and a way to run it, with every module call open to a handler."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from twingrad.calls import Key, only_loss
from twingrad.casts import log
from twingrad.foreign import Array, Loss, Model, ModuleCall, Tree
from twingrad.matching import Leaf

Tensors = dict[str, jax.Array]
Handler = Callable[[Key, ModuleCall, Tree, Tree], Tree]  # (call, function, args, kwargs) -> output
# (tensors, loss_fn, batch, handler) -> the loss, and running statistics afterwards
Run = Callable[[Tensors, Loss, tuple[jax.Array, ...], Handler | None], tuple[jax.Array, Tensors]]


class Subject:
    """A JAX model as values and a way to run it: Flax NNX, Linen, or a function of parameters."""

    run: Run
    tensors: Tensors
    trained: set[str]
    kinds: dict[str, str]  # classes of the modules, by path

    def __init__(self, model: Model, dtype: str, train: bool):
        self.dtype = jnp.dtype(dtype)
        self._compiled: dict[Loss, ModuleCall] = {}
        if isinstance(model, nnx.Module):
            self._nnx(model, train)
        elif isinstance(model, tuple) and len(model) == 2:
            self._function(*model)
        else:
            raise ValueError(
                f"jax made a {type(model).__name__}: expected an nnx.Module, or a tuple of a Linen "
                "module or a function with its parameters"
            )

    def _nnx(self, model: nnx.Module, train: bool) -> None:
        (model.train if train else model.eval)()
        for _, module in nnx.iter_modules(model):
            if isinstance(module, nnx.Embed):
                module.dtype = self.dtype
        graphdef, params, state, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
        self.tensors = self._leaves(params) | self._leaves(state)
        self.trained = set(self._leaves(params))
        self.kinds = {
            ".".join(map(str, path)): type(module).__name__
            for path, module in nnx.iter_modules(model)
        }

        def run(
            tensors: Tensors, loss_fn: Loss, batch: tuple[jax.Array, ...], handler: Handler | None
        ) -> tuple[jax.Array, Tensors]:
            filled = (_filled(part, tensors) for part in (params, state))
            merged = nnx.merge(graphdef, *filled, rest, copy=True)
            with _patched(merged, handler):
                loss = only_loss(loss_fn(merged, *batch))
            return loss, self._leaves(nnx.state(merged, nnx.BatchStat))

        self.run = run

    def _leaves(self, state: nnx.State) -> Tensors:
        return {
            ".".join(map(str, path)): self._cast(variable[...])
            for path, variable in nnx.to_flat_state(state)
        }

    def _function(self, function: Model, params: Tree) -> None:
        flat, form = jax.tree_util.tree_flatten_with_path(params)
        wraps_linen = isinstance(function, linen.Module)
        paths = [_path(path, wraps_linen) for path, _ in flat]
        self.tensors = {
            path: self._cast(value) for path, (_, value) in zip(paths, flat, strict=True)
        }
        # Linen's variables stand in collections; of a function's parameters all are trained.
        kinds = [_path(path[:1], wraps_linen=False) for path, _ in flat]
        self.trained = {
            p for p, kind in zip(paths, kinds, strict=True) if not wraps_linen or kind == "params"
        }
        self.kinds = {}

        def run(
            tensors: Tensors, loss_fn: Loss, batch: tuple[jax.Array, ...], handler: Handler | None
        ) -> tuple[jax.Array, Tensors]:
            values = jax.tree_util.tree_unflatten(form, [tensors[path] for path in paths])

            def model(*args: Tree, **kwargs: Tree) -> Tree:
                apply = function.apply if wraps_linen else function
                return apply(values, *args, **kwargs)

            with _intercepted(handler) if wraps_linen else _nothing():
                return only_loss(loss_fn(model, *batch)), {}

        self.run = run

    def _cast(self, x: Tree) -> jax.Array:
        tensor = jnp.asarray(x)
        if jnp.iscomplexobj(tensor):
            return tensor.astype(self._complex)
        return tensor.astype(self.dtype) if is_float(tensor) else tensor

    @property
    def _complex(self) -> type[np.complex64] | type[np.complex128]:
        """The complex dtype whose parts have this one's."""
        return np.complex128 if self.dtype == np.float64 else np.complex64

    def leaves(self) -> list[Leaf]:
        """Parameters and running statistics."""
        return [
            Leaf(path, tuple(x.shape), self.kinds.get(path.rpartition(".")[0], ""))
            for path, x in self.tensors.items()
        ]

    def give(self, values: Mapping[str, Array]) -> None:
        """Replace the numbers of parameters."""
        for path, value in values.items():
            self.tensors[path] = self._cast(value)

    def batch(self, batch: Sequence[Array]) -> tuple[jax.Array, ...]:
        """Arrays on the device: floats in the dtype, all others as they are."""
        kinds = {"f": self.dtype, "c": self._complex}
        return tuple(jnp.asarray(x, kinds.get(x.dtype.kind)) for x in batch)

    def paths(self, loss_fn: Loss, batch: Sequence[Array]) -> dict[Key, str]:
        """The calls of one pass and the classes of their modules, found without computing."""
        seen: dict[Key, str] = {}

        def look(key: Key, call: ModuleCall, args: Tree, kwargs: Tree) -> Tree:
            seen[key] = self.kinds.get(key.path, "")
            return call(*args, **kwargs)

        jax.eval_shape(lambda t: self.run(t, loss_fn, self.batch(batch), look), self.tensors)
        return seen

    def plain(self, loss_fn: Loss, batch: Sequence[Array]) -> "Plain":
        """One pass as users run it."""
        moving = {path: x for path, x in self.tensors.items() if path in self.trained}
        still = {path: x for path, x in self.tensors.items() if path not in self.trained}
        if loss_fn not in self._compiled:
            self._compiled[loss_fn] = self._differentiated(loss_fn)
        run = self._compiled[loss_fn]
        (loss, (state, outputs)), gradients = run(moving, still, self.batch(batch))
        return Plain(
            loss=float(loss),
            gradients={path: conjugated(g) for path, g in gradients.items()},
            state={path: np.asarray(x) for path, x in state.items()},
            outputs={Key(*key): [np.asarray(x) for x in v] for key, v in outputs.items()},
        )

    def _differentiated(self, loss_fn: Loss) -> ModuleCall:
        """Loss, statistics and outputs of every call, and gradients, compiled."""

        def loss_of(
            moving: Tensors, still: Tensors, batch: tuple[jax.Array, ...]
        ) -> tuple[jax.Array, Tree]:
            outputs: dict[Key, list[jax.Array]] = {}

            def look(key: Key, call: ModuleCall, args: Tree, kwargs: Tree) -> Tree:
                with log.inside(key.path):
                    output = call(*args, **kwargs)
                outputs[key] = [x for x in jax.tree_util.tree_leaves(output) if is_float(x)]
                return output

            loss, state = self.run({**still, **moving}, loss_fn, batch, look)
            return loss, (state, {tuple(key): values for key, values in outputs.items()})

        return jax.jit(jax.value_and_grad(loss_of, has_aux=True))


def made(model: Model) -> Model:
    """A copy of ``model``, or what it makes where it is a function."""
    if isinstance(model, nnx.Module):
        return nnx.clone(model)
    return model if isinstance(model, tuple) else model()


def mean_square(model: Model, *batch: jax.Array) -> jax.Array:
    """The loss of a pair without one: the mean squares of all outputs, added up."""
    outputs = jax.tree_util.tree_leaves(model(*batch))
    means = [(jnp.abs(x) ** 2).mean() for x in outputs if is_float(x) or jnp.iscomplexobj(x)]
    if not means:
        raise ValueError("the JAX model has no output of numbers: give torch_loss and jax_loss")
    return jnp.stack(means).sum()


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Loss, gradients, running statistics and every call's outputs of one pass."""

    loss: float
    gradients: dict[str, Array]
    state: dict[str, Array]
    outputs: dict[Key, list[Array]]


def conjugated(gradient: jax.Array) -> Array:
    """A gradient as PyTorch has it, which for a complex number is the conjugate of JAX's."""
    conjugate: Array = np.conj(np.asarray(gradient))
    return conjugate


def is_float(x: object) -> bool:
    """Whether ``x`` is an array of floating-point numbers."""
    return hasattr(x, "dtype") and bool(jnp.issubdtype(x.dtype, jnp.floating))


def _filled(state: nnx.State, tensors: Tensors) -> nnx.State:
    leaves = [
        (path, variable.replace(tensors[".".join(map(str, path))]))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.from_flat_state(leaves) if leaves else state


def _path(path: tuple[object, ...], wraps_linen: bool) -> str:
    names = [
        str(getattr(part, "key", getattr(part, "idx", getattr(part, "name", part))))
        for part in path
    ]
    return ".".join(names[1:] if wraps_linen and len(names) > 1 else names)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _patched(model: nnx.Module, handler: Handler | None) -> Iterator[None]:
    """Within, every submodule's call goes through ``handler``; idle dropout's does not.

    NNX has no hooks, so the classes' own ``__call__`` is replaced for the time being.
    """
    if handler is None:
        yield
        return
    modules = {
        id(module): ".".join(map(str, path))
        for path, module in nnx.iter_modules(model)
        if not (isinstance(module, nnx.Dropout) and (module.deterministic or module.rate == 0))
    }
    counts: Counter[str] = Counter()
    inside: set[int] = set()  # a class may call the one it is made from
    classes = {type(m) for _, m in nnx.iter_modules(model) if callable(m)}
    unpatched = {cls: vars(cls).get("__call__") for cls in classes}

    def hooked(call: ModuleCall) -> ModuleCall:
        @wraps(call)
        def through(module: nnx.Module, *args: Tree, **kwargs: Tree) -> Tree:
            path = modules.get(id(module))
            if path is None or id(module) in inside:
                return call(module, *args, **kwargs)
            key = Key(path, counts[path])
            counts[path] += 1
            inside.add(id(module))
            try:
                return handler(key, lambda *a, **k: call(module, *a, **k), args, kwargs)
            finally:
                inside.discard(id(module))

        return through

    for cls in classes:
        cls.__call__ = hooked(cls.__call__)
    try:
        yield
    finally:
        for cls, call in unpatched.items():
            if call is None:  # inherited: uncover it again
                del cls.__call__
            else:
                cls.__call__ = call


@contextmanager
def _intercepted(handler: Handler | None) -> Iterator[None]:
    """The same for Linen, which has hooks."""
    if handler is None:
        yield
        return
    counts: Counter[str] = Counter()

    def through(next_fun: ModuleCall, args: Tree, kwargs: Tree, context: Model) -> Tree:
        module = context.module
        if context.method_name != "__call__" or isinstance(module, linen.Dropout):
            return next_fun(*args, **kwargs)
        path = ".".join(module.path)
        key = Key(path, counts[path])
        counts[path] += 1
        return handler(key, next_fun, args, kwargs)

    with linen.intercept_methods(through):
        yield
