"""What both sides of a pair decode, held against their own forward passes and one another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from twingrad import numerics
from twingrad.decoding.runner import Runner
from twingrad.decoding.sessions import on_side
from twingrad.foreign import Array
from twingrad.live import LivePair
from twingrad.numerics import Gaps, Size, Verdict
from twingrad.pair import Pair
from twingrad.sides import Framework

# Of a long text the first tokens and the last ones are decoded one by one.
MOST_STEPS = 16
SIDES: tuple[Framework, Framework] = ("torch", "jax")


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The logits [B, K, V] of one call: of a prompt, which is number 0, or of one token.

    ``start`` is the position of its first token, ``first`` that of its first logits. ``alone`` are
    the calls of the run that begins with an empty cache and not with a prompt.
    """

    number: int
    start: int
    first: int
    alone: bool
    logits: Array

    @property
    def name(self) -> str:
        """The call by its place among the others."""
        if not self.number:
            return f"prefill of {self.first + self.logits.shape[1]}"
        after = " from an empty cache" if self.alone else ""
        return f"step {self.number}{after}, position {self.first}"


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What one side computes: its forward pass [B, T, V], and every call with a cache."""

    forward: Array
    stretches: Sequence[Stretch]

    def reference(self, stretch: Stretch) -> Array:
        """The forward pass at the positions of a call."""
        return self.forward[:, stretch.first : stretch.first + stretch.logits.shape[1]]


@dataclass(frozen=True, kw_only=True)
class Parted:
    """The first position of one call at which two results part that should be one."""

    stretch: Stretch
    position: int
    sides: tuple[Framework, ...]  # those that part from their own forward passes; or both
    own: bool  # whether it is from their own forward passes
    values: Array
    reference: Array
    ratio: float


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Both sides, decoded in one dtype."""

    live: LivePair
    tokens: Array
    sides: Mapping[Framework, Decoded]

    @classmethod
    def of(cls, live: LivePair) -> "Decoding":
        """Decode on both sides. Raises ``ValueError`` for tokens that cannot be decoded."""
        tokens = tokens_of(live.pair)
        sides = {side: decoded(live, side, tokens) for side in SIDES}
        return cls(live=live, tokens=tokens, sides=sides)

    @property
    def dtype(self) -> str:
        """The dtype of all of it."""
        return self.live.dtype

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """A verdict on the forward passes, and on every call: both sides' errors, and their gap."""
        torch, jax = (self.sides[side] for side in SIDES)
        gap = numerics.distance(torch.forward, jax.forward)
        verdicts = [self._judged("forward", Gaps(gap, gap, gap), numerics.size(torch.forward))]
        for ours, theirs in zip(torch.stretches, jax.stretches, strict=True):
            count = min(ours.logits.shape[1], theirs.logits.shape[1])
            gaps = Gaps(
                numerics.distance(ours.logits, torch.reference(ours)),
                numerics.distance(theirs.logits, jax.reference(theirs)),
                numerics.distance(ours.logits[:, -count:], theirs.logits[:, -count:]),
            )
            verdicts.append(self._judged(ours.name, gaps, numerics.size(torch.reference(ours))))
        return verdicts

    def _judged(self, name: str, apart: Gaps, scale: Size) -> Verdict:
        return numerics.judge_alike(name, "logits", apart, scale, self.dtype)

    def parted(self) -> Iterator[Parted]:
        """Where each side first parts from its own forward pass; else where the two part."""
        first: dict[Framework, Parted] = {}
        for side in SIDES:
            found = next(self._from_its_own(side), None)
            if found is not None:
                first[side] = found
        ours, theirs = first.get("torch"), first.get("jax")
        if ours and theirs and ours.stretch.name == theirs.stretch.name:
            both = Parted(**{**vars(ours), "sides": SIDES})
            yield both
        else:
            yield from first.values()
        if not first:
            yield from self._from_one_another()

    def _from_its_own(self, side: Framework) -> Iterator[Parted]:
        own = self.sides[side]
        for stretch in own.stretches:
            yield from self._apart(stretch, own.reference(stretch), (side,), own=True)

    def _from_one_another(self) -> Iterator[Parted]:
        torch, jax = (self.sides[side] for side in SIDES)
        whole = Stretch(number=0, start=0, first=0, alone=False, logits=torch.forward)
        found = list(self._apart(whole, jax.forward, SIDES, own=False))
        for ours, theirs in zip(torch.stretches, jax.stretches, strict=True):
            if not found:
                count = min(ours.logits.shape[1], theirs.logits.shape[1])
                last = Stretch(
                    number=ours.number, start=ours.start,
                    first=ours.first + ours.logits.shape[1] - count, alone=ours.alone,
                    logits=ours.logits[:, -count:],
                )  # fmt: skip
                found += self._apart(last, theirs.logits[:, -count:], SIDES, own=False)
        yield from found[:1]

    def _apart(
        self, stretch: Stretch, reference: Array, sides: tuple[Framework, ...], own: bool
    ) -> Iterator[Parted]:
        """The positions of a call at which it is not what ``reference`` is."""
        for number in range(stretch.logits.shape[1]):
            values, truth = stretch.logits[:, number], reference[:, number]
            verdict = self.one(values, truth)
            if not verdict.ok:
                yield Parted(
                    stretch=stretch, position=stretch.first + number, sides=sides, own=own,
                    values=values, reference=truth, ratio=verdict.error_ratio,
                )  # fmt: skip

    def one(self, values: Array, truth: Array) -> Verdict:
        """Whether two results are one."""
        gap = numerics.distance(values, truth)
        return self._judged("", Gaps(gap, gap, gap), numerics.size(truth))


