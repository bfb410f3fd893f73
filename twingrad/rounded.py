"""A pair judged in a lower precision alone, where its code cannot run in float64.

PyTorch's float64 pass is the oracle, from the numbers as they are rounded, if that side can run it.
Else the two sides are judged against one another, which finds less.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from twingrad import comparison, devices, numerics
from twingrad.arithmetic import arithmetic
from twingrad.basis import Basis
from twingrad.casts.log import CastLog
from twingrad.comparison import Values
from twingrad.decoding import check
from twingrad.diagnosis import unaligned
from twingrad.diagnosis.finding import Finding, Note
from twingrad.diagnosis.hypotheses.context import rounded
from twingrad.diagnosis.places import Place
from twingrad.diagnosis.replay import Replay
from twingrad.exact import ExactRun, Say, deterministic, silent
from twingrad.foreign import Array
from twingrad.live import LivePair, live_jax, live_torch
from twingrad.numerics import Verdict
from twingrad.outcome import Gate, Outcome, first_divergence
from twingrad.pair import Pair
from twingrad.sides import RecordedModel

# Gates without an oracle, and on a second batch.
APART, OTHER_INPUTS, OTHER_APART = "two sides", "other inputs", "two sides, other inputs"


@dataclass(kw_only=True)
class RoundedRun:
    """One pass of both models in a lower precision, and PyTorch's values in float64 if it has any.

    ``run`` holds the models and both passes; ``oracle`` is None where there is none.
    """

    run: ExactRun
    oracle: Values | None
    basis: Basis

    @classmethod
    def of(cls, pair: Pair, say: Say = silent) -> "RoundedRun":
        """Run both models. Raises ``ValueError`` where they cannot be run, and ``Unrepeatable``."""
        for side in (pair.torch, pair.jax):
            if isinstance(side, RecordedModel):
                raise ValueError(
                    "a record is judged in float64, then in float32: leave the precision out"
                )
        say(f"{pair.name}, {pair.precision}: building both")
        live = LivePair.build(pair, pair.precision)
        seen = live.run_torch()
        plain = deterministic(live, seen, say)
        run = ExactRun(live=live, seen=seen, plain=plain, notes=list(live.notes))
        return cls._beside_its_oracle(run, say)

    @classmethod
    def _beside_its_oracle(cls, run: ExactRun, say: Say) -> "RoundedRun":
        say(f"{run.live.pair.name}, float64: PyTorch's pass")
        found = _oracle(run)
        if isinstance(found, str):
            basis = Basis(precision=run.live.dtype, has_oracle=False, reason=found)
            return cls(run=run, oracle=None, basis=basis)
        return cls(run=run, oracle=found, basis=Basis(precision=run.live.dtype, has_oracle=True))

    def second(self, say: Say) -> "RoundedRun | Note":
        """The same on a second batch; a note where there is none."""
        second = self.run.second(say)
        return second if isinstance(second, Note) else self._beside_its_oracle(second, say)

    @property
    def dtype(self) -> str:
        """The dtype of all of it but the oracle."""
        return self.run.live.dtype

    def verdicts(self) -> list[Verdict]:
        """A verdict on every tensor."""
        torch, jax = comparison.values(self.run)
        return comparison.verdicts(torch, jax, self.oracle, self.dtype)

    def failing(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Of output, loss and gradients those over their limits."""
        return [v for v in verdicts if not v.ok and comparison.is_whole(v)]

    def places(self) -> list[Place]:
        """Where a module's own computation, from the same inputs, is over its limit."""
        replay = Replay.run(self.run.live, self.run.seen, self.run.plain)
        limit = numerics.OWN_RELATIVE[self.dtype]
        noise, largest = numerics.NOISE_ROUNDED[self.dtype], replay.largest_gradient
        found = []
        for divergences in (replay.forward(), replay.backward()):
            for place in divergences:
                if place.stage == "backward" and place.scale.l2 <= noise * largest.l2:
                    place = replace(place, scale=largest)
                if not place.error <= limit:
                    found.append(Place(replay=replay, divergence=place))
        return found

    def is_rounding(self, failing: Sequence[Verdict], places: Sequence[Place]) -> bool:
        """Whether tensors over their limits are that by rounding: by little, and no module is."""
        return not places and all(v.error_ratio <= numerics.RATIO for v in failing)


