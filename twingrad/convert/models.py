"""The two models of a pair as a conversion needs them: names, shapes, and the map between them.

Models are made without memory for their numbers, on PyTorch's meta device and as JAX's abstract
values, where their code allows it; else they are made, looked at and forgotten.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import jax
import numpy as np
import torch
from torch import nn

from twingrad import jax_probe, ties, torch_probe
from twingrad.arithmetic import arithmetic
from twingrad.convert.torch_source import numpy_dtype, numpy_of
from twingrad.foreign import Array, Tree, Untyped
from twingrad.jax_models.model import keys
from twingrad.live import LivePair, run_foreign
from twingrad.map import Shape
from twingrad.matching import match
from twingrad.pair import Pair
from twingrad.partners import Leaf, Partner

# Models are looked at in this dtype; shapes and names are the same in all.
_DTYPE = "float32"


@dataclass(frozen=True, kw_only=True)
class TorchSide:
    """Names and shapes of a PyTorch model's tensors.

    ``shapes`` has every tensor once, tied ones by the first of their names; ``names`` has all names
    of each. ``saved`` are those that ``state_dict`` has, each by the name that a file gives it.
    ``leaves`` are those that a map knows: parameters and buffers of floating-point numbers.
    """

    leaves: Sequence[Leaf]
    shapes: Mapping[str, Shape]
    names: Mapping[str, Sequence[str]]
    saved: Mapping[str, str]

    @classmethod
    def of(cls, pair: Pair) -> "TorchSide":
        """Of the pair's model, which is made on the meta device if it can be."""
        model = _torch_model(pair, "meta")
        named: dict[str, torch.Tensor] = {
            **dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False)),
        }
        first: dict[int, str] = {}
        names: dict[str, list[str]] = {}
        leaves = torch_probe.leaves(model)
        for name in (*(leaf.path for leaf in leaves), *named):
            members = names.setdefault(first.setdefault(id(named[name]), name), [])
            if name not in members:
                members.append(name)
        state = set(model.state_dict())
        tied = _left_out(model)
        saved = {}
        for name, members in names.items():
            kept = [member for member in members if member in state]
            if kept:
                saved[name] = next((member for member in kept if member not in tied), kept[0])
        return cls(
            leaves=leaves,
            shapes={name: tuple(named[name].shape) for name in names},
            names=names,
            saved=saved,
        )


@dataclass(frozen=True, kw_only=True)
class JaxSide:
    """Names and shapes of a JAX model's tensors, and the tree of names in which they are given."""

    leaves: Sequence[Leaf]
    tree: Tree

    @classmethod
    def of(cls, pair: Pair) -> "JaxSide":
        """Of the pair's model, which is made of abstract values if it can be."""
        made: list[jax_probe.Subject] = []

        def look() -> Tree:
            subject = _jax_model(pair)
            made.append(subject)
            # From then on the classes of all modules are known.
            subject.paths(pair.jax_loss or subject.mean_square, pair.jax_batch or pair.batch)
            return subject.tensors

        try:
            jax.eval_shape(look)
        except Exception:  # code of the pair's that needs numbers
            made.clear()
            run_foreign("jax", look)
        subject = made[-1]
        leaves = subject.leaves()
        # Nothing but names is kept of the model: its numbers can be forgotten.
        tree = subject.model.whole_tree({leaf.path: leaf.path for leaf in leaves})
        return cls(leaves=leaves, tree=tree)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shapes by name."""
        return {leaf.path: leaf.shape for leaf in self.leaves}

    @property
    def places(self) -> dict[tuple[str, ...], str]:
        """Names by the keys that lead to them in the tree."""
        flat, _ = jax.tree_util.tree_flatten_with_path(self.tree)
        return {keys(path): name for path, name in flat}


@dataclass(frozen=True, kw_only=True)
class Models:
    """Both models of a pair, and which tensors they share."""

    pair: Pair
    torch: TorchSide
    jax: JaxSide
    partners: Sequence[Partner]

    @classmethod
    def of(cls, pair: Pair) -> "Models":
        """Both, with the map that ``compare`` uses.

        A layout that shapes leave open is settled as there, by running both models, for which they
        are made in float64. Raises ``ValueError`` for models that cannot be made or matched, and
        for a layout that stays open.
        """
        with arithmetic(_DTYPE):
            torch_side, jax_side = TorchSide.of(pair), JaxSide.of(pair)
        partners = match(torch_side.leaves, jax_side.leaves, pair.names)
        still_open = [p for p in partners if p.others]
        if still_open and not pair.copy:
            raise ValueError(ties.question(still_open))
        if still_open:
            with arithmetic("float64"):
                partners = _settled(pair)
        return cls(pair=pair, torch=torch_side, jax=jax_side, partners=partners)

    def torch_numbers(self, names: Iterable[str]) -> dict[str, Array]:
        """The numbers that PyTorch's model itself begins with; the model is then forgotten."""
        wanted = set(names)
        if not wanted:
            return {}
        model = _torch_model(self.pair, None)
        named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        return {name: _copied(name, named[name]) for name in wanted}

    def jax_numbers(self, names: Iterable[str]) -> dict[str, Array]:
        """The numbers that JAX's model itself begins with; the model is then forgotten."""
        wanted = set(names)
        if not wanted:
            return {}
        with arithmetic(_DTYPE):
            tensors = run_foreign("jax", lambda: _jax_model(self.pair)).tensors
            dtypes: Untyped = jax.dtypes
            extended = dtypes.extended
            keyed = [n for n in wanted if dtypes.issubdtype(tensors[n].dtype, extended)]
            if keyed:
                raise ValueError(
                    f"{keyed[0]} of the JAX model is a random key, which no checkpoint of numbers "
                    "holds: keep it out of the parameters"
                )
            return {name: np.array(tensors[name]) for name in wanted}


def _left_out(model: nn.Module) -> set[str]:
    """Names of tied tensors that transformers leaves out of its files."""
    return {
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in model.named_modules()
        for name in getattr(module, "_tied_weights_keys", None) or ()
    }


def _copied(name: str, tensor: torch.Tensor) -> Array:
    if numpy_dtype(tensor.dtype) is None:
        raise ValueError(f"{name} of the PyTorch model is of dtype {tensor.dtype}: save another")
    return numpy_of(tensor).copy()


def _settled(pair: Pair) -> list[Partner]:
    """Partners whose layout the models' agreement has settled, without casts where that runs."""
    try:
        return LivePair.build(pair, "float64", lift=True, by_name=False).partners
    except ValueError as error:
        first = error
    try:
        return LivePair.build(pair, "float64", by_name=False).partners
    except ValueError:
        raise first from None


def _torch_model(pair: Pair, device: str | None) -> nn.Module:
    """The pair's own model, or what its function makes, on ``device`` if that can be."""
    if isinstance(pair.torch, nn.Module):
        return pair.torch

    def make(device: str | None) -> nn.Module:
        context: Untyped = torch.device(device) if device else nullcontext()
        with context:
            return torch_probe.made(pair.torch)

    if device is not None:
        try:
            with warnings.catch_warnings():  # numbers that are copied go nowhere, as is meant
                warnings.simplefilter("ignore")
                return make(device)
        except Exception:  # code of the pair's that needs numbers
            pass
    torch.manual_seed(0)
    return run_foreign("torch", lambda: make(None))


def _jax_model(pair: Pair) -> jax_probe.Subject:
    return jax_probe.Subject(jax_probe.made(pair.jax), _DTYPE, pair.train)
