"""Any JAX model, run with every module call given what PyTorch's same call was given.

Each module then computes from the other side's input, and whoever called it goes on from the other
side's output. What a module gets wrong stays its own: nothing is passed on. The backward pass is
cut in the same places, so that one gradient of a sum says for every module what it passes back.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from jax import Array

from twingrad.calls import Call, Key, only_loss
from twingrad.matching import Leaf

Tensors = dict[str, Array]
# path, call number -> whatever stands in for the call
Handler = Callable[[Key, Callable, tuple, dict], Any]
Place = tuple[Key, str, int]  # a call; "in", "out" or "index"; and which of its tensors


class Subject:
    """A JAX model as values and a way to run it: Flax NNX, Linen, or a function of parameters."""

    def __init__(self, made: Any, dtype: str, train: bool):
        self.dtype = jnp.dtype(dtype)
        self._compiled: dict[Callable, Callable] = {}
        if isinstance(made, nnx.Module):
            self._nnx(made, train)
        elif isinstance(made, tuple) and len(made) == 2:
            self._function(*made)
        else:
            raise ValueError(
                f"jax made a {type(made).__name__}: expected an nnx.Module, or a tuple of a Linen "
                "module or a function with its parameters"
            )

    def _nnx(self, model: nnx.Module, train: bool) -> None:
        (model.train if train else model.eval)()
        for _, module in nnx.iter_modules(model):
            if isinstance(module, nnx.Embed):
                module.dtype = self.dtype
        graphdef, params, state, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
        kinds = {
            ".".join(map(str, path)): type(module).__name__
            for path, module in nnx.iter_modules(model)
        }
        self.tensors = self._leaves(params) | self._leaves(state)
        self.trained = set(self._leaves(params))
        self.kinds = kinds

        def run(tensors: Tensors, loss_fn: Callable, batch: tuple, handler: Handler | None) -> Any:
            own = nnx.merge(graphdef, *(_filled(part, tensors) for part in (params, state)), rest,
                            copy=True)  # fmt: skip
            with _patched(own, handler):
                loss = only_loss(loss_fn(own, *batch))
            return loss, self._leaves(nnx.state(own, nnx.BatchStat))

        self.run = run

    def _leaves(self, state: nnx.State) -> Tensors:
        return {
            ".".join(map(str, path)): self._cast(variable[...])
            for path, variable in nnx.to_flat_state(state)
        }

    def _function(self, function: Any, params: Any) -> None:
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

        def run(tensors: Tensors, loss_fn: Callable, batch: tuple, handler: Handler | None) -> Any:
            values = jax.tree_util.tree_unflatten(form, [tensors[path] for path in paths])

            def model(*args: Any, **kwargs: Any) -> Any:
                apply = function.apply if wraps_linen else function
                return apply(values, *args, **kwargs)

            with _intercepted(handler) if wraps_linen else _nothing():
                return only_loss(loss_fn(model, *batch)), {}

        self.run = run

    def _cast(self, x: Any) -> Array:
        x = jnp.asarray(x)
        return x.astype(self.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    def leaves(self) -> list[Leaf]:
        """Parameters and running statistics."""
        return [
            Leaf(path, tuple(x.shape), self.kinds.get(path.rpartition(".")[0], ""))
            for path, x in self.tensors.items()
        ]

    def give(self, values: Mapping[str, np.ndarray]) -> None:
        """Put other numbers in their place."""
        for path, value in values.items():
            self.tensors[path] = self._cast(value)

    def batch(self, batch: Sequence[np.ndarray]) -> tuple[Array, ...]:
        """Arrays on the device: floats in the dtype, integers as int32."""
        return tuple(
            jnp.asarray(x, self.dtype if x.dtype.kind == "f" else jnp.int32) for x in batch
        )

    def paths(self, loss_fn: Callable, batch: Sequence[np.ndarray]) -> dict[Key, str]:
        """The calls of one pass and the classes of their modules, found without computing."""
        seen: dict[Key, str] = {}

        def look(key: Key, call: Callable, args: tuple, kwargs: dict) -> Any:
            seen[key] = self.kinds.get(key.path, "")
            return call(*args, **kwargs)

        jax.eval_shape(lambda t: self.run(t, loss_fn, self.batch(batch), look), self.tensors)
        return seen

    def plain(self, loss_fn: Callable, batch: Sequence[np.ndarray]) -> "Plain":
        """One pass as users run it."""
        moving = {path: x for path, x in self.tensors.items() if path in self.trained}
        still = {path: x for path, x in self.tensors.items() if path not in self.trained}
        if loss_fn not in self._compiled:
            self._compiled[loss_fn] = self._differentiated(loss_fn)
        run = self._compiled[loss_fn]
        (loss, (state, outputs)), gradients = run(moving, still, self.batch(batch))
        return Plain(
            loss=float(loss),
            gradients={path: np.asarray(g) for path, g in gradients.items()},
            state={path: np.asarray(x) for path, x in state.items()},
            outputs={Key(*key): [np.asarray(x) for x in v] for key, v in outputs.items()},
        )

    def _differentiated(self, loss_fn: Callable) -> Callable:
        """Loss, statistics and outputs of every call, and gradients, compiled."""

        def loss_of(moving: Tensors, still: Tensors, batch: tuple) -> tuple[Array, tuple]:
            outputs: dict[Key, list[Array]] = {}

            def look(key: Key, call: Callable, args: tuple, kwargs: dict) -> Any:
                output = call(*args, **kwargs)
                outputs[key] = [x for x in jax.tree_util.tree_leaves(output) if _is_float(x)]
                return output

            loss, state = self.run({**still, **moving}, loss_fn, batch, look)
            return loss, (state, {tuple(key): values for key, values in outputs.items()})

        return jax.jit(jax.value_and_grad(loss_of, has_aux=True))


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Loss, gradients, running statistics and every call's outputs of one pass."""

    loss: float
    gradients: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    outputs: dict[Key, list[np.ndarray]]


