"""State that a model keeps beside its parameters, as a pass in training mode leaves it."""

from collections.abc import Iterator

from twingrad import numerics, torch_probe
from twingrad.calls import Pass
from twingrad.diagnosis.finding import Cause, Finding, Note, statistics
from twingrad.foreign import Array
from twingrad.live import LivePair


def compare(live: LivePair, seen: Pass) -> Iterator[Finding | Note]:
    """Running statistics after a pass in training mode."""
    if live.jax.trained >= live.jax.tensors.keys():
        return  # it has none
    torch_state = live.torch_parts(seen.statistics)
    before = live.torch_parts(torch_probe.views(live.torch))
    for name, jax in live.in_torch(live.run_jax().state).items():
        torch = torch_state.get(name)
        if torch is None:
            continue
        scale = numerics.size(torch).l2
        gap = numerics.distance(torch, jax).l2
        if gap > numerics.OWN_RELATIVE["float64"] * scale:
            yield Finding(
                stage="state",
                where=name,
                reason=Cause.statement(_momentum(before[name], torch, jax)),
                evidence=f"after one pass in training mode the statistic is {gap / scale:.3g} off; "
                + statistics(torch, jax),
                mode="training",
            )
            return


def _momentum(before: Array, torch: Array, jax: Array) -> str:
    """How far each model went: PyTorch's momentum is the new share, Flax's the old one."""
    step, other = torch - before, jax - before
    if not step.any() or not other.any():
        return "one side does not update it: it is in evaluation mode, or its momentum is 1"
    ratio = float((step * other).sum() / (step * step).sum())
    if numerics.distance(other, ratio * step).l2 <= 1e-9 * numerics.size(other).l2:
        return (
            f"JAX's step is {ratio:.6g} times PyTorch's: PyTorch's momentum is the share that is "
            "new, Flax's the share that stays, and PyTorch's variance is over n - 1"
        )
    return "PyTorch's running variance is over n - 1, Flax's over n, or the momenta differ"
