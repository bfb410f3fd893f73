"""A pair's two models side by side, and the places where one's own computation is not the other's.

PyTorch runs once and is recorded. JAX is then run with every module given PyTorch's input, and its
caller PyTorch's output, so that no error is passed on: each place speaks for itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bench.diagnosis import probe_jax, probe_torch
from bench.diagnosis.calls import Call, Key, Pass
from bench.diagnosis.matching import Leaf, Partner, match, words
from bench.diagnosis.pairs import Pair, said
from shared import numerics

ROOT = Key("")
LOSS = Key("loss")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Something that both models computed from the same numbers.

    ``stage`` is "forward" or "backward". ``what`` is "out" for what a module makes of its input,
    "in" for what its caller gives it, "parameter", "loss" or "state". ``owner`` is the module whose
    own computation it is.
    """

    stage: str
    what: str
    owner: Key
    name: str
    torch: np.ndarray
    jax: np.ndarray
    scale: numerics.Size
    call: Call | None = None
    before: Key | None = None

    @cached_property
    def error(self) -> float:
        """Relative distance (L2), infinite where shapes differ or a value is not finite."""
        gap = numerics.distance(self.torch, self.jax).l2
        return gap / self.scale.l2 if self.scale.l2 else (0.0 if gap == 0 else float("inf"))


@dataclass(kw_only=True)
class Both:
    """Two live models in one dtype, their parameters paired."""

    pair: Pair
    dtype: str
    torch: Any
    jax: probe_jax.Subject
    partners: list[Partner]

    @classmethod
    def build(cls, pair: Pair, dtype: str) -> "Both":
        """Make both models; ``ValueError`` says in one sentence what went wrong."""
        import torch

        torch.manual_seed(0)
        ours = _made("torch", pair.torch)
        if not isinstance(ours, torch.nn.Module):
            raise ValueError(f"torch made a {type(ours).__name__}: expected a torch.nn.Module")
        ours = probe_torch.prepare(ours, dtype, pair.train)
        theirs = probe_jax.Subject(_made("jax", pair.jax), dtype, pair.train)
        partners = match(probe_torch.leaves(ours), theirs.leaves(), pair.names)
        both = cls(pair=pair, dtype=dtype, torch=ours, jax=theirs, partners=partners)
        if pair.copy:
            values = probe_torch.views(ours)
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
        return probe_torch.leaves(self.torch)

    def run_torch(self) -> Pass:
        """PyTorch's pass, and its running statistics put back as they were."""
        before = probe_torch.statistics(self.torch)
        found = _ran(
            "torch_loss",
            lambda: probe_torch.observe(
                self.torch, self.pair.torch_loss, self.pair.batch, self.dtype
            ),
        )
        probe_torch.restore(self.torch, before)
        if not np.isfinite(found.loss):
            raise ValueError(f"PyTorch's loss is {found.loss}: give a batch with a finite loss")
        return found

    def run_jax(self) -> probe_jax.Plain:
        """JAX's own pass."""
        found = _ran("jax_loss", lambda: self.jax.plain(self.pair.jax_loss, self.jax_batch))
        if not np.isfinite(found.loss):
            raise ValueError(f"JAX's loss is {found.loss}: give a batch with a finite loss")
        return found

    def names(self, torch: Pass) -> dict[Key, Key]:
        """For JAX's calls, PyTorch's."""
        paths = _ran("jax_loss", lambda: self.jax.paths(self.pair.jax_loss, self.jax_batch))
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
        raise ValueError(f"the pair's {what} raised {said(error)}: mend it") from error


def _ran(what: str, run: Callable[[], Any]) -> Any:
    try:
        return run()
    except Exception as error:  # whatever somebody's code raises
        raise ValueError(f"the pair's {what} raised {said(error)}: mend it") from error


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