@dataclass(kw_only=True)
class Replayed:
    """What the JAX model makes of PyTorch's tensors, place by place, and in PyTorch's stead.

    ``found`` and ``given`` are values at the same place, in JAX's layout unless their shapes
    differ; ``back`` and ``owed`` are gradients there. ``gradients`` are of parameters.
    """

    loss: float
    found: dict[Place, np.ndarray] = field(default_factory=dict)
    given: dict[Place, np.ndarray] = field(default_factory=dict)
    back: dict[Place, np.ndarray] = field(default_factory=dict)
    owed: dict[Place, np.ndarray] = field(default_factory=dict)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    integers: dict[Place, np.ndarray] = field(default_factory=dict)


def replay(
    subject: Subject,
    loss_fn: Callable,
    batch: Sequence[np.ndarray],
    partners: Mapping[Key, Call],
    channels_last: bool,
) -> Replayed:
    """Run ``subject`` with ``partners``' tensors in place of its own, wherever they fit."""
    result = Replayed(loss=0.0)
    # Arguments of what is compiled: as constants they would be compiled with it.
    given: dict[Place, Array] = {}
    weights: dict[Place, Array] = {}

    def total(
        moving: Tensors, given: dict, weights: dict, gather: bool
    ) -> tuple[Array, dict[Place, Array]]:
        terms: list[Array] = []
        seen: dict[Place, Array] = {}

        def exchange(key: Key, way: str, flat: list, ours: list, owed: list) -> list | None:
            """PyTorch's tensors in place of ``flat``'s floats; ``None`` where they do not fit."""
            floats = [i for i, x in enumerate(flat) if _is_float(x)]
            if len(floats) != len(ours):
                return None
            there = [
                laid(o, flat[i].shape, channels_last) for i, o in zip(floats, ours, strict=True)
            ]
            if any(x is None for x in there):  # seen, but not put in their place
                for number, (i, own) in enumerate(zip(floats, ours, strict=True)):
                    seen[key, way, number] = flat[i]
                    if gather:
                        result.given[key, way, number] = own
                return None
            flat = list(flat)
            for number, (i, value) in enumerate(zip(floats, there, strict=True)):
                place, dtype = (key, way, number), flat[i].dtype
                weight = laid(owed[number], flat[i].shape, channels_last)
                assert value is not None
                assert weight is not None
                seen[place] = flat[i]
                if gather:
                    result.given[place], result.owed[place] = value, weight
                    with jax.ensure_compile_time_eval():
                        given[place] = jnp.asarray(value, dtype)
                        weights[place] = jnp.asarray(weight, dtype)
                terms.append(jnp.vdot(flat[i], weights[place]))
                flat[i] = given[place]
            return flat

        def stand_in(key: Key, call: Callable, args: tuple, kwargs: dict) -> Any:
            partner = partners.get(key)
            if partner is None:
                return call(*args, **kwargs)
            flat, form = jax.tree_util.tree_flatten((args, kwargs))
            _integers(key, flat, partner, result.integers, seen)
            fed = exchange(key, "in", flat, partner.inputs, partner.input_gradients)
            args, kwargs = jax.tree_util.tree_unflatten(form, fed or flat)
            output = call(*args, **kwargs)
            if fed is None:
                return output  # it went on from an input of its own
            flat, form = jax.tree_util.tree_flatten(output)
            passed = exchange(key, "out", flat, partner.outputs, partner.output_gradients)
            return output if passed is None else jax.tree_util.tree_unflatten(form, passed)

        loss, _ = subject.run(
            {**subject.tensors, **moving}, loss_fn, subject.batch(batch), stand_in
        )
        terms.append(loss)
        return sum(terms, jnp.zeros((), loss.dtype)), {**seen, _LOSS: loss}

    moving = {path: x for path, x in subject.tensors.items() if path in subject.trained}
    jax.eval_shape(lambda m: total(m, given, weights, True)[0], moving)
    gradient = jax.jit(
        jax.grad(lambda m, g, w: total(m, g, w, False), argnums=(0, 1), has_aux=True)
    )
    (gradients, back), seen = gradient(moving, given, weights)
    result.loss = float(seen.pop(_LOSS))
    result.found = {place: np.asarray(x) for place, x in seen.items()}
    result.back = {place: np.asarray(x) for place, x in back.items()}
    result.gradients = {path: np.asarray(x) for path, x in gradients.items()}
    return result


