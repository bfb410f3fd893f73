"""What a side computes when it decodes, as numbers: of a live model, or as a record has it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from twingrad.foreign import Array

# Of a long text the first tokens and the last ones are decoded one by one.
MOST_STEPS = 16


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call with a cache: of a prompt, which is number 0, or of one token.

    Its ``count`` tokens begin at position ``start``. ``alone`` are the calls of the run that begins
    with an empty cache and not with a prompt.
    """

    number: int
    start: int
    count: int
    alone: bool


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The logits [B, K, V] of one call.

    ``start`` is the position of its first token, ``first`` that of its first logits.
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
    stretches: list[Stretch]

    def reference(self, stretch: Stretch) -> Array:
        """The forward pass at the positions of a call."""
        return self.forward[:, stretch.first : stretch.first + stretch.logits.shape[1]]


@dataclass(frozen=True, kw_only=True)
class Displaced:
    """The logits [B, V] of the step at ``position``, as a sketch of their numbers.

    The modules that are given the position were given one that is ``off`` more.
    """

    position: int
    off: int
    sketch: Array


@dataclass(frozen=True, kw_only=True)
class DecodingRecord:
    """What a record has of one side's decoding; ``error`` says why there is none, if so.

    ``cause`` is why the side first parts from its own forward pass, where a replay explained it.
    ``displaced`` has steps with other positions than theirs, by which those of the other side are
    known again.
    """

    decoded: Decoded | None = None
    error: str | None = None
    cause: str | None = None
    displaced: list[Displaced] = field(default_factory=list)


def runs(length: int) -> Iterator[list[Call]]:
    """The calls of both runs over a text: a prompt with steps after it, and steps alone."""
    prompt = max(length // 2, length - MOST_STEPS)
    first = Call(number=0, start=0, count=prompt, alone=False)
    yield [first, *_steps(prompt, length, alone=False)]
    yield list(_steps(0, min(length, MOST_STEPS), alone=True))


def _steps(start: int, until: int, alone: bool) -> Iterator[Call]:
    for number, position in enumerate(range(start, until), 1):
        yield Call(number=number, start=position, count=1, alone=alone)


def require_consistent(record: DecodingRecord, tokens: Array) -> None:
    """Raise ``ValueError`` for a record whose parts do not fit these tokens, or one another."""
    decoded = record.decoded
    if (decoded is None) == (record.error is None):
        raise ValueError("decoding has to be there, or an error that says why it is not")
    if decoded is None:
        return
    rows, length = tokens.shape
    forward = decoded.forward
    _require(forward.ndim == 3 and forward.shape[:2] == (rows, length), "the forward pass")
    vocabulary = forward.shape[2]
    calls = [call for run in runs(length) for call in run]
    _require(len(calls) == len(decoded.stretches), "the number of calls with a cache")
    for call, stretch in zip(calls, decoded.stretches, strict=True):
        count = stretch.logits.shape[1] if stretch.logits.ndim == 3 else 0
        is_fit = stretch.logits.shape == (rows, count, vocabulary) and count in (call.count, 1)
        of_call = (call.number, call.start, call.start + call.count - count, call.alone)
        own = (stretch.number, stretch.start, stretch.first, stretch.alone)
        _require(is_fit and own == of_call, f"call {call.number} from position {call.start}")
    for x in (forward, *(stretch.logits for stretch in decoded.stretches)):
        _require(x.dtype.kind in "fiu", "the dtype of logits")
    for each in record.displaced:
        is_number = each.sketch.ndim == 1 and each.sketch.dtype.kind == "f"
        _require(is_number and 0 <= each.position < length, "a step at another position")


def _require(is_right: bool, what: str) -> None:
    if not is_right:
        raise ValueError(f"{what} of decoding does not fit the tokens that are decoded")
