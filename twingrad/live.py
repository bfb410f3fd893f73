"""Two live models of a pair in one dtype, with their parameters matched and their calls aligned."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from twingrad import jax_probe, torch_probe
from twingrad.calls import Key, Pass
from twingrad.matching import Leaf, Partner, match, words
from twingrad.pair import Pair, error_text

ROOT = Key("")
LOSS = Key("loss")


@dataclass(kw_only=True)
class Both:
    """Two live models in one dtype, their parameters paired."""

    pair: Pair
    dtype: str
    torch: Any
    jax: jax_probe.Subject
    partners: list[Partner]

    @classmethod
    def build(cls, pair: Pair, dtype: str) -> "Both":
        """Make both models; ``ValueError`` says in one sentence what went wrong."""
        import torch

        torch.manual_seed(0)
        ours = _made("torch", pair.torch)
        if not isinstance(ours, torch.nn.Module):
            raise ValueError(f"torch made a {type(ours).__name__}: expected a torch.nn.Module")
        ours = torch_probe.prepare(ours, dtype, pair.train)
        theirs = jax_probe.Subject(_made("jax", pair.jax), dtype, pair.train)
        partners = match(torch_probe.leaves(ours), theirs.leaves(), pair.names)
        both = cls(pair=pair, dtype=dtype, torch=ours, jax=theirs, partners=partners)
        if pair.copy:
            values = torch_probe.views(ours)
            theirs.give({p.jax: p.to_jax(values[p.torch].copy()) for p in partners})
        return both

    @property
    def jax_batch(self) -> Sequence[np.ndarray]:
        """The batch as JAX's side wants it."""
        return self.pair.jax_batch or self.pair.batch

    def in_torch(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """JAX's tensors in PyTorch's layout, by the parts' names."""
        shapes = {leaf.path: leaf.shape for leaf in self._leaves}
        return {
            p.name: p.to_torch(values[p.jax], shapes[p.torch])
            for p in self.partners
            if p.jax in values
        }

    def ours(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """PyTorch's tensors by the parts' names."""
        return {p.name: p.piece(values[p.torch]) for p in self.partners if p.torch in values}

    @cached_property
    def _leaves(self) -> list[Leaf]:
        return torch_probe.leaves(self.torch)

    def run_torch(self) -> Pass:
        """PyTorch's pass, and its running statistics put back as they were."""
        before = torch_probe.statistics(self.torch)
        found = ran(
            "torch_loss",
            lambda: torch_probe.observe(
                self.torch, self.pair.torch_loss, self.pair.batch, self.dtype
            ),
        )
        torch_probe.restore(self.torch, before)
        if not np.isfinite(found.loss):
            raise ValueError(f"PyTorch's loss is {found.loss}: give a batch with a finite loss")
        return found

    def run_jax(self) -> jax_probe.Plain:
        """JAX's own pass."""
        found = ran("jax_loss", lambda: self.jax.plain(self.pair.jax_loss, self.jax_batch))
        if not np.isfinite(found.loss):
            raise ValueError(f"JAX's loss is {found.loss}: give a batch with a finite loss")
        return found

    def names(self, torch: Pass) -> dict[Key, Key]:
        """For JAX's calls, PyTorch's."""
        paths = ran("jax_loss", lambda: self.jax.paths(self.pair.jax_loss, self.jax_batch))
        return align(torch, paths, self.partners)

    def channels_last(self, torch: Pass) -> bool:
        """Whether JAX has channels behind what they are channels of."""
        kinds = {call.kind for call in torch.calls.values()}
        return any(kind.startswith(("Conv1d", "Conv2d", "Conv3d")) for kind in kinds)


@contextmanager
def arithmetic(dtype: str) -> Iterator[None]:
    """Within, JAX computes on the CPU, in ``dtype`` and in full precision.

    Few passes are run of what is compiled, so the compiler is told to hurry.
    """
    import jax

    wanted = {
        "jax_enable_x64": dtype == "float64",
        "jax_default_matmul_precision": "highest",
        "jax_default_device": jax.devices("cpu")[0],
        "jax_disable_most_optimizations": True,
    }
    # Options that also have a context manager are attributes, the others are read by name.
    before = {
        name: getattr(jax.config, name) if hasattr(jax.config, name) else jax.config.read(name)
        for name in wanted
    }
    for name, value in wanted.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def _made(what: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:
        raise ValueError(f"the pair's {what} raised {error_text(error)}: fix it") from error


def ran(what: str, run: Callable[[], Any]) -> Any:
    """The result of ``run``; ``ValueError`` names ``what`` if the code of the pair raises."""
    try:
        return run()
    except Exception as error:  # whatever somebody's code raises
        raise ValueError(f"the pair's {what} raised {error_text(error)}: fix it") from error


def named(key: Key) -> str:
    """A call as a sentence has it."""
    return str(key) if key.path else "the model"


def align(torch: Pass, jax: Mapping[Key, str], partners: Sequence[Partner]) -> dict[Key, Key]:
    """For JAX's calls, PyTorch's calls of the same module.

    A module is known by the parameters in it; one without any by its path.
    """
    counts_of: dict[str, int] = {}
    for key in torch.calls:
        counts_of[key.path] = counts_of.get(key.path, 0) + 1
    theirs: dict[str, int] = {}
    for key in jax:
        theirs[key.path] = theirs.get(key.path, 0) + 1
    held = {
        "torch": {path: _held(path, partners, "torch") for path in counts_of},
        "jax": {path: _held(path, partners, "jax") for path in theirs},
    }
    pairs: dict[str, str] = {}
    for path in sorted(theirs, key=len):
        own = held["jax"][path]
        fits = [
            other
            for other in counts_of
            if other not in pairs.values()
            and (path == "") == (other == "")
            and (held["torch"][other] == own if own else not held["torch"][other])
        ]
        # A module may be called once more on one side; another one is no better for it.
        fits = [other for other in fits if counts_of[other] == theirs[path]] or fits
        same = [other for other in fits if words(other) == words(path)]
        last = [other for other in fits if words(other)[-1:] == words(path)[-1:]] if own else []
        choice = same or last or (fits if own and len(fits) == 1 else [])
        if choice:
            pairs[path] = choice[0]
    return {
        Key(path, number): Key(pairs[path], number)
        for path, number in jax
        if path in pairs and number < counts_of[pairs[path]]
    }


def _held(path: str, partners: Sequence[Partner], side: str) -> frozenset[str]:
    start = f"{path}." if path else ""
    return frozenset(p.name for p in partners if getattr(p, side).startswith(start))
