"""Format of a checkpoint: its contents, its files, and the seal of ``state.json``.

A checkpoint is a folder ``step-000100``: the parameters and AdamW's two moments as safetensors, in
canonical names and layout, and ``state.json`` with everything else, each file's size and SHA-256,
and a SHA-256 of its own.
"""

import hashlib
import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shared.config import GPTConfig, TrainConfig
from shared.files import JsonObject

FORMAT = "twingrad checkpoint"
VERSION = 1

STATE = "state.json"
# File of each group of tensors. Only these names are ever opened, whatever state.json says.
FILES = {name: f"{name}.safetensors" for name in ("params", "first_moment", "second_moment")}
# Fields of plain JSON.
FREE_FORM = ("data", "tokenizer", "random", "extra")
# End of a sealed state.json, behind the digest.
END = b'"\n}\n'


@dataclass(frozen=True, kw_only=True, eq=False)
class Progress:
    """A training after ``step`` steps, without its tensors, in terms that both frameworks share.

    ``framework`` is the one that trained. ``data`` is the state of the loader, ``random`` that of
    the generator, ``extra`` the run's own; these and ``tokenizer`` are plain JSON. Raises
    ``ValueError`` naming the field that is wrong.
    """

    step: int
    model: GPTConfig
    train: TrainConfig
    framework: str
    data: JsonObject
    tokenizer: JsonObject
    random: JsonObject
    extra: JsonObject

    def __post_init__(self) -> None:
        whole = isinstance(self.step, int) and not isinstance(self.step, bool)
        if not whole or self.step < 0:
            raise ValueError(f"step is {self.step!r}: expected a whole number, 0 or more")
        if not isinstance(self.framework, str) or not self.framework:
            raise ValueError(f"framework is {self.framework!r}: expected torch or jax")
        for name in FREE_FORM:
            value = getattr(self, name)
            if not isinstance(value, dict) or not _is_json(value):
                raise ValueError(
                    f"{name} is {reprlib.repr(value)}, which JSON does not give back unchanged: "
                    "expected a dict of lists, strings, finite numbers, true, false and None"
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint(Progress):
    """A training with its tensors: ``params`` and AdamW's moments, float32 or float64.

    All three have canonical names. Tensors of a checkpoint on the disk are read one at a time,
    when they are looked up.
    """

    params: Mapping[str, np.ndarray]
    first_moment: Mapping[str, np.ndarray]
    second_moment: Mapping[str, np.ndarray]


def seal(state: JsonObject) -> bytes:
    """``state`` as JSON that ends in its own digest, of all bytes but the digest's 64."""
    blank = json.dumps(state | {"sha256": ""}, indent=2, allow_nan=False).encode() + b"\n"
    return blank[: -len(END)] + hashlib.sha256(blank).hexdigest().encode() + END


def is_sealed(content: bytes) -> bool:
    """Whether ``content``, a whole ``state.json``, ends in its own digest."""
    end = len(content) - len(END)
    start = end - 2 * hashlib.sha256().digest_size
    blank = content[:start] + content[end:]
    return content[start:end] == hashlib.sha256(blank).hexdigest().encode()


def folder_name(step: int) -> str:
    """``step-000100`` for step 100."""
    return f"step-{step:06d}"


def step_of(name: str) -> int | None:
    """The step in a folder's ``name``; ``None`` unless it is the name of a checkpoint."""
    digits = re.fullmatch(r"step-([0-9]{6,})", name)
    step = int(digits[1]) if digits else None
    return step if step is not None and folder_name(step) == name else None


def _is_json(value: JsonObject) -> bool:
    """Whether ``value`` comes back from JSON as it went in."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False