@dataclass(kw_only=True)
class Replay:
    """Every place of one pair in one dtype, in the order in which PyTorch comes to it."""

    both: Both
    seen: Pass
    names: dict[Key, Key]
    found: probe_jax.Replayed
    values: dict[str, np.ndarray]

    @classmethod
    def run(cls, both: Both, seen: Pass) -> "Replay":
        """JAX's pass from what was seen of PyTorch's."""
        names = both.names(seen)
        partners = {key: seen.calls[other] for key, other in names.items()}
        last = both.channels_last(seen)
        found = _ran(
            "jax_loss",
            lambda: probe_jax.replay(
                both.jax, both.pair.jax_loss, both.jax_batch, partners, channels_last=last
            ),
        )
        values = probe_torch.views(both.torch)
        return cls(both=both, seen=seen, names=names, found=found, values=values)

    @cached_property
    def back(self) -> dict[Key, Key]:
        """JAX's call for PyTorch's."""
        return {other: key for key, other in self.names.items()}

    @cached_property
    def enclosing(self) -> dict[Key, Key]:
        """For every aligned call, the aligned call that it happened in."""
        found, open_calls = {}, [ROOT]
        for way, key in self.seen.events:
            if key not in self.back:
                continue
            if way == "enter":
                found[key] = open_calls[-1] if key != ROOT else LOSS
                open_calls.append(key)
            else:
                open_calls.pop()
        return found

    @cached_property
    def last(self) -> Key | None:
        """The call whose output the loss is made of: the last to end that is in no other."""
        ends = [k for way, k in self.seen.events if way == "leave" and k in self.back]
        return ends[-1] if ends else None

    def _user(self, key: Key) -> Key:
        """Whose lines go on with what a call returned."""
        return LOSS if key == self.last else self.enclosing[key]

    def forward(self) -> Iterator[Place]:
        """Places of the forward pass, then the loss."""
        for way, key in self.seen.events:
            if key in self.back:
                yield from self._entered(key) if way == "enter" else self._left(key)
        loss, theirs = np.asarray(self.seen.loss), np.asarray(self.found.loss)
        root = self.seen.calls.get(ROOT) if ROOT in self.back else None
        owner = LOSS if self.back else ROOT
        yield Place(stage="forward", what="loss", owner=owner, name="loss", torch=loss, jax=theirs,
                    scale=numerics.size(loss), call=root)  # fmt: skip

    def _entered(self, key: Key) -> Iterator[Place]:
        owner = self.enclosing[key]
        for place, ours in self.found.integers.items():
            theirs = self.found.found[place]
            if place[0] == self.back[key]:
                yield Place(stage="forward", what="in", owner=owner, name=f"integers into {key}",
                            torch=ours.astype(float), jax=theirs.astype(float),
                            scale=numerics.size(np.ones_like(ours, float)),
                            call=self.seen.calls.get(owner), before=key)  # fmt: skip
        yield from self._exchanged(key, "in", owner, f"input of {key}")

    def _left(self, key: Key) -> Iterator[Place]:
        yield from self._exchanged(key, "out", key, f"output of {named(key)}")

    def _exchanged(self, key: Key, way: str, owner: Key, name: str) -> Iterator[Place]:
        for place, given in self.found.given.items():
            if place[:2] == (self.back[key], way):
                yield Place(
                    stage="forward", what=way, owner=owner, name=name, torch=given,
                    jax=self.found.found[place], scale=numerics.size(given),
                    call=self.seen.calls.get(owner), before=key if way == "in" else None,
                )  # fmt: skip

    def backward(self) -> Iterator[Place]:
        """Gradients, from the loss back to the parameters."""
        whole = numerics.Size(
            max((numerics.size(g).l2 for g in self.found.owed.values()), default=0.0), 0.0
        )
        gradients = self.both.ours(self.seen.gradients)
        theirs = self.both.in_torch(self.found.gradients)
        scales = numerics.scales(gradients)
        told: set[str] = set()
        for way, key in reversed(self.seen.events):
            if key not in self.back:
                continue
            # What leaves a call is its caller's business, what enters it its own.
            side = "out" if way == "leave" else "in"
            owner = self._user(key) if side == "out" else key
            for place, owed in self.found.owed.items():
                if place[:2] == (self.back[key], side) and place in self.found.back:
                    scale = numerics.size(owed)
                    if scale.l2 <= numerics.NOISE * whole.l2:
                        scale = whole
                    preposition = "at the output of" if side == "out" else "behind"
                    yield Place(
                        stage="backward", what=side, owner=owner,
                        name=f"gradient {preposition} {named(key)}", torch=owed,
                        jax=self.found.back[place], scale=scale,
                        call=self.seen.calls.get(owner), before=key,
                    )  # fmt: skip
            if way == "enter":
                for name in gradients:
                    if name not in told and self._deepest(name) == key:
                        told.add(name)
                        yield self._gradient(name, key, gradients, theirs, scales)
        for name in gradients:
            if name not in told and name in theirs:
                yield self._gradient(name, ROOT, gradients, theirs, scales)

    def _gradient(self, name: str, owner: Key, ours: Any, theirs: Any, scales: Any) -> Place:
        call = self.seen.calls.get(owner)
        return Place(stage="backward", what="parameter", owner=owner, name=name,
                     torch=ours[name], jax=theirs[name], scale=scales[name], call=call)  # fmt: skip

    def _deepest(self, name: str) -> Key:
        """The first call of the innermost aligned module that the parameter lies in."""
        path = name.partition("[")[0].rpartition(".")[0]
        while path and Key(path) not in self.back:
            path = path.rpartition(".")[0]
        return Key(path)

    def sources(self, place: Place) -> dict[str, np.ndarray]:
        """What the owner of the place had at hand, of PyTorch's numbers, by name.

        Its inputs, and what its children had returned by then; a loss has what the model's parts
        returned where the model was not called as a whole.
        """
        owner = place.owner if place.owner != LOSS else ROOT
        found: dict[str, np.ndarray] = {}
        inside = owner not in self.back
        for way, key in self.seen.events:
            if key == owner and way == "enter":
                inside = True
                for number, x in enumerate(self.seen.calls[key].inputs):
                    found[f"its input{f' {number + 1}' if number else ''}"] = x
            elif (way, key) in (("leave", owner), ("enter", place.before)):
                break
            elif inside and way == "leave" and self.enclosing.get(key) == owner:
                for x in self.seen.calls[key].outputs[:1]:
                    found[str(key)] = x
        return found

    def own_values(self, owner: Key) -> dict[str, np.ndarray]:
        """The module's own parameters, by the last word of their names, as PyTorch keeps them."""
        start = f"{owner.path}." if owner.path else ""
        return {
            name[len(start) :]: value
            for name, value in self.values.items()
            if name.startswith(start) and "." not in name[len(start) :]
        }
