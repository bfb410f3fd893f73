"""Places where two models part that were given the same numbers."""

from dataclasses import dataclass

from twingrad import numerics
from twingrad.diagnosis import engine
from twingrad.diagnosis.engine import Scales
from twingrad.diagnosis.replay import Divergence, Replay
from twingrad.exact import ExactRun


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
