"""What a dropout layer drops whose mask is a function of a key, and what it may do instead."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from twingrad.diagnosis.hypotheses.context import Guess, Scene


def dropped(x: np.ndarray, rate: float, key: np.ndarray) -> np.ndarray:
    """``x`` as matched dropout leaves it."""
    return np.where(_falls(key, x.shape, rate), 0.0, x / (1 - rate))


def _words(key: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A random word for each element, by its number: Threefry-2x32, JAX's own generator."""
    import jax

    with jax.threefry_partitionable(True):
        return np.asarray(jax.random.bits(_jax_key(key), shape, "uint32"))


def _jax_key(key: np.ndarray) -> Any:
    import jax

    return jax.random.wrap_key_data(jax.numpy.asarray(key), impl="threefry2x32")


def _falls(key: np.ndarray, shape: tuple[int, ...], rate: float) -> np.ndarray:
    return _words(key, shape) >> 8 < _threshold(rate)


def _threshold(rate: float) -> int:
    """The bound that the upper 24 bits of a random word are under with probability ``rate``."""
    return round(rate * (1 << 24))


def masks(scene: Scene) -> Iterator[Guess]:
    """What a layer that draws by a key makes of its input."""
    if scene.what != "out" or scene.path not in scene.dropouts or not scene.call:
        return
    rate, key = scene.dropouts[scene.path]
    x = scene.call.inputs[0]
    falls = _falls(key, x.shape, rate)
    yield "its input dropped by its key", np.where(falls, 0.0, x / (1 - rate))
    yield "its input dropped, what stays not scaled", np.where(falls, 0.0, x)
    yield "its input dropped, what stays times 1 - rate", np.where(falls, 0.0, x * (1 - rate))
    yield "what should fall, and what should stay is dropped", np.where(~falls, 0.0, x / (1 - rate))
    yield "its input as it is", x
    for name, mask in _other_masks(key, x.shape, rate):
        yield f"its input dropped {name}", np.where(mask, 0.0, x / (1 - rate))
    for name, (_, other) in scene.dropouts.items():
        if name != scene.path:
            yield f"its input dropped by the key of {name}", dropped(x, rate, other)


def _other_masks(
    key: np.ndarray, shape: tuple[int, ...], rate: float
) -> Iterator[tuple[str, np.ndarray]]:
    words = _words(key, shape)
    for factor in (1.1, 0.9, 2.0, 0.5):
        yield f"at {factor:g} times its rate", _falls(key, shape, factor * rate)
    yield "at a rate rounded to 256ths", _falls(key, shape, round(256 * rate) / 256)
    yield "by words taken for signed ones", words.view(np.int32) >> 8 < _threshold(rate)
    if len(shape) > 1:
        turned = (*shape[:-2], shape[-1], shape[-2])
        yield "by a mask with its axes swapped", _falls(key, turned, rate).swapaxes(-1, -2)
        one = _falls(key, (1, *shape[1:]), rate)
        yield "by one mask for all sequences", np.broadcast_to(one, shape)
    yield "by jax.random.bernoulli, which draws other bits", _bernoulli(key, rate, shape)


def _bernoulli(key: np.ndarray, rate: float, shape: tuple[int, ...]) -> np.ndarray:
    import jax

    return np.asarray(jax.random.bernoulli(_jax_key(key), rate, shape))


def one_drops(ours: np.ndarray, theirs: np.ndarray) -> str | None:
    """Where one side is the other with some numbers dropped, and the rest times one factor."""
    for names, x, y in (
        (("JAX", "PyTorch"), ours, theirs),
        (("PyTorch", "JAX"), theirs, ours),
    ):
        fallen = (y == 0) & (x != 0)
        kept = (y != 0) & (x != 0)
        if not fallen.any() or not kept.any() or ((x == 0) & (y != 0)).any():
            continue
        factor = float((y[kept] / x[kept]).mean())
        if np.allclose(y[kept], factor * x[kept], rtol=1e-6, atol=0):
            share = fallen.sum() / (fallen.sum() + kept.sum())
            return (
                f"{names[0]}'s is {names[1]}'s with {share:.3g} of it dropped, and what stays "
                f"times {factor:.6g}"
            )
    return None
