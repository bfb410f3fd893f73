"""A PyTorch model and its port, brought along by whoever wants them compared.

A pair file is Python: it makes a ``Pair`` called ``pair``. Everything that can be inferred is.
"""

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from twingrad.basis import require_precision
from twingrad.decode import Decode
from twingrad.foreign import Array, Loss, Model, Optimizer, OptimizerOf
from twingrad.partners import Partner
from twingrad.sides import Framework, RecordedModel
from twingrad.stated import Names
from twingrad.suggestions import nearby_file
from twingrad.user_code import refused

# Packages that come with one framework alone, and what to do where one of them is not there.
OF_A_FRAMEWORK = ("torch", "jax", "jaxlib", "flax", "optax", "equinox", "haiku", "keras")
APART = (
    "install it, or import each framework only within the functions that make its model and its "
    "loss, or keep each side in a pair file of its own"
)
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
    # Or a tuple: (Linen module, its variables), or (function of parameters and inputs, parameters).
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(random.normal(size=(16, 4)), random.normal(size=(16, 1))),
    # Only what names and shapes leave open. A list cuts PyTorch's tensor along its first axis.
    names={"2.weight": "layers.1.kernel", "2.bias": "layers.1.bias"},
)
'''

STARTERS: dict[Framework, str] = {
    "torch": '''"""The PyTorch side of a pair, for `twingrad record --side torch`."""

import numpy as np
import torch

from twingrad import Pair


def make_torch():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))


def torch_loss(model, x, y):
    return torch.mean((model(x) - y) ** 2)


random = np.random.default_rng(0)
pair = Pair(
    torch=make_torch,
    torch_loss=torch_loss,
    # The same numbers as in the other side's file.
    batch=(random.normal(size=(16, 4)), random.normal(size=(16, 1))),
    # Read where this side is judged: only what names and shapes leave open.
    names={"2.weight": "layers.1.kernel", "2.bias": "layers.1.bias"},
)
''',
    "jax": '''"""The JAX side of a pair, for `twingrad diagnose --against`."""

import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np

from twingrad import Pair


class Port(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)])

    def __call__(self, x):
        return self.layers[1](nnx.relu(self.layers[0](x)))


def jax_loss(model, x, y):
    return jnp.mean((model(x) - y) ** 2)


