"""Batches for both frameworks: seeded or from a file, checked before a framework reads them."""

import math
import os
import tokenize
import warnings

import numpy as np
from jaxtyping import Int
from numpy.lib import format as npy

from shared import files
from shared.config import GPTConfig

# Errors that NumPy raises on damaged files, whose header it parses as Python.
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    SyntaxError,
    tokenize.TokenError,
)


def check_tokens(tokens: np.ndarray, config: GPTConfig, source: str = "tokens") -> np.ndarray:
    """``tokens`` as int32 [B, T+1]. Raises ``ValueError`` for another shape, dtype or id.

    The frameworks differ on ids out of range: PyTorch raises, JAX clamps them or returns NaN.
    """
    if tokens.dtype.kind not in "iu":
        raise ValueError(f"{source} is of dtype {tokens.dtype}: expected integers")
    if tokens.ndim != 2 or tokens.shape[0] < 1 or tokens.shape[1] < 2:
        raise ValueError(
            f"{source} has shape {tokens.shape}: expected [B, T+1] with B and T of 1 or more"
        )
    if tokens.shape[1] - 1 > config.context_length:
        raise ValueError(
            f"{source} is {tokens.shape[1] - 1} tokens long: "
            f"expected at most the context length, {config.context_length}"
        )
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= config.vocab_size:
        wrong = low if low < 0 else high
        raise ValueError(f"{source} holds token {wrong}: expected 0 to {config.vocab_size - 1}")
    return tokens.astype(np.int32)


def load_tokens(path: str | os.PathLike[str], config: GPTConfig) -> np.ndarray:
    """Token ids [B, T+1], int32, from a ``.npy`` file; never unpickles. Raises ``ValueError``."""
    try:
        tokens = _read_array(path)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: give a .npy file of integers [B, T+1]") from None
    except _UNREADABLE as error:
        raise ValueError(
            f"{path} is not a whole .npy file ({error}): save it with numpy.save"
        ) from None
    return check_tokens(tokens, config, str(path))


def _read_array(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in a ``.npy`` file that is as long as its header says."""
    size = files.require_regular(path)
    # Not numpy.load, which would also take archives and has more ways to fail.
    with open(path, "rb") as file, warnings.catch_warnings(action="ignore"):
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"it is of version {version}, expected 1.0 or 2.0")
        newer = version == (2, 0)
        read_header = npy.read_array_header_2_0 if newer else npy.read_array_header_1_0
        shape, _, dtype = read_header(file)
        if min(shape, default=0) < 0:
            raise ValueError(f"its header has shape {shape}")
        asked, held = math.prod(shape) * dtype.itemsize, size - file.tell()
        if asked != held:
            raise ValueError(f"its header asks for {asked} bytes of numbers, there are {held}")
        file.seek(0)
        return npy.read_array(file, allow_pickle=False)


def token_batch(config: GPTConfig, batch_size: int, length: int, seed: int) -> np.ndarray:
    """Seeded token ids [B, T+1], int32, uniform over the vocabulary."""
    drawn = np.random.default_rng(seed).integers(config.vocab_size, size=(batch_size, length + 1))
    return check_tokens(drawn, config)


def split_tokens(
    tokens: Int[np.ndarray, "B N"],
) -> tuple[Int[np.ndarray, "B N-1"], Int[np.ndarray, "B N-1"]]:
    """Inputs ``tokens[:, :-1]`` and targets ``tokens[:, 1:]``: each position predicts the next."""
    return tokens[:, :-1], tokens[:, 1:]


def labelled_batch(batch_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [B, 10] and labels [B, 1] in {0, 1}, float32, for ``SimpleNet``.

    A label is 1 where the features' sum is positive, so that it can be learnt.
    """
    x = np.random.default_rng(seed).standard_normal((batch_size, 10)).astype(np.float32)
    y = (x.sum(axis=1, keepdims=True) > 0).astype(np.float32)
    return x, y
