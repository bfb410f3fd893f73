"""Records of measurements: JSON files in ``bench/results``, read and written."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from rich.errors import ConsoleError
from safetensors.numpy import save as to_safetensors

from shared import files
from shared.files import write_bytes
from shared.observation import Observation

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
# What a record of another form leads to, where it is shown.
_UNEXPECTED: tuple[type[Exception], ...] = (
    *(ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError),
    *(ConsoleError, TemplateError),
)


def load(name: str) -> dict[str, Any]:
    """The committed record ``name``; ``ValueError`` if it is no JSON object."""
    return files.read_object(RESULTS / f"{name}.json", "make it anew")


@contextmanager
def showing(name: str) -> Iterator[None]:
    """Within, what the record ``name`` lacks or has otherwise is said: raises ``ValueError``."""
    try:
        yield
    except _UNEXPECTED as error:
        said = f"{type(error).__name__}: {error}"[:200]
        raise ValueError(f"{name} is not what its command writes ({said}): make it anew") from error


def write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write ``content`` whole or not at all; ``ValueError`` says why it cannot be written."""
    write_bytes(path, (_text(content) + "\n").encode())


def _text(value: Any, indent: str = "") -> str:
    """JSON with a line for each innermost object, so that a record's changes can be read."""
    inner = indent + " "
    if isinstance(value, dict) and any(isinstance(v, (dict, list)) for v in value.values()):
        items = [f"{inner}{json.dumps(k)}: {_text(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value):
        items = [inner + _text(v, inner) for v in value]
        return "[\n" + ",\n".join(items) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)


def write_observed(
    path: str | os.PathLike[str], observed: dict[str, Observation], dtype: str
) -> None:
    """Write logits, loss and gradients of both sides as one safetensors file, in ``dtype``."""
    tensors: dict[str, np.ndarray] = {}
    for side, seen in observed.items():
        tensors[f"{side}/logits"] = seen.output
        tensors[f"{side}/loss"] = seen.loss
        tensors |= {f"{side}/grad/{name}": value for name, value in seen.gradients.items()}
    arrays = {name: _in_dtype(np.asarray(value), dtype) for name, value in tensors.items()}
    write_bytes(path, to_safetensors(arrays, metadata={"dtype": dtype}))


def _in_dtype(value: np.ndarray, dtype: str) -> np.ndarray:
    """The tensor as it was computed: bfloat16 was widened to float32, which lost nothing."""
    if dtype == "bfloat16" and value.dtype == np.float32:
        import ml_dtypes  # comes with JAX

        value = value.astype(ml_dtypes.bfloat16)
    return np.asarray(value, order="C")
