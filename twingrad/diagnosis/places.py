"""Places where two models part that were given the same numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from twingrad import numerics
from twingrad.arithmetic import arithmetic
from twingrad.diagnosis import engine
from twingrad.diagnosis.engine import Scales
from twingrad.diagnosis.replay import Divergence, Replay
from twingrad.exact import ExactRun
from twingrad.foreign import Array


@dataclass(frozen=True, kw_only=True)
class Place:
    """A divergence over its limit, and the replay that it is of."""

    replay: Replay
    divergence: Divergence

    @property
    def is_other_division(self) -> bool:
        """Whether tensors of other shapes stand there, which says little about what is wrong.

        An input of another shape is prepared elsewhere; an output of as many numbers lies
        otherwise.
        """
        torch, jax, what = self.divergence.torch, self.divergence.jax, self.divergence.what
        return torch.shape != jax.shape and (what == "in" or torch.size == jax.size)

    @property
    def identity(self) -> tuple[str, str, str]:
        """What stands there, the same in every dtype."""
        return self.divergence.stage, self.divergence.what, self.divergence.name


def beyond_limits(run: ExactRun, scales: Scales) -> list[Place]:
    """Every divergence over the limit, in the order of computation.

    Errors are relative to the sizes in ``scales``, which keeps new ones: those of float64 serve
    float32 too.
    """
    replay = Replay.run(run.live, run.seen, run.plain)
    limit = numerics.OWN_RELATIVE[run.live.dtype]
    return [
        Place(replay=replay, divergence=place)
        for places in (replay.forward(), replay.backward())
        for place in engine.scaled(places, scales)
        if not place.error <= limit
    ]


def of_float64(run: ExactRun, places: Sequence[Place]) -> list[Place]:
    """The same places in ``run``, of float64, near or far."""
    wanted = {place.identity for place in places}
    if not wanted:
        return []
    with arithmetic("float64"):
        replay = Replay.run(run.live, run.seen, run.plain)
        all_places = (
            Place(replay=replay, divergence=divergence)
            for divergences in (replay.forward(), replay.backward())
            for divergence in divergences
        )
        return [place for place in all_places if place.identity in wanted]


def rounded_too_much(places: Iterable[Place], exact: Iterable[Place]) -> list[Place]:
    """Of float32's places those where the precision of one model is at fault.

    The same place in float64, of ``exact``, says how far each model is from its own result: where
    the work is divided otherwise they have other numbers in any precision, and where numbers cancel
    any code loses digits. What counts is whether each is within the limit, or within
    ``numerics.RATIO`` times what the other model's is away.
    """
    known = {place.identity: place.divergence for place in exact}
    kept = []
    for place in places:
        of_float64 = known.get(place.identity)
        if of_float64 is not None:
            torch = _moved(place.divergence.torch, of_float64.torch)
            jax = _moved(place.divergence.jax, of_float64.jax)
            least = numerics.OWN_RELATIVE["float32"]
            if max(torch, jax) <= max(least, numerics.RATIO * min(torch, jax)):
                continue
        kept.append(place)
    return kept


def _moved(rounded: Array, exact: Array) -> float:
    """How far a tensor of float32 is from that of float64, relative to its size (L2)."""
    size = numerics.size(numerics.finite(exact)).l2
    gap = numerics.distance(*numerics.without_shared(rounded, exact)).l2
    return gap / size if size else (0.0 if gap == 0 else float("inf"))