_LOSS: Place = (Key("loss"), "out", 0)


def _integers(
    key: Key, flat: list, partner: Call, ours: dict[Place, np.ndarray], seen: dict[Place, Array]
) -> None:
    """Indices are compared, and left as they are."""
    whole = [x for x in flat if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.integer)]
    for number, (x, own) in enumerate(zip(whole, partner.integers, strict=False)):
        ours[key, "index", number] = own.reshape(x.shape) if own.size == x.size else own
        seen[key, "index", number] = x


def _is_float(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def laid(x: np.ndarray, shape: tuple[int, ...], channels_last: bool) -> np.ndarray | None:
    """PyTorch's tensor with its axes where JAX has them: as they are, or channels last.

    Axes of one, which broadcast anyhow, may be there or not.
    """
    turned = np.moveaxis(x, 1, -1) if x.ndim > 2 else x
    for choice in (turned, x) if channels_last else (x, turned):
        if [n for n in choice.shape if n > 1] == [n for n in shape if n > 1]:
            return choice.reshape(shape)
    return None


def _filled(state: nnx.State, tensors: Tensors) -> nnx.State:
    leaves = [
        (path, variable.replace(tensors[".".join(map(str, path))]))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.from_flat_state(leaves) if leaves else state


def _word(part: Any) -> str:
    """One step into a tree: a key, an index or an attribute."""
    found = (getattr(part, name) for name in ("key", "idx", "name") if hasattr(part, name))
    return str(next(found, part))


def _path(path: tuple, wraps_linen: bool) -> str:
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
    own = {cls: vars(cls).get("__call__") for cls in classes}

    def hooked(call: Callable) -> Callable:
        @wraps(call)
        def through(module: nnx.Module, *args: Any, **kwargs: Any) -> Any:
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
        for cls, call in own.items():
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

    def through(next_fun: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or isinstance(module, linen.Dropout):
            return next_fun(*args, **kwargs)
        path = ".".join(module.path)
        key = Key(path, counts[path])
        counts[path] += 1
        return handler(key, next_fun, args, kwargs)

    with linen.intercept_methods(through):
        yield
