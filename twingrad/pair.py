"""A PyTorch model and its port, brought along by whoever wants them compared.

A pair file is Python: it makes a ``Pair`` called ``pair``. Everything that can be inferred is.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from twingrad.matching import Stated

STARTER = '''"""A PyTorch model and its JAX port, for `twingrad compare` and `twingrad diagnose`."""

import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


def make_torch():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)])

    def __call__(self, x):
        return self.layers[1](nnx.relu(self.layers[0](x)))


def torch_loss(model, x, y):
    return torch.mean((model(x) - y) ** 2)


def jax_loss(model, x, y):
    return jnp.mean((model(x) - y) ** 2)


random = np.random.default_rng(0)
pair = Pair(
    torch=make_torch,
    # Or a Linen module, or a function of parameters and inputs, with its parameters: (it, them).
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(random.normal(size=(16, 4)), random.normal(size=(16, 1))),
    # Only what names and shapes leave open. A list cuts PyTorch's tensor along its first axis.
    names={"2.weight": "layers.1.kernel", "2.bias": "layers.1.bias"},
)
'''


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models that should be one, a batch, and a loss for each.

    ``torch`` makes an ``nn.Module``. ``jax`` makes an ``nnx.Module``, or a tuple of a Linen module
    or a function with its parameters. The losses are called as ``loss(model, *batch)`` and return
    the loss, or the loss and an output. Floating-point arrays of ``batch`` are given in the dtype
    under test. ``jax_batch`` is for inputs that lie differently, as images do with channels last.
    PyTorch's numbers are copied into the JAX model unless ``copy`` is off. ``names`` says which
    parameter is which where names and shapes do not. ``train`` runs both in training mode.
    ``torch_optimizer`` makes an optimizer of parameters, ``jax_optimizer`` is optax's; given both,
    their updates are compared too.
    """

    torch: Callable[[], Any]
    jax: Callable[[], Any]
    torch_loss: Callable[..., Any]
    jax_loss: Callable[..., Any]
    batch: Sequence[np.ndarray]
    jax_batch: Sequence[np.ndarray] | None = None
    names: Mapping[str, Stated] = field(default_factory=dict)
    copy: bool = True
    train: bool = False
    torch_optimizer: Callable[[Any], Any] | None = None
    jax_optimizer: Any = None
    name: str = "pair"

    def __post_init__(self) -> None:
        for name in ("torch", "jax", "torch_loss", "jax_loss"):
            if not callable(getattr(self, name)):
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}: expected a function "
                    + ("that makes the model" if "loss" not in name else "of model and batch")
                )
        ours, theirs = (_arrays(part) for part in (self.batch, self.jax_batch or self.batch))
        if len(ours) != len(theirs):
            raise ValueError(
                f"batch has {len(ours)} arrays and jax_batch {len(theirs)}: give both as many"
            )
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if a.size != b.size:
                raise ValueError(
                    f"array {number} of the batch has shape {a.shape} in PyTorch and {b.shape} in "
                    "JAX: give both sides the same numbers"
                )
            if a.dtype.kind == "f" and not np.isfinite(a).all():
                raise ValueError(f"array {number} of the batch holds NaN or infinity: leave it out")


def _arrays(batch: Any) -> list[np.ndarray]:
    arrays = list(batch)
    for number, array in enumerate(arrays):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise ValueError(
                f"array {number} of the batch is a {type(array).__name__}: expected a NumPy array "
                "of numbers"
            )
    return arrays


def load(path: Path) -> Pair:
    """The pair that the file makes. Raises ``ValueError`` that says what is wrong with it."""
    if not path.is_file():
        raise ValueError(f"there is no pair file {path}: make one with twingrad init-pair {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file: a pair file ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # it may import what lies beside it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{path} raised {said(error)}: mend the file") from error
    finally:
        sys.path.pop(0)
    found = getattr(module, "pair", None)
    if not isinstance(found, Pair):
        raise ValueError(
            f"{path} makes {type(found).__name__ if found is not None else 'nothing'} called pair: "
            "expected pair = twingrad.Pair(...)"
        )
    return found


def said(error: BaseException) -> str:
    """The kind of ``error``, which a pair's own code raised, and the first line of its words."""
    try:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    except Exception:  # an error of the pair's own making has words of its own making
        lines = []
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


def begin(path: Path) -> None:
    """Write a starter. Raises ``ValueError`` where something stands already."""
    if path.suffix != ".py":
        raise ValueError(f"{path} is no Python file's name: let it end in .py")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: the folder {path.parent} does not exist; create it")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(STARTER)
    except FileExistsError:
        raise ValueError(f"{path} exists already: choose another name") from None
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None
