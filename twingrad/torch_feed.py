"""A PyTorch model run on the tensors of a recorded JAX model, call by call.

Each module computes from JAX's input, and whoever called it goes on from JAX's output, as
``jax_replay`` does it the other way round. The backward pass is cut in the same places.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from twingrad import torch_probe
from twingrad.alignment import Placed, placed
from twingrad.calls import Call, Key, Pass, Replayed, only_loss
from twingrad.foreign import Array, Loss, ModuleCall, Tree
from twingrad.torch_arrays import array

Side = Literal["in", "out"]
Place = tuple[Key, Side, int]  # a call of PyTorch's, and which of its floating-point tensors


@dataclass(frozen=True)
class _Site:
    """Tensors of one call, at its inputs or its outputs: JAX's, and PyTorch's that stand for them.

    ``matches`` are by JAX's tensors. Without any the call goes on from its own.
    """

    jax: Sequence[Array]
    jax_gradients: Sequence[Array]
    matches: Sequence[Placed | None]
    torch: Sequence[Array]

    @property
    def fits(self) -> bool:
        """Whether JAX's tensors can take the place of PyTorch's."""
        return any(self.matches) or not self.jax

    def given(self) -> Iterator[tuple[int, Array, Array]]:
        """For PyTorch's tensors by number: JAX's values, and the weights of their gradients.

        Of one tensor that is given several times, the first has the whole gradient.
        """
        for match, value, gradient in zip(self.matches, self.jax, self.jax_gradients, strict=True):
            for number in match.sources if match is not None else ():
                assert match is not None
                shape = self.torch[number].shape
                weight = gradient if number == match.sources[0] else np.zeros_like(gradient)
                yield number, match.undone(value, shape), match.undone(weight, shape)


@dataclass(kw_only=True)
class Feed:
    """A recorded pass of JAX's, ``jax``, for a PyTorch model whose own pass is ``torch``.

    ``names`` are PyTorch's calls by JAX's.
    """

    jax: Pass
    torch: Pass
    names: Mapping[Key, Key]
    channels_last: bool
    dtype: str

    @cached_property
    def sites(self) -> dict[tuple[Key, Side], _Site]:
        """What is exchanged, by PyTorch's calls; an output only where the input was."""
        sites: dict[tuple[Key, Side], _Site] = {}
        for jax_key, key in self.names.items():
            there, here = self.jax.calls[jax_key], self.torch.calls[key]
            sites[key, "in"] = self._site(
                there.inputs, there.input_gradients, here.inputs, there.inputs
            )
            if sites[key, "in"].fits:
                # What the model itself returns is not looked for in another layout or order.
                known = there.outputs if jax_key.path else None
                sites[key, "out"] = self._site(
                    there.outputs, there.output_gradients, here.outputs, known
                )
        return sites

    def _site(
        self,
        jax: Sequence[Array],
        gradients: Sequence[Array],
        torch: Sequence[Array],
        known: Sequence[Array] | None,
    ) -> _Site:
        shapes = [x.shape for x in jax]
        matches = placed(torch, shapes, known, self.channels_last, self.dtype)
        return _Site(jax, gradients, matches, torch)

    @cached_property
    def given(self) -> dict[Place, tuple[Array, Array]]:
        """JAX's values in PyTorch's layout, and the weights of PyTorch's own there."""
        return {
            (key, side, number): (value, weight)
            for (key, side), site in self.sites.items()
            for number, value, weight in site.given()
        }

    @contextmanager
    def feeding(self, model: nn.Module) -> Iterator[None]:
        """Within, ``model`` runs on JAX's tensors."""
        with _Run(self).hooked(model):
            yield

    def run(self, model: nn.Module, loss_fn: Loss, batch: Sequence[Array]) -> tuple[Replayed, Pass]:
        """PyTorch's tensors from JAX's, site by site; and the pass as its modules had it."""
        before = torch_probe.statistics(model)
        run = _Run(self)
        with run.hooked(model):
            model.zero_grad()
            loss = only_loss(loss_fn(model, *torch_probe.batch_of(batch, self.dtype)))
        terms = [
            (x * torch.from_numpy(np.array(self.given[place][1], array(x).dtype)).to(x)).sum()
            for place, x in run.own.items()
            if place in self.given and x.requires_grad
        ]
        torch.stack([loss, *terms]).sum().backward()  # type: ignore[no-untyped-call]
        gradients = {
            name: array(torch.zeros_like(p) if p.grad is None else p.grad)
            for name, p in model.named_parameters()
        }
        model.zero_grad()
        torch_probe.restore(model, before)
        fed = replace(
            self.torch,
            loss=float(loss.detach()),
            calls={key: self._handed(call, run) for key, call in self.torch.calls.items()},
            gradients=gradients,
        )
        return self._replayed(run), fed

    def _handed(self, call: Call, run: "_Run") -> Call:
        """The call with the tensors that the module got, and that its caller got."""

        def tensors(side: Side, own: Sequence[Array], weights: bool) -> list[Array]:
            handed = []
            for number, x in enumerate(own):
                place = (call.key, side, number)
                if place in self.given:
                    handed.append(self.given[place][weights])
                elif weights or place not in run.own:
                    handed.append(x)
                else:
                    handed.append(array(run.own[place]))
            return handed

        return replace(
            call,
            inputs=tensors("in", call.inputs, False),
            outputs=tensors("out", call.outputs, False),
            input_gradients=tensors("in", call.input_gradients, True),
            output_gradients=tensors("out", call.output_gradients, True),
        )

    def _replayed(self, run: "_Run") -> Replayed:
        result = Replayed(loss=self.jax.loss, gradients=self.jax.gradients)
        for jax_key, key in self.names.items():
            ids = zip(self.jax.calls[jax_key].integers, run.integers.get(key, []), strict=False)
            for number, (x, own_ids) in enumerate(ids):
                result.jax[jax_key, "index", number] = x
                fitting = own_ids.reshape(x.shape) if own_ids.size == x.size else own_ids
                result.integers[jax_key, "index", number] = fitting
            sides: tuple[Side, ...] = ("in", "out")
            for side in sides:
                if (key, side) in self.sites:
                    self._add(result, jax_key, key, side, run)
        return result

    def _add(self, result: Replayed, jax_key: Key, key: Key, side: Side, run: "_Run") -> None:
        """Values and gradients at one call's inputs or outputs, as JAX has them."""
        site = self.sites[key, side]
        own = [run.value((key, side, n), x) for n, x in enumerate(site.torch)]
        if site.jax and not any(site.matches):
            for number, (x, y) in enumerate(zip(site.jax, own, strict=False)):
                result.jax[jax_key, side, number], result.torch[jax_key, side, number] = x, y
            return
        gradients = [run.gradient((key, side, n), x) for n, x in enumerate(site.torch)]
        for number, match in enumerate(site.matches):
            if match is not None:
                place = (jax_key, side, number)
                result.jax[place], result.torch[place] = site.jax[number], match.value(own)
                result.jax_gradients[place] = site.jax_gradients[number]
                result.torch_gradients[place] = match.gradient(gradients)


