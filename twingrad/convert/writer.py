"""A safetensors file written tensor by tensor: the library's own writers need all of them at once.

The format is a header of names, dtypes, shapes and offsets, which are known before any tensor is
made, and then the bytes of each.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twingrad.convert.dtypes import BY_NAME, NAMES
from twingrad.convert.source import as_bytes
from twingrad.foreign import Array, DType
from twingrad.map import Shape

_ORDER = {dtype: place for place, dtype in enumerate(BY_NAME.values())}
_HEADER_ALIGNMENT = 8


@dataclass(frozen=True, kw_only=True)
class Output:
    """A tensor to write: its name, shape and dtype, and a function that makes it."""

    name: str
    shape: Shape
    dtype: DType
    make: Callable[[], Array]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def write_safetensors(
    path: Path, outputs: Sequence[Output], metadata: Mapping[str, str] | None = None
) -> int:
    """Write ``outputs`` as safetensors' own library orders them; the number of bytes of the file.

    One tensor is in memory at a time.
    """
    ordered = sorted(outputs, key=lambda output: (_ORDER[output.dtype], output.name))
    header = _header(ordered, metadata or {})
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for output in ordered:
            value = output.make()
            made, wanted = (value.shape, value.dtype), (output.shape, output.dtype)
            assert made == wanted, f"{output.name}: made {made}, announced {wanted}"
            file.write(as_bytes(value).data)
            del value  # before the next one is made
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
    return size


def _header(outputs: Sequence[Output], metadata: Mapping[str, str]) -> bytes:
    content: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for output in outputs:
        content[output.name] = {
            "dtype": NAMES[output.dtype],
            "shape": list(output.shape),
            "data_offsets": [start, start + output.nbytes],
        }
        start += output.nbytes
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % _HEADER_ALIGNMENT)
