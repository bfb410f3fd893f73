"""Run both halves of a phrase on the same numbers, and measure how far apart they are."""

import importlib
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from twingrad.foreign import Array, ModuleCall, Tree
from twingrad.phrases.phrase import Family, Phrase


@dataclass(frozen=True)
class Value:
    """A tensor, number or word that a phrase returned; ``dtype`` is empty for what is no tensor."""

    dtype: str
    numbers: Array


@dataclass(frozen=True)
class Result:
    """What one half of a phrase returned, and the gradients with respect to its inputs.

    A gradient is that of the sum of all float values that were returned, each of their elements
    times a number of its own, which is the same for both halves.
    """

    values: list[Value]
    gradients: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Distance:
    """How far apart the halves are in one value or gradient; infinite where they cannot be held
    against one another: other shapes or dtypes, or NaN on one side alone."""

    what: str
    relative: float


def code(framework: str, family: Family, phrase: Phrase) -> ModuleCall:
    """The function of a phrase, ``framework`` being torch or jax; it loads the framework."""
    module = importlib.import_module(f"twingrad.phrases.{framework}_code.{family.name}")
    function: ModuleCall = getattr(module, phrase.name)
    return function


def run_torch(phrase: Phrase, function: ModuleCall) -> Result:
    """PyTorch's half. Modules that it makes have the dtype of its inputs, by default float64."""
    import torch

    before = torch.get_default_dtype()
    single = any(numbers.kind == "single" for numbers in phrase.inputs.values())
    torch.set_default_dtype(torch.float32 if single else torch.float64)
    random.seed(0)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            inputs = {name: torch.tensor(array) for name, array in phrase.draw().items()}
            leaves = {name: inputs[name].requires_grad_() for name in phrase.gradient}
            # What is given is no leaf, so that a phrase may write into it.
            given = {name: tensor.clone() for name, tensor in inputs.items()}
            values = list(_flat(function(**given)))
            if not leaves:
                return Result([_of_torch(value) for value in values])
            floats = [value for value in values if torch.is_tensor(value) and value.requires_grad]
            sums = [
                (value * torch.tensor(factors(phrase, place, tuple(value.shape)))).sum()
                for place, value in enumerate(floats)
            ]
            total = torch.stack(sums).sum()
            gradients = torch.autograd.grad(total, list(leaves.values()))
            named = zip(leaves, map(_of_torch, gradients), strict=True)
            return Result([_of_torch(value) for value in values], dict(named))
    finally:
        torch.set_default_dtype(before)


def run_jax(phrase: Phrase, function: ModuleCall) -> Result:
    """JAX's half, with 64-bit numbers enabled: compiled by `jit`, unless it is ``untraceable``."""
    return run_jax_together([(phrase, function)])[phrase.name]


def run_jax_together(entries: Sequence[tuple[Phrase, ModuleCall]]) -> dict[str, Result]:
    """The results of JAX's halves by the phrases' names, from one compiled program for all."""
    import jax
    import jax.numpy as jnp

    # Tensors come out of the program; what is no tensor is known when it is traced.
    traced: dict[str, list[Tree]] = {}

    def all_of_them(inputs: Mapping[str, Mapping[str, Tree]]) -> Tree:
        results = {}
        for phrase, function in entries:
            gradients, traced[phrase.name] = _differentiate(phrase, function, inputs[phrase.name])
            results[phrase.name] = (
                [v for v in traced[phrase.name] if isinstance(v, jax.Array)],
                gradients,
            )
        return results

    with jax.enable_x64(True):
        inputs = {
            phrase.name: {name: jnp.asarray(array) for name, array in phrase.draw().items()}
            for phrase, _ in entries
        }
        if not any(phrase.untraceable for phrase, _ in entries):
            # Compiled in half the time: these programs run once.
            options = {"xla_backend_optimization_level": 0}
            all_of_them = jax.jit(all_of_them, compiler_options=options)
        results = all_of_them(inputs)
        return {
            name: Result(
                _filled(traced[name], arrays),
                {by: _of_jax(gradient) for by, gradient in gradients.items()},
            )
            for name, (arrays, gradients) in results.items()
        }


