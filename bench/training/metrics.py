"""Step metrics of a training run, a JSON line a step."""

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared import files
from shared.config import is_number, is_whole

FILE = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class StepLoss:
    """A step's losses in nats per token; ``val_loss`` where the step was followed by validation."""

    step: int
    loss: float
    val_loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class StepMetrics(StepLoss):
    """A step's losses, gradient norm, learning rate, pace and memory."""

    grad_norm: float
    lr: float
    tokens_per_s: float
    peak_bytes: int | None = None

    def to_json(self) -> dict[str, float]:
        """The object of a line; what the step has no number for is left out."""
        names = ("step", "loss", "grad_norm", "lr", "tokens_per_s", "peak_bytes", "val_loss")
        values = ((name, getattr(self, name)) for name in names)
        return {name: value for name, value in values if value is not None}

    @classmethod
    def from_json(cls, row: object) -> "StepMetrics":
        """The metrics of a line's value; ``ValueError`` if it is not an object of numbers."""
        if not isinstance(row, dict) or not all(is_number(value) for value in row.values()):
            raise ValueError("not an object of numbers")
        required = ("step", "loss", "grad_norm", "lr", "tokens_per_s")
        optional = ("peak_bytes", "val_loss")
        if not row.keys() >= set(required) or not is_whole(row["step"]):
            raise ValueError(f"expected {', '.join(required)}")
        return cls(**{name: row[name] for name in (*required, *optional) if name in row})


def lines(rows: Sequence[StepMetrics]) -> str:
    """``rows`` as they stand in the file."""
    return "".join(json.dumps(row.to_json(), allow_nan=False) + "\n" for row in rows)


def keep(path: Path) -> Path:
    """Keep the file ``path`` under another name too, with the first number that is free."""
    number = 1
    while True:
        kept = path.with_stem(f"{path.stem}-{number}")
        try:
            os.link(path, kept)
        except FileExistsError:
            number += 1
        else:
            return kept


def read(path: Path, step: int | None) -> list[StepMetrics]:
    """The metrics up to ``step``, or all of them; without the line that a kill cut off.

    Raises ``ValueError`` if the file cannot be read.
    """
    try:
        content = files.read_bytes(path).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}: restore or remove it") from None
    rows = []
    for line in content:
        try:
            row = StepMetrics.from_json(files.parse_json(line))
        except ValueError:
            break  # the line that the run was killed in
        if step is None or row.step <= step:
            rows.append(row)
    return rows


def best(rows: Sequence[StepLoss], steps: Collection[int]) -> int | None:
    """Of ``steps``, the one with the lowest validation loss; None where none was validated."""
    validated = [
        (row.val_loss, row.step) for row in rows if row.val_loss is not None and row.step in steps
    ]
    return min(validated)[1] if validated else None
