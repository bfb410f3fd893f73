"""Records of measurements: JSON files in ``bench/results``, read and written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import TemplateError
from rich.errors import ConsoleError
from safetensors.numpy import save as to_safetensors

from bench.harness.foreign import Array
from shared import files
from shared.files import Json as Json
from shared.observation import Observation
from twingrad.environment import Environment
from twingrad.files import write_bytes
from twingrad.files import write_json as write_json

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
# Errors that a record of another form leads to where it is shown.
_UNEXPECTED: tuple[type[Exception], ...] = (
    *(ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError),
    *(ConsoleError, TemplateError),
)


@dataclass(frozen=True)
class Record:
    """A measurement: the machine, versions and commit it was made with, and its results."""

    environment: Environment
    body: dict[str, Json]

    def __getitem__(self, key: str) -> Json:
        """The part ``key`` of the results; ``KeyError`` if there is none."""
        return self.body[key]

    @classmethod
    def of(cls, content: dict[str, Json], name: str) -> "Record":
        """A record from its JSON object; ``ValueError`` if it has no environment."""
        if not isinstance(content.get("environment"), dict):
            raise ValueError(
                f"{name} is not what its command writes (it has no environment): "
                "run that command again"
            )
        body = {key: value for key, value in content.items() if key != "environment"}
        return cls(content["environment"], body)

    def as_object(self) -> dict[str, Json]:
        """The record as its JSON object."""
        return {"environment": self.environment, **self.body}


def path_of(name: str) -> Path:
    """The file of the committed record ``name``."""
    return RESULTS / f"{name}.json"


def load(name: str) -> Record:
    """The committed record ``name``; ``ValueError`` if the file holds no record."""
    content = files.read_object(path_of(name), "run its command again")
    return Record.of(content, name)


def save(path: str | os.PathLike[str], record: Record) -> None:
    """Write a record whole or not at all; ``ValueError`` says why it cannot be written."""
    write_json(path, record.as_object())


@contextmanager
def showing(name: str) -> Iterator[None]:
    """Turn errors about the form of the record ``name`` into a ``ValueError`` that names it."""
    try:
        yield
    except _UNEXPECTED as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise ValueError(
            f"{name} is not what its command writes ({reason}): run that command again"
        ) from error


def write_observed(
    path: str | os.PathLike[str], observed: dict[str, Observation], dtype: str
) -> None:
    """Write logits, loss and gradients of both sides as one safetensors file, in ``dtype``."""
    tensors: dict[str, Array] = {}
    for side, seen in observed.items():
        tensors[f"{side}/logits"] = seen.output
        tensors[f"{side}/loss"] = seen.loss
        tensors |= {f"{side}/grad/{name}": value for name, value in seen.gradients.items()}
    arrays = {name: _in_dtype(np.asarray(value), dtype) for name, value in tensors.items()}
    write_bytes(path, to_safetensors(arrays, metadata={"dtype": dtype}))


def _in_dtype(value: Array, dtype: str) -> Array:
    """The tensor as it was computed: bfloat16 was widened to float32, which lost nothing."""
    if dtype == "bfloat16" and value.dtype == np.float32:
        import ml_dtypes  # comes with JAX

        value = value.astype(ml_dtypes.bfloat16)
    return np.asarray(value, order="C")