def decoded(live: LivePair, side: Framework, tokens: Array) -> Decoded:
    """Everything that one side computes of ``tokens``, each run by a model of its own."""
    length = tokens.shape[1]
    prompt = max(length // 2, length - MOST_STEPS)
    forward = on_side(live, side, lambda runner: runner.forward(tokens))
    prompted = on_side(live, side, lambda runner: _run(runner, tokens, prompt, length))
    alone = on_side(live, side, lambda runner: _run(runner, tokens, 0, min(length, MOST_STEPS)))
    return Decoded(forward=forward, stretches=[*prompted, *alone])


def _run(runner: Runner, tokens: Array, prompt: int, until: int) -> list[Stretch]:
    """The calls of one run: the prompt if there is one, then token by token."""
    cache, stretches = runner.cache(*tokens.shape[:2]), []
    if prompt:
        logits, cache = runner.step(tokens[:, :prompt], cache, 0)
        first = prompt - logits.shape[1]
        logits = np.array(logits)
        stretches.append(Stretch(number=0, start=0, first=first, alone=False, logits=logits))
    for position in range(prompt, until):
        logits, cache = runner.step(tokens[:, position : position + 1], cache, position)
        stretches.append(
            Stretch(
                number=1 + position - prompt,
                start=position,
                first=position,
                alone=not prompt,
                logits=np.array(logits),
            )
        )
    return stretches


def tokens_of(pair: Pair) -> Array:
    """The tokens [B, T] that a pair decodes: its own, or the first integers of that shape.

    Raises ``ValueError`` where there are none, and for texts of fewer than three tokens.
    """
    tokens = pair.tokens
    if tokens is None:
        tokens = next((x for x in pair.batch if x.dtype.kind in "iu" and x.ndim == 2), None)
    if tokens is None:
        raise ValueError(
            "the pair decodes and its batch has no integers [B, T]: give tokens, an array of them"
        )
    if tokens.ndim != 2 or tokens.dtype.kind not in "iu" or tokens.shape[1] < 3:
        raise ValueError(
            f"tokens of shape {tokens.shape} and dtype {tokens.dtype}: a pair decodes integers "
            "[B, T] of 3 tokens or more"
        )
    return tokens
