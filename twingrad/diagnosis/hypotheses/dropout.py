"""Dropout whose mask is a function of a key: the right mask, and known mistakes."""

from collections.abc import Iterator

import numpy as np

from twingrad.diagnosis.hypotheses.context import Context, Hypothesis
from twingrad.environment import installed
from twingrad.foreign import Array, Tensor


def dropped(x: Array, rate: float, key: Array) -> Array:
    """``x`` as matched dropout leaves it."""
    return np.where(_falls(key, x.shape, rate), 0.0, x / (1 - rate))


def _words(key: Array, shape: tuple[int, ...]) -> Array:
    """A random word for each element, by its number: Threefry-2x32, JAX's own generator."""
    import jax

    with jax.threefry_partitionable(True):
        return np.asarray(jax.random.bits(_jax_key(key), shape, "uint32"))


def _jax_key(key: Array) -> Tensor:
    import jax

    return jax.random.wrap_key_data(jax.numpy.asarray(key), impl="threefry2x32")


def _falls(key: Array, shape: tuple[int, ...], rate: float) -> Array:
    return _words(key, shape) >> 8 < _threshold(rate)


def _threshold(rate: float) -> int:
    """The bound that the upper 24 bits of a random word are under with probability ``rate``."""
    return round(rate * (1 << 24))


def masks(context: Context) -> Iterator[Hypothesis]:
    """The output of a layer that draws by a key."""
    if context.what != "out" or context.path not in context.dropouts or not context.call:
        return
    if not installed("jax"):
        return  # the masks are drawn by its generator
    rate, key = context.dropouts[context.path]
    x = context.call.inputs[0]
    falls = _falls(key, x.shape, rate)
    yield "its input dropped by its key", np.where(falls, 0.0, x / (1 - rate))
    yield "its input dropped, what stays not scaled", np.where(falls, 0.0, x)
    yield "its input dropped, what stays times 1 - rate", np.where(falls, 0.0, x * (1 - rate))
    yield "what should fall, and what should stay is dropped", np.where(~falls, 0.0, x / (1 - rate))
    yield "its input as it is", x
    for name, mask in _other_masks(key, x.shape, rate):
        yield f"its input dropped {name}", np.where(mask, 0.0, x / (1 - rate))
    for name, (_, other) in context.dropouts.items():
        if name != context.path:
            yield f"its input dropped by the key of {name}", dropped(x, rate, other)


def _other_masks(key: Array, shape: tuple[int, ...], rate: float) -> Iterator[tuple[str, Array]]:
    words = _words(key, shape)
    for factor in (1.1, 0.9, 2.0, 0.5):
        yield f"at {factor:g} times its rate", _falls(key, shape, factor * rate)
    yield "at a rate rounded to 256ths", _falls(key, shape, round(256 * rate) / 256)
    yield "by words taken for signed ones", words.view(np.int32) >> 8 < _threshold(rate)
    if len(shape) > 1:
        turned = (*shape[:-2], shape[-1], shape[-2])
        yield "by a mask with its axes swapped", _falls(key, turned, rate).swapaxes(-1, -2)
        same = _falls(key, (1, *shape[1:]), rate)
        yield "by one mask for all sequences", np.broadcast_to(same, shape)
    yield "by jax.random.bernoulli, which draws other bits", _bernoulli(key, rate, shape)


def _bernoulli(key: Array, rate: float, shape: tuple[int, ...]) -> Array:
    import jax

    return np.asarray(jax.random.bernoulli(_jax_key(key), rate, shape))


def dropped_in_one(torch: Array, jax: Array) -> str | None:
    """How one model's tensor is the other's with some numbers dropped and the rest scaled."""
    for dropping, whole, x, y in (("JAX", "PyTorch", torch, jax), ("PyTorch", "JAX", jax, torch)):
        fallen = (y == 0) & (x != 0)
        staying = (y != 0) & (x != 0)
        if not fallen.any() or not staying.any() or ((x == 0) & (y != 0)).any():
            continue
        factor = float((y[staying] / x[staying]).mean())
        if np.allclose(y[staying], factor * x[staying], rtol=1e-6, atol=0):
            share = fallen.sum() / (fallen.sum() + staying.sum())
            return (
                f"{dropping}'s is {whole}'s with {share:.3g} of it dropped, and what stays "
                f"times {factor:.6g}"
            )
    return None