def _oracle(run: ExactRun) -> Values | str:
    """PyTorch's values in float64 from the same rounded numbers; or why there are none."""
    live, pair = run.live, run.live.pair
    batch = [_rounded(x, live.dtype) for x in pair.batch]
    try:
        torch = live_torch(pair, "float64", lift=True)
        torch.give(live.torch.views())
        exact = replace(
            live, torch=torch, lift=True, torch_casts=CastLog(), pair=replace(pair, batch=batch)
        )
        seen = exact.run_torch()
    except ValueError as error:
        text = " ".join(str(error).split()).removesuffix(": fix it")
        return f"PyTorch's side does not run in float64 ({text})"
    if not np.isfinite(seen.loss):
        return f"PyTorch's loss is {seen.loss} in float64"
    if seen.calls.keys() != run.seen.calls.keys():
        return "PyTorch's side calls other modules in float64"
    truth, _ = comparison.values(replace(run, seen=seen))
    torch_values, _ = comparison.values(run)
    if truth.keys() != torch_values.keys():
        return "PyTorch's side returns other tensors in float64"
    return truth


def _rounded(x: Array, dtype: str) -> Array:
    if x.dtype.kind not in "fc":
        return x
    if dtype == "bfloat16" and x.dtype.kind == "f":
        return rounded(x, "bfloat16").astype(np.float64)
    single = np.complex64 if x.dtype.kind == "c" else np.float32
    return x.astype(single).astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def compare(pair: Pair, say: Say = silent) -> tuple[list[Outcome], list[Note]]:
    """Judge ``pair`` in its own precision alone. Raises ``ValueError`` if it cannot be judged."""
    started = time.perf_counter()
    with arithmetic(pair.precision):
        run = RoundedRun.of(pair, say)
        settings = devices.settings()
        first, notes = _gate(run, pair.precision if run.basis.has_oracle else APART)
        gates, notes = [first], [*run.run.notes, *notes]
        if first.ok:
            for result in _further(run, say):
                if isinstance(result, Note):
                    notes.append(result)
                else:
                    gates.append(result)
    forward, backward = first_divergence(next((g for g in gates if not g.ok), gates[0]))
    outcome = Outcome(
        program=pair.name, preset=None, dtype=pair.precision, device=devices.current(), gates=gates,
        first_forward=forward, first_backward=backward, basis=run.basis, settings=settings,
        seconds=time.perf_counter() - started,
    )  # fmt: skip
    if not outcome.ok:
        notes += unaligned.notes(run.run)
    return [outcome], list(dict.fromkeys(notes))


def _gate(run: RoundedRun, name: str) -> tuple[Gate, list[Note]]:
    """The gate of one pass, without what is rounding alone, and notes."""
    verdicts = run.verdicts()
    failing = run.failing(verdicts)
    if failing and run.is_rounding(failing, run.places()):
        held = [v for v in verdicts if v.ok]
        return Gate(name=name, tensors=held), comparison.rounding_alone(failing, run.dtype)
    return comparison.decided(name, verdicts)


def _further(run: RoundedRun, say: Say) -> Iterator[Gate | Note]:
    """What is judged where the first batch agrees: a second one, state, updates, decoding."""
    second = run.second(say)
    if isinstance(second, Note):
        yield second
    else:
        gate, notes = _gate(second, OTHER_INPUTS if second.basis.has_oracle else OTHER_APART)
        yield gate
        yield from notes
    for name, found in kept_and_updates(run, second, say).items():
        results = list(found)
        yield from (result for result in results if isinstance(result, Note))
        failed = [comparison.failed(result) for result in results if isinstance(result, Finding)]
        if failed:
            yield Gate(name=name, tensors=failed)
    decoded = check.decode(run.run.live, say)
    if decoded is not None:
        yield Gate(name="decoding", tensors=decoded.verdicts)


def kept_and_updates(
    run: RoundedRun, second: RoundedRun | Note | None, say: Say
) -> dict[str, Iterator[Finding | Note]]:
    """Differences of state and of updates, by stage."""
    other = second.run if isinstance(second, RoundedRun) else None
    return {
        "state": comparison.kept(run.run, other),
        "optimizer": _updates(run, say),
    }


def _updates(run: RoundedRun, say: Say) -> Iterator[Finding | Note]:
    """Where updates differ: in float64, which optimizers can though a pass of the model cannot."""
    live = run.run.live
    if not live.has_optimizers:
        return
    with arithmetic("float64"):
        try:
            exact = replace(
                live,
                dtype="float64",
                torch=live_torch(live.pair, "float64", lift=True),
                jax=live_jax(live.pair, "float64", lift=True),
            )
        except ValueError as error:
            yield Note("model", f"updates are not compared: {error}")
            return
        exact.torch.give(live.torch.views())
        exact.jax.give({path: numerics.plain(x) for path, x in live.jax.tensors.items()})
        wide = {
            name: g.astype(np.result_type(g.dtype, np.float64))
            for name, g in run.run.seen.gradients.items()
        }
        seen = replace(run.run.seen, gradients=wide)
        yield from comparison.updates(replace(run.run, live=exact, seen=seen), say)
