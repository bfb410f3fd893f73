"""A pair's two models side by side, module by module, each from the same input.

PyTorch runs once and is recorded. JAX is then run with every module given PyTorch's input, and its
caller PyTorch's output, so that no error is passed on: each value is judged by itself.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from twingrad import numerics
from twingrad.calls import Call, CallSite, Key, Pass, Plain, Replayed
from twingrad.diagnosis.finding import Stage
from twingrad.foreign import Array
from twingrad.live import LOSS, ROOT, LivePair, named
from twingrad.sides import RecordedModel

What = Literal["in", "out", "parameter", "loss"]


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """A value that both models computed from the same numbers, and how far apart the two are.

    ``what`` is "out" for a module's output, "in" for an input that its caller computed; of the
    backward pass, gradients there. ``owner`` is the module whose own computation it is.
    """

    stage: Stage
    what: What
    owner: Key
    name: str
    torch: Array
    jax: Array
    scale: numerics.Size
    call: Call | None = None
    before: Key | None = None

    @cached_property
    def error(self) -> float:
        """Relative distance (L2), infinite where shapes differ or one value is not finite.

        What is NaN, or the same infinity, in both is equal: it comes from elsewhere, or is meant.
        """
        gap = numerics.distance(*numerics.without_shared(self.torch, self.jax)).l2
        scale = self.scale.l2
        if not np.isfinite(scale):
            scale = numerics.size(numerics.finite(self.torch)).l2
        return gap / scale if scale else (0.0 if gap == 0 else float("inf"))


@dataclass(kw_only=True)
class Replay:
    """Every divergence of one pair in one dtype, in the order of PyTorch's computation.

    ``seen`` is PyTorch's pass, with the tensors that its modules and their callers went on from.
    Within ``feeding`` PyTorch's model is given these where they are not its own.
    """

    live: LivePair
    seen: Pass
    torch_calls: dict[Key, Key]
    replayed: Replayed
    values: dict[str, Array]
    feeding: Callable[[], AbstractContextManager[None]] = nullcontext

    @classmethod
    def run(cls, live: LivePair, seen: Pass, known: Plain | None = None) -> "Replay":
        """JAX's pass from the tensors of PyTorch's, matched by their numbers in ``known``.

        Where JAX's pass was recorded, it is PyTorch's from the tensors of JAX's.
        """
        torch_calls = live.names(seen)
        last, values = live.channels_last(seen), live.torch.views()
        if isinstance(live.pair.jax, RecordedModel):
            return cls._fed(live, seen, torch_calls, live.pair.jax, values)
        from twingrad import jax_probe, jax_replay

        subject = live.jax
        assert isinstance(subject, jax_probe.Subject)
        partners = {key: seen.calls[other] for key, other in torch_calls.items()}
        replayed = live.on_jax(
            lambda: jax_replay.replay(subject, live.jax_loss, live.jax_batch, partners, last, known)
        )
        return cls(live=live, seen=seen, torch_calls=torch_calls, replayed=replayed, values=values)

    @classmethod
    def _fed(
        cls,
        live: LivePair,
        seen: Pass,
        torch_calls: dict[Key, Key],
        record: RecordedModel,
        values: dict[str, Array],
    ) -> "Replay":
        from twingrad import torch_feed, torch_subject

        subject = live.torch
        assert isinstance(subject, torch_subject.Subject)
        jax_pass = record.jax_side(live.dtype, bool(live.lift)).observe(live.jax_batch)
        feed = torch_feed.Feed(
            jax=jax_pass,
            torch=seen,
            names=torch_calls,
            channels_last=live.channels_last(seen),
            dtype=live.dtype,
        )
        replayed, fed = live.on_torch(
            lambda: feed.run(subject.model, live.torch_loss, live.pair.batch)
        )
        return cls(
            live=live,
            seen=fed,
            torch_calls=torch_calls,
            replayed=replayed,
            values=values,
            feeding=lambda: feed.feeding(subject.model),
        )

    @cached_property
    def jax_calls(self) -> dict[Key, Key]:
        """JAX's call for PyTorch's."""
        return {other: key for key, other in self.torch_calls.items()}

    @cached_property
    def enclosing(self) -> dict[Key, Key]:
        """For every aligned call, the aligned call that it happened in."""
        enclosing: dict[Key, Key] = {}
        open_calls = [ROOT]
        for way, key in self.seen.events:
            if key not in self.jax_calls:
                continue
            if way == "enter":
                enclosing[key] = open_calls[-1] if key != ROOT else LOSS
                open_calls.append(key)
            else:
                open_calls.pop()
        return enclosing

    @cached_property
    def last(self) -> Key | None:
        """The call whose output the loss is made of: the last to end that is in no other."""
        ends = [k for way, k in self.seen.events if way == "leave" and k in self.jax_calls]
        return ends[-1] if ends else None

    def _user(self, key: Key) -> Key:
        """The module whose own lines use the output of a call."""
        return LOSS if key == self.last else self.enclosing[key]

    def forward(self) -> Iterator[Divergence]:
        """Divergences of the forward pass, then of the loss."""
        for way, key in self.seen.events:
            if key in self.jax_calls:
                yield from self._entered(key) if way == "enter" else self._left(key)
        torch, jax = np.asarray(self.seen.loss), np.asarray(self.replayed.loss)
        root = self.seen.calls.get(ROOT) if ROOT in self.jax_calls else None
        owner = LOSS if self.jax_calls else ROOT
        yield Divergence(
            stage="forward",
            what="loss",
            owner=owner,
            name="loss",
            torch=torch,
            jax=jax,
            scale=numerics.size(torch),
            call=root,
        )

    def _entered(self, key: Key) -> Iterator[Divergence]:
        owner = self.enclosing[key]
        for site in self._sites.get((self.jax_calls[key], "index"), ()):
            if site in self.replayed.integers:
                ids = self.replayed.integers[site]
                yield Divergence(
                    stage="forward",
                    what="in",
                    owner=owner,
                    name=f"integers into {named(key)}",
                    torch=ids.astype(float),
                    jax=self.replayed.jax[site].astype(float),
                    scale=numerics.size(np.ones_like(ids, float)),
                    call=self.seen.calls.get(owner),
                    before=key,
                )
        yield from self._exchanged(key, "in", owner, f"input of {named(key)}")

    def _left(self, key: Key) -> Iterator[Divergence]:
        yield from self._exchanged(key, "out", key, f"output of {named(key)}")

    def _exchanged(
        self, key: Key, way: Literal["in", "out"], owner: Key, name: str
    ) -> Iterator[Divergence]:
        for site in self._sites.get((self.jax_calls[key], way), ()):
            if site in self.replayed.torch:
                value = self.replayed.torch[site]
                yield Divergence(
                    stage="forward",
                    what=way,
                    owner=owner,
                    name=name,
                    torch=value,
                    jax=self.replayed.jax[site],
                    scale=numerics.size(value),
                    call=self.seen.calls.get(owner),
                    before=key if way == "in" else None,
                )

    @cached_property
    def _sites(self) -> dict[tuple[Key, str], list[CallSite]]:
        """The sites of each call, its inputs, outputs and indices apart, in their order."""
        sites: dict[tuple[Key, str], list[CallSite]] = defaultdict(list)
        recorded = self.replayed
        for site in dict.fromkeys([*recorded.integers, *recorded.torch, *recorded.torch_gradients]):
            sites[site[:2]].append(site)
        return sites

    def backward(self) -> Iterator[Divergence]:
        """Divergences of gradients, from the loss back to the parameters."""
        gradients = self.live.torch_parts(self.seen.gradients, gradients=True)
        jax_gradients = self.live.in_torch(self.replayed.gradients, gradients=True)
        scales = numerics.scales({n: numerics.finite(g) for n, g in gradients.items()})

        def of_parameter(name: str, owner: Key) -> Divergence:
            return Divergence(
                stage="backward",
                what="parameter",
                owner=owner,
                name=name,
                torch=gradients[name],
                jax=jax_gradients[name],
                scale=scales[name],
                call=self.seen.calls.get(owner),
            )

        owned: dict[Key, list[str]] = defaultdict(list)
        for p in self.live.partners:
            if p.name in gradients:
                owned[self._deepest(p.torch)].append(p.name)
        done: set[str] = set()
        for way, key in reversed(self.seen.events):
            if key not in self.jax_calls:
                continue
            # The gradient at a call's output is its caller's own, that at its input the call's.
            if way == "leave":
                yield from self._gradients(key, "out", self._user(key), "at the output of")
                continue
            yield from self._gradients(key, "in", key, "behind")
            for name in owned[key]:
                if name not in done and name in jax_gradients:
                    done.add(name)
                    yield of_parameter(name, key)
        for name in gradients:
            if name not in done and name in jax_gradients:
                yield of_parameter(name, ROOT)

    def _gradients(
        self, key: Key, way: Literal["in", "out"], owner: Key, preposition: str
    ) -> Iterator[Divergence]:
        for site in self._sites.get((self.jax_calls[key], way), ()):
            gradient = self.replayed.torch_gradients.get(site)
            if gradient is not None and site in self.replayed.jax_gradients:
                scale = numerics.size(gradient)
                if scale.l2 <= numerics.NOISE * self.largest_gradient.l2:
                    scale = self.largest_gradient
                yield Divergence(
                    stage="backward",
                    what=way,
                    owner=owner,
                    name=f"gradient {preposition} {named(key)}",
                    torch=gradient,
                    jax=self.replayed.jax_gradients[site],
                    scale=scale,
                    call=self.seen.calls.get(owner),
                    before=key,
                )

    @cached_property
    def largest_gradient(self) -> numerics.Size:
        """The size of the largest gradient at any call."""
        gradients = map(numerics.finite, self.replayed.torch_gradients.values())
        sizes = (numerics.size(g).l2 for g in gradients)
        return numerics.Size(max(sizes, default=0.0), 0.0)

    def _deepest(self, name: str) -> Key:
        """The first call of the innermost aligned module that the parameter lies in."""
        path = name.rpartition(".")[0]
        while path and Key(path) not in self.jax_calls:
            path = path.rpartition(".")[0]
        return Key(path)

    def sources(self, place: Divergence) -> dict[str, Array]:
        """PyTorch's tensors that the owner had at hand, by name.

        Its inputs, and the outputs of its children by then; a loss has the outputs of the model's
        parts where the model was not called as a whole.
        """
        owner = place.owner if place.owner != LOSS else ROOT
        sources: dict[str, Array] = {}
        inside = owner not in self.jax_calls
        for way, key in self.seen.events:
            if key == owner and way == "enter":
                inside = True
                for number, x in enumerate(self.seen.calls[key].inputs):
                    sources[f"its input{f' {number + 1}' if number else ''}"] = x
            elif (way, key) in (("leave", owner), ("enter", place.before)):
                break
            elif inside and way == "leave" and self.enclosing.get(key) == owner:
                for x in self.seen.calls[key].outputs[:1]:
                    sources[str(key)] = x
        return sources

    def indices(self, owner: Key) -> tuple[Array, ...]:
        """The integers that JAX's call of the owner was given."""
        called = self.jax_calls.get(owner)
        sites = sorted(site for site in self.replayed.integers if site[0] == called)
        return tuple(self.replayed.jax[site] for site in sites)

    def inputs_of_parts(self, owner: Key) -> dict[str, Array]:
        """The first input of each call that the owner made, by name, as PyTorch has it."""
        return {
            f"the input of {key}": self.seen.calls[key].inputs[0]
            for key, within in self.enclosing.items()
            if within == owner and self.seen.calls[key].inputs
        }

    def own_values(self, owner: Key) -> dict[str, Array]:
        """The module's own parameters, by the last word of their names, as PyTorch keeps them."""
        start = f"{owner.path}." if owner.path else ""
        return {
            name[len(start) :]: value
            for name, value in self.values.items()
            if name.startswith(start) and "." not in name[len(start) :]
        }
