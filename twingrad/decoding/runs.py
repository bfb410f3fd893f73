"""What both sides of a pair decode, held against their own forward passes and one another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from twingrad import numerics
from twingrad.decoding.decoded import Call, Decoded, DecodingRecord, Stretch, runs
from twingrad.decoding.parting import Parted, apart, from_its_own, judged
from twingrad.decoding.runner import Runner
from twingrad.decoding.sessions import Session, on_side
from twingrad.foreign import Array
from twingrad.live import LivePair
from twingrad.numerics import Gaps, Verdict
from twingrad.pair import Pair
from twingrad.sides import Framework

SIDES: tuple[Framework, Framework] = ("torch", "jax")


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Both sides, decoded in one dtype; ``records`` are of those that are not here."""

    live: LivePair
    tokens: Array
    sides: Mapping[Framework, Decoded]
    records: Mapping[Framework, DecodingRecord] = field(default_factory=dict)

    @classmethod
    def of(cls, live: LivePair) -> "Decoding":
        """Decode on both sides, but take what a record has where a side is one.

        Raises ``ValueError`` for tokens that cannot be decoded, and where decoding fails or failed.
        """
        tokens = tokens_of(live.pair)
        sides: dict[Framework, Decoded] = {}
        records: dict[Framework, DecodingRecord] = {}
        for side in SIDES:
            subject = live.torch if side == "torch" else live.jax
            if not subject.recorded:
                sides[side] = decoded(partial(on_side, live, side), tokens)
                continue
            record = subject.decoding()
            if record is None or record.decoded is None:
                error = record.error if record else None
                raise ValueError(error or "the record has no decoding: record it again")
            records[side], sides[side] = record, record.decoded
        return cls(live=live, tokens=tokens, sides=sides, records=records)

    @property
    def dtype(self) -> str:
        """The dtype of all of it."""
        return self.live.dtype

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """A verdict on the forward passes, and on every call: both sides' errors, and their gap."""
        torch, jax = (self.sides[side] for side in SIDES)
        gap = numerics.distance(torch.forward, jax.forward)
        verdicts = [self._judged("forward", Gaps(gap, gap, gap), torch.forward)]
        for ours, theirs in zip(torch.stretches, jax.stretches, strict=True):
            count = min(ours.logits.shape[1], theirs.logits.shape[1])
            gaps = Gaps(
                numerics.distance(ours.logits, torch.reference(ours)),
                numerics.distance(theirs.logits, jax.reference(theirs)),
                numerics.distance(ours.logits[:, -count:], theirs.logits[:, -count:]),
            )
            verdicts.append(self._judged(ours.name, gaps, torch.reference(ours)))
        return verdicts

    def _judged(self, name: str, gaps: Gaps, truth: Array) -> Verdict:
        return judged(name, gaps, numerics.size(truth), self.dtype)

    def parted(self) -> Iterator[Parted]:
        """Where each side first parts from its own forward pass; else where the two part."""
        first: dict[Framework, Parted] = {}
        for side in SIDES:
            found = from_its_own(self.sides[side], side, self.dtype)
            if found is not None:
                first[side] = found
        ours, theirs = first.get("torch"), first.get("jax")
        if ours and theirs and ours.place == theirs.place:
            both = Parted(**{**vars(ours), "sides": SIDES})
            yield both
        else:
            yield from first.values()
        if not first:
            yield from self._from_one_another()

    def _from_one_another(self) -> Iterator[Parted]:
        torch, jax = (self.sides[side] for side in SIDES)
        whole = Stretch(number=0, start=0, first=0, alone=False, logits=torch.forward)
        found = list(apart(whole, jax.forward, SIDES, False, self.dtype))
        for ours, theirs in zip(torch.stretches, jax.stretches, strict=True):
            if not found:
                count = min(ours.logits.shape[1], theirs.logits.shape[1])
                last = Stretch(
                    number=ours.number, start=ours.start,
                    first=ours.first + ours.logits.shape[1] - count, alone=ours.alone,
                    logits=ours.logits[:, -count:],
                )  # fmt: skip
                found += apart(last, theirs.logits[:, -count:], SIDES, False, self.dtype)
        yield from found[:1]


def decoded(on: Session, tokens: Array) -> Decoded:
    """Everything that one side computes of ``tokens``, each run by a model of its own."""
    forward = on(lambda runner: runner.forward(tokens))
    stretches: list[Stretch] = []
    for calls in runs(tokens.shape[1]):
        stretches += on(partial(_run, tokens=tokens, calls=calls))
    return Decoded(forward=forward, stretches=stretches)


def _run(runner: Runner, tokens: Array, calls: Sequence[Call]) -> list[Stretch]:
    """The logits of the calls of one run."""
    cache, stretches = runner.cache(*tokens.shape[:2]), []
    for call in calls:
        end = call.start + call.count
        logits, cache = runner.step(tokens[:, call.start : end], cache, call.start)
        stretches.append(
            Stretch(
                number=call.number,
                start=call.start,
                first=end - logits.shape[1],
                alone=call.alone,
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