def _differentiate(
    phrase: Phrase, function: ModuleCall, inputs: Mapping[str, Tree]
) -> tuple[dict[str, Tree], list[Tree]]:
    """The gradients of JAX's half by the names of its inputs, and what it returned."""
    import jax

    returned: list[Tree] = []

    def weighted(by: Mapping[str, Tree]) -> tuple[Tree, list[Tree]]:
        returned[:] = _flat(function(**{**inputs, **by}))
        arrays = [value for value in returned if isinstance(value, jax.Array)]
        total = sum(
            (value * factors(phrase, place, tuple(value.shape))).sum()
            for place, value in enumerate(v for v in arrays if v.dtype.kind == "f")
        )
        return total, arrays

    if not phrase.gradient:
        returned[:] = _flat(function(**inputs))
        return {}, returned
    by = {name: inputs[name] for name in phrase.gradient}
    gradients, arrays = jax.grad(weighted, has_aux=True)(by)
    arrays = iter(arrays)
    return gradients, [next(arrays) if isinstance(v, jax.Array) else v for v in returned]


def _filled(traced: Sequence[Tree], arrays: Sequence[Tree]) -> list[Value]:
    """What a phrase returned, with the arrays in place of the tracers that stood for them."""
    import jax

    computed = iter(arrays)
    return [_of_jax(next(computed) if isinstance(v, jax.Array) else v) for v in traced]


def factors(phrase: Phrase, place: int, shape: tuple[int, ...]) -> Array:
    """Numbers from 0.5 to 2 by which the elements of a float value are weighted in the sum."""
    generator = np.random.default_rng(zlib.crc32(f"{phrase.name}/{place}".encode()))
    return generator.uniform(0.5, 2.0, shape)


def distances(left: Result, right: Result) -> list[Distance]:
    """The distance of every value and gradient; one that is infinite where their numbers differ."""
    count, other = len(left.values), len(right.values)
    if count != other:
        return [Distance(f"{count} values and {other}", np.inf)]
    found = [
        Distance(f"value {place}" if count > 1 else "the value", apart(*pair))
        for place, pair in enumerate(zip(left.values, right.values, strict=True))
    ]
    for name, gradient in left.gradients.items():
        found.append(Distance(f"the gradient of {name}", apart(gradient, right.gradients[name])))
    return found


def apart(left: Value, right: Value) -> float:
    """The largest difference over the largest magnitude; words and booleans are equal or not."""
    x, y = left.numbers, right.numbers
    if x.shape != y.shape or (left.dtype and right.dtype and left.dtype != right.dtype):
        return float("inf")
    if x.dtype.kind not in "iuf" or y.dtype.kind not in "iuf":
        return 0.0 if np.array_equal(x, y) else float("inf")
    x, y = x.astype(np.float64), y.astype(np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    difference = float(np.abs(x - y)[finite].max())
    scale = float(max(np.abs(x)[finite].max(), np.abs(y)[finite].max()))
    return difference / scale if difference else 0.0


def _flat(tree: Tree) -> Iterator[Tree]:
    """The tensors, numbers and words of tuples, lists and dictionaries, in order."""
    if isinstance(tree, (tuple, list)):
        for one in tree:
            yield from _flat(one)
    elif isinstance(tree, dict):
        for name in sorted(tree):
            yield from _flat(tree[name])
    else:
        yield tree


def _of_torch(value: Tree) -> Value:
    import torch

    if not torch.is_tensor(value):
        return Value("", np.asarray(value))
    dtype = str(value.dtype).removeprefix("torch.")
    plain = value.detach()
    return Value(dtype, (plain.double() if dtype == "bfloat16" else plain).numpy())


def _of_jax(value: Tree) -> Value:
    import jax

    if not isinstance(value, jax.Array):
        return Value("", np.asarray(value))
    dtype = str(value.dtype)
    numbers = np.asarray(value)
    return Value(dtype, numbers.astype(np.float64) if dtype == "bfloat16" else numbers)
