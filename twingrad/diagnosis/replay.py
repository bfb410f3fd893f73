"""A pair's two models side by side, and the places where one's own computation is not the other's.

PyTorch runs once and is recorded. JAX is then run with every module given PyTorch's input, and its
caller PyTorch's output, so that no error is passed on: each place speaks for itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from twingrad import jax_probe, numerics, torch_probe
from twingrad.calls import Call, Key, Pass
from twingrad.live import LOSS, ROOT, Both, named, ran


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
class Replay:
    """Every place of one pair in one dtype, in the order in which PyTorch comes to it."""

    both: Both
    seen: Pass
    names: dict[Key, Key]
    found: jax_probe.Replayed
    values: dict[str, np.ndarray]

    @classmethod
    def run(cls, both: Both, seen: Pass) -> "Replay":
        """JAX's pass from what was seen of PyTorch's."""
        names = both.names(seen)
        partners = {key: seen.calls[other] for key, other in names.items()}
        last = both.channels_last(seen)
        found = ran(
            "jax_loss",
            lambda: jax_probe.replay(
                both.jax, both.pair.jax_loss, both.jax_batch, partners, channels_last=last
            ),
        )
        values = torch_probe.views(both.torch)
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
