"""Safetensors files: tensors read lazily by name, and written."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from shared import files
from shared.files import write_bytes
from shared.params import Params, check_names, check_tensor


class Stored(Mapping[str, np.ndarray]):
    """The tensors of a safetensors file in the order of ``shapes``, read when they are looked up.

    At most one is in memory at a time, also while all are checked at the start. Raises
    ``ValueError`` naming the file, or the first wrong tensor.
    """

    def __init__(self, path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.path, self._shapes = path, shapes
        with _opened(path) as file:
            names = list(file.keys())
        try:
            check_names(names, shapes)
            for name, shape in shapes.items():
                check_tensor(name, self[name], shape)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._shapes:
            raise KeyError(name)
        with _opened(self.path) as file:
            return _tensor(self.path, file, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def read_safetensors(path: str | os.PathLike[str]) -> Params:
    """Every tensor of one safetensors file; 16-bit floats are widened to float32, losslessly.

    Raises ``ValueError`` when the file is absent, truncated or not of that format. The library
    checks header, offsets and shapes against the file's size before it copies any tensor.
    """
    with _opened(path) as file:
        return {name: _tensor(path, file, name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[safe_open]:
    """The safetensors file ``path``, open for reading. Raises ``ValueError`` if it is not one."""
    try:
        files.require_regular(path)
        with safe_open(path, framework="numpy") as file:
            yield file
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: give a .safetensors file or a folder") from None
    except (SafetensorError, OSError) as error:
        detail = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is not a whole safetensors file ({detail}): save or download it again"
        ) from None


def _tensor(path: str | os.PathLike[str], file: safe_open, name: str) -> np.ndarray:
    stored = file.get_slice(name)
    dtype = stored.get_dtype()
    if dtype == "BF16":
        return _bfloat16(path, name).reshape(stored.get_shape())
    if dtype.startswith(("F4", "F6_", "F8_")):
        raise ValueError(
            f"{path} holds tensor {name!r} as {dtype}: expected 16-bit floats or wider"
        )
    value = file.get_tensor(name)
    return value.astype(np.float32) if dtype == "F16" else value


def _bfloat16(path: str | os.PathLike[str], name: str) -> np.ndarray:
    """One bfloat16 tensor, which NumPy lacks: the upper half of a float32."""
    with open(path, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
        start, end = json.loads(file.read(header))[name]["data_offsets"]
        file.seek(8 + header + start)
        bits = np.frombuffer(file.read(end - start), "<u2")
    return (bits.astype(np.uint32) << 16).view(np.float32)


def write_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]) -> None:
    """Write ``tensors`` to ``path`` whole or not at all (a temporary file, then a rename)."""
    whole = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    write_bytes(path, to_safetensors(whole, metadata={"format": "pt"}))