random = np.random.default_rng(0)
pair = Pair(
    jax=lambda: Port(nnx.Rngs(0)),
    jax_loss=jax_loss,
    # The same numbers as in the other side's file.
    batch=(random.normal(size=(16, 4)), random.normal(size=(16, 1))),
    # Read where this side is judged: only what names and shapes leave open.
    names={"2.weight": "layers.1.kernel", "2.bias": "layers.1.bias"},
)
''',
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models that should be one, a batch, and a loss for each.

    ``torch`` is an ``nn.Module`` or a function that makes one. ``jax`` is an ``nnx.Module``, an
    ``eqx.Module``, a Keras model on its JAX backend, a tuple of a Linen module with its variables,
    of a Haiku transformed function or of a plain function with its parameters, each with its state
    if it has one, or a function that makes one of them.
    A model that is given itself is copied, and stays as it is. The losses are called as
    ``loss(model, *batch)`` and return the loss, a scalar, or the loss and an output; without them
    the loss is the mean square of what the model returns for the whole batch.
    ``batch`` are NumPy arrays of any shape: those of floating-point or complex numbers are given in
    the precision under test, float64 or float32, integers and truth values as they are (to PyTorch
    signed integers as int64). ``jax_batch`` is for inputs that lie differently, as images do with
    channels last.
    PyTorch's numbers are copied into the JAX model unless ``copy`` is off. ``names`` says which
    parameter is which, and how it lies in JAX, where names, shapes and layers do not: its values
    are names, lists of them, and ``To``. ``train`` runs both in training mode.
    ``torch_optimizer`` makes an optimizer of parameters, ``jax_optimizer`` is optax's; given both,
    their updates are compared too. ``torch_decode`` and ``jax_decode`` say how each side decodes
    with a cache; ``tokens`` [B, T] are decoded then, or the batch's first integers of that shape.
    ``precision`` "float32" or "bfloat16" is for code that cannot run in float64: both models are
    then judged there alone. ``name`` is what messages call the pair.
    One side may be left out, where the other is recorded or judged from a record: its model, its
    loss and its optimizer. ``batch`` is then what the side that is given takes.

    Raises ``ValueError`` for a model, a loss or an optimizer of another kind, one loss without the
    other, and batches that differ in size, hold NaN or are no arrays of numbers.

    Example::

        pair = Pair(
            torch=torch.nn.Linear(3, 2),
            jax=nnx.Linear(3, 2, rngs=nnx.Rngs(0)),
            torch_loss=lambda model, x: (model(x) ** 2).mean(),
            jax_loss=lambda model, x: (model(x) ** 2).mean(),
            batch=[np.ones((4, 3))],
        )
    """

    torch: Model = None
    jax: Model = None
    torch_loss: Loss | None = None
    jax_loss: Loss | None = None
    batch: Sequence[Array]
    jax_batch: Sequence[Array] | None = None
    names: Names = field(default_factory=dict)
    copy: bool = True
    train: bool = False
    torch_optimizer: OptimizerOf | None = None
    jax_optimizer: Optimizer = None
    torch_decode: Decode | None = None
    jax_decode: Decode | None = None
    tokens: Array | None = None
    precision: str = "float64"
    name: str = "pair"

    def __post_init__(self) -> None:
        require_precision(self.precision)
        if self.torch is None and self.jax is None:
            raise ValueError("the pair has neither torch nor jax: give a model for each, or one")
        for name in ("torch", "jax"):
            value = getattr(self, name)
            if value is None or isinstance(value, RecordedModel):
                continue
            if not callable(value) and not (name == "jax" and _with_parameters(value)):
                raise ValueError(
                    f"{name} is {value!r:.200}: expected a model, or a function that makes it"
                )
        for name in ("torch_loss", "jax_loss"):
            value = getattr(self, name)
            if not callable(value) and value is not None:
                raise ValueError(
                    f"{name} is {value!r:.200}: expected a function of model and batch"
                )
        here = [
            model is not None and not isinstance(model, RecordedModel)
            for model in (self.torch, self.jax)
        ]
        if all(here) and (self.torch_loss is None) != (self.jax_loss is None):
            raise ValueError("torch_loss and jax_loss: give both, or neither")
        for name, decode in (("torch_decode", self.torch_decode), ("jax_decode", self.jax_decode)):
            if decode is not None and not isinstance(decode, Decode):
                raise ValueError(f"{name} is {decode!r:.200}: expected twingrad.Decode(...)")
        if all(here) and (self.torch_decode is None) != (self.jax_decode is None):
            raise ValueError("torch_decode and jax_decode: give both, or neither")
        if self.torch_optimizer is not None and not callable(self.torch_optimizer):
            raise ValueError(
                f"torch_optimizer is {self.torch_optimizer!r:.200}: expected a function of "
                "parameters that makes an optimizer"
            )
        if self.jax_optimizer is not None and not callable(
            getattr(self.jax_optimizer, "update", None)
        ):
            raise ValueError(
                f"jax_optimizer is {self.jax_optimizer!r:.200}: expected optax's, as optax.sgd(0.1)"
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
            if a.dtype.kind in "fc" and not np.isfinite(a).all():
                raise ValueError(f"array {number} of the batch holds NaN or infinity: leave it out")


@dataclass(frozen=True, kw_only=True)
class LoadedPair(Pair):
    """A pair whose models hold the numbers of two checkpoints, which ``partners`` say are one.

    ``torch_numbers`` and ``jax_numbers`` are tensors by the models' own names, of their shapes and
    of any dtype. Where they lack a tensor, the model keeps its own.
    """

    partners: Sequence[Partner]
    torch_numbers: Mapping[str, Array]
    jax_numbers: Mapping[str, Array]

    @classmethod
    def of(
        cls,
        pair: Pair,
        partners: Sequence[Partner],
        torch_numbers: Mapping[str, Array],
        jax_numbers: Mapping[str, Array],
    ) -> "LoadedPair":
        """``pair`` with these numbers in its models."""
        own = {each.name: getattr(pair, each.name) for each in fields(Pair)} | {"copy": True}
        return cls(**own, partners=partners, torch_numbers=torch_numbers, jax_numbers=jax_numbers)


def _with_parameters(value: object) -> bool:
    """Whether ``value`` is a tuple of a function or a module, its parameters, and its state."""
    if not isinstance(value, tuple) or len(value) not in (2, 3):
        return False
    return callable(value[0]) or callable(getattr(value[0], "apply", None))


def _arrays(batch: Sequence[Array]) -> list[Array]:
    arrays = list(batch)
    for number, array in enumerate(arrays):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiubc":
            raise ValueError(
                f"array {number} of the batch is a {type(array).__name__}: expected a NumPy array "
                "of numbers"
            )
    return arrays


@contextmanager
def importing_beside(path: Path) -> Iterator[None]:
    """Within, what lies in the folder of the pair file ``path`` is imported before all else."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:  # the pair's own code may change the path
            sys.path.remove(folder)


def load(path: Path) -> Pair:
    """The pair that the file ``path`` makes. Raises ``ValueError`` that says what is wrong with it.

    What the file imports from beside it while its models run is found only if the caller, too, is
    within ``importing_beside(path)``.
    """
    if not path.is_file():
        raise ValueError(
            f"there is no pair file {path}:{nearby_file(path)} make one with twingrad init-pair "
            f"{path}"
        )
    # Under a name of its own: the file may have the name of a module that it imports.
    spec = importlib.util.spec_from_file_location(f"_pair_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file: a pair file ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up annotations that are strings
    try:
        with importing_beside(path):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        name = error.name if isinstance(error, ModuleNotFoundError) else None
        fix = APART if (name or "").partition(".")[0] in OF_A_FRAMEWORK else "fix the file"
        raise refused(str(path), error, fix) from error
    pair: object = getattr(module, "pair", None)
    if not isinstance(pair, Pair):
        raise ValueError(
            f"{path} makes {type(pair).__name__ if pair is not None else 'nothing'} called pair: "
            "expected pair = twingrad.Pair(...)"
        )
    return pair


def write_starter(path: Path, side: Framework | None = None) -> None:
    """Write a pair file to fill in, with both sides or with one.

    Raises ``ValueError`` if ``path`` exists or cannot be written.
    """
    if path.suffix != ".py":
        raise ValueError(f"{path} is no Python file's name: let it end in .py")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: the folder {path.parent} does not exist; create it")
    try:
        with path.open("x", encoding="utf-8") as file:
            try:
                file.write(STARTER if side is None else STARTERS[side])
                file.flush()
            except OSError:
                path.unlink()  # half of it
                raise
    except FileExistsError:
        raise ValueError(f"{path} exists already: choose another name") from None
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None