@dataclass
class _Run:
    """One run: PyTorch's own tensors, and JAX's, which it is given in their place."""

    feed: Feed
    own: dict[Place, Tensor] = field(default_factory=dict)
    leaves: dict[Place, Tensor] = field(default_factory=dict)
    integers: dict[Key, list[Array]] = field(default_factory=dict)
    _entered: Counter[str] = field(default_factory=Counter)
    _open: dict[str, list[Key]] = field(default_factory=dict)

    def value(self, place: Place, like: Array) -> Array:
        """PyTorch's own tensor; NaN where this run has none."""
        found = self.own.get(place)
        return np.full(like.shape, np.nan) if found is None else array(found)

    def gradient(self, place: Place, like: Array) -> Array:
        """The gradient at what was given in its place."""
        leaf = self.leaves.get(place)
        return np.zeros(like.shape) if leaf is None or leaf.grad is None else array(leaf.grad)

    @contextmanager
    def hooked(self, model: nn.Module) -> Iterator[None]:
        """Within, calls of ``model``'s modules go through this run."""
        with ExitStack() as cleanup:
            modules = dict(model.named_modules())
            for path in dict.fromkeys(key.path for key, _ in self.feed.sites):
                module = modules[path]
                enter = module.register_forward_pre_hook(self._enter(path), with_kwargs=True)
                cleanup.callback(enter.remove)
                cleanup.callback(module.register_forward_hook(self._leave(path)).remove)
            yield

    def _enter(self, path: str) -> ModuleCall:
        def enter(module: nn.Module, args: Tree, kwargs: Tree) -> Tree:
            key = Key(path, self._entered[path])
            self._entered[path] += 1
            self._open.setdefault(path, []).append(key)
            flat = pytree.tree_leaves((args, kwargs))
            self.integers[key] = [array(x) for x in flat if _is_index(x)]
            return self._exchanged(key, "in", (args, kwargs))

        return enter

    def _leave(self, path: str) -> ModuleCall:
        def leave(module: nn.Module, args: Tree, output: Tree) -> Tree:
            return self._exchanged(self._open[path].pop(), "out", output)

        return leave

    def _exchanged(self, key: Key, side: Side, tree: Tree) -> Tree:
        """``tree`` with JAX's tensors for its floats, where they fit."""
        flat, form = pytree.tree_flatten(tree)
        number = 0
        for at, x in enumerate(flat):
            if isinstance(x, Tensor) and x.is_floating_point():
                flat[at] = self._given((key, side, number), x)
                number += 1
        return pytree.tree_unflatten(flat, form)

    def _given(self, place: Place, x: Tensor) -> Tensor:
        self.own[place] = x.clone()  # what is done in place later changes no record
        if place not in self.feed.given:
            return x
        value = np.ascontiguousarray(self.feed.given[place][0])
        leaf = torch.tensor(value, device=x.device).to(x.dtype).requires_grad_()
        self.leaves[place] = leaf
        return leaf.clone()


def _is_index(x: Tree) -> bool:
    if not isinstance(x, Tensor) or x.is_floating_point() or x.is_complex():
        return False
    return x.dtype != torch.bool
