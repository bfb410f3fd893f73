"""The check of decoding, as ``compare`` and ``diagnose`` make it."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from twingrad import numerics
from twingrad.decoding import causes, displaced
from twingrad.decoding.parting import Parted, one
from twingrad.decoding.runs import Decoding
from twingrad.decoding.sessions import on_side
from twingrad.diagnosis.finding import Cause, Finding
from twingrad.exact import Say
from twingrad.foreign import Array
from twingrad.live import LivePair
from twingrad.sides import TITLES, Framework


def decode(live: LivePair, say: Say) -> Decoding | None:
    """Both sides' decoding; nothing for a pair without it.

    Raises ``ValueError`` where it cannot be run, or could not be when a side was recorded.
    """
    if live.pair.torch_decode is None and live.pair.jax_decode is None:
        return None
    say(f"{live.pair.name}, {live.dtype}: decoding with a cache on both sides")
    return Decoding.of(live)


def found(live: LivePair, say: Say) -> Iterator[Finding]:
    """Where decoding parts, as a stage of a diagnosis."""
    decoded = decode(live, say)
    if decoded is not None:
        yield from findings(decoded)


def findings(decoding: Decoding, causes: bool = True) -> Iterator[Finding]:
    """Where decoding first parts, with the cause where a replay explains it."""
    for parted in decoding.parted():
        who = " and ".join(TITLES[side] for side in parted.sides)
        stretch = parted.stretch
        where = "forward pass" if not parted.own and not stretch.number else stretch.name
        if f"position {parted.position}" not in where:
            where += f", position {parted.position}"
        yield Finding(
            stage="decoding",
            where=f"{where} ({who})",
            reason=_reason(decoding, parted) if causes and parted.own else None,
            evidence=_evidence(decoding, parted),
            dtype=decoding.dtype,
            mode="training" if decoding.live.pair.train else "evaluation",
            size=parted.ratio,
        )


def _reason(decoding: Decoding, parted: Parted) -> Cause | None:
    texts: dict[Framework, str | None] = {
        side: _cause(decoding, _of_side(decoding, parted, side), side) for side in parted.sides
    }
    known = {side: text for side, text in texts.items() if text}
    if not known:
        return None
    one, *others = dict.fromkeys(known.values())
    if not others and len(known) == len(texts):
        return Cause.statement(f"in both: {one}" if len(texts) > 1 else one)
    return Cause.statement("; ".join(f"{TITLES[side]}: {text}" for side, text in known.items()))


def _cause(decoding: Decoding, parted: Parted, side: Framework) -> str | None:
    """Why ``side`` parts from its own forward pass, in words; None where nothing explains it."""
    record = decoding.records.get(side)
    try:
        if record is None:
            on = partial(on_side, decoding.live, side)
            text = causes.cause(on, decoding.tokens, decoding.dtype, parted)
        else:
            text = record.cause
        return text or _by_the_other(decoding, parted, side)
    except ValueError:  # its functions do not take what a trial gives them
        return None


def _by_the_other(decoding: Decoding, parted: Parted, side: Framework) -> str | None:
    """Positions that are off: the other side's step gives these numbers with them."""
    other: Framework = "jax" if side == "torch" else "torch"
    if not parted.stretch.number or not parted.own or len(parted.sides) > 1:
        return None
    record = decoding.records.get(other)
    if record is None:
        on = partial(on_side, decoding.live, other)
        off = displaced.known(on, decoding.tokens, decoding.dtype, parted)
    else:
        off = displaced.recognised(record.displaced, decoding.dtype, parted)
    return None if off is None else displaced.sentence(off, parted.position, other)


def _of_side(decoding: Decoding, parted: Parted, side: Framework) -> Parted:
    """The divergence with the numbers of one of its sides."""
    own = decoding.sides[side]
    stretch = next(s for s in own.stretches if s.name == parted.stretch.name)
    number = max(parted.position - stretch.first, 0)
    return Parted(**{
        **vars(parted), "stretch": stretch, "values": stretch.logits[:, number],
        "reference": own.forward[:, stretch.first + number],
    })  # fmt: skip


def _evidence(decoding: Decoding, parted: Parted) -> str:
    """How far the two are apart, and the first number that differs, with its place."""
    gap = numerics.distance(parted.values, parted.reference).l2
    size = numerics.size(parted.reference).l2
    verdict = one(parted.values, parted.reference, decoding.dtype)
    limit = verdict.limit_u * numerics.UNIT_ROUNDOFF[decoding.dtype]
    ours, theirs = ("with the cache", "forward pass") if parted.own else ("PyTorch", "JAX")
    what = "its own forward pass" if parted.own else "the other side's"
    row, token = _first(parted.values, parted.reference, limit)
    number, other = float(parted.values[row, token]), float(parted.reference[row, token])
    return (
        f"logits at position {parted.position} are {gap / (size or 1.0):.3g} from {what}, "
        f"relative, limit {limit:.3g} in {decoding.dtype}; the first that differs is [{row}, "
        f"{parted.position}, {token}]: {ours} {number:.9g}, {theirs} {other:.9g}"
    )


def _first(x: Array, y: Array, limit: float) -> tuple[int, int]:
    """Row and token of the first number that differs."""
    apart = ~(np.abs(x - y) <= limit * np.abs(y).max(initial=0.0))
    places = np.argwhere(apart if apart.any() else x != y)
    row, token = places[0] if len(places) else (0, 0)
    return int(row), int(token)
