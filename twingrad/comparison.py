"""Comparison of a pair of models: every module's output, the loss, every gradient, by gates."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from twingrad import numerics
from twingrad.calls import Pass
from twingrad.foreign import Array
from twingrad.jax_probe import Plain
from twingrad.jax_replay import in_layout
from twingrad.live import LivePair, arithmetic
from twingrad.numerics import Verdict, gaps, judge_float64, judge_rounded
from twingrad.outcome import Gate, Outcome, first_divergence
from twingrad.pair import Pair

DTYPES = ("float64", "float32")  # float64 is what float32 is judged by
Values = dict[tuple[str, str], Array]  # (kind, name) -> a tensor


def compare(
    pair: Pair, dtypes: Sequence[str] = DTYPES, say: Callable[[str], None] = lambda text: None
) -> list[Outcome]:
    """Judge ``pair`` in each of ``dtypes``, of which the first is float64; stop where one fails.

    In float64 the two sides are held against one another, in float32 each against float64's
    numbers. ``say`` is called with what is being done. Raises ``ValueError`` for a pair that cannot
    be judged.
    """
    if tuple(dtypes) not in (DTYPES, DTYPES[:1]):
        raise ValueError(f"dtypes {tuple(dtypes)}: a pair is compared in float64, then in float32")
    outcomes: list[Outcome] = []
    oracle: Values = {}
    for dtype in dtypes:
        started = time.perf_counter()
        say(f"{pair.name}, {dtype}: forward and backward on both sides")
        with arithmetic(dtype):
            torch, jax = _values(LivePair.build(pair, dtype))
        oracle = oracle or torch
        gate = Gate(name=dtype, tensors=_verdicts(torch, jax, oracle, dtype))
        forward, backward = first_divergence(gate)
        outcome = Outcome(
            program=pair.name, preset=None, dtype=dtype, device="cpu", gates=[gate],
            first_forward=forward, first_backward=backward, seconds=time.perf_counter() - started,
        )  # fmt: skip
        outcomes.append(outcome)
        if not outcome.ok:
            break  # float64 is what the others are judged by
    return outcomes


def _values(live: LivePair) -> tuple[Values, Values]:
    """Every tensor of both sides in PyTorch's layout, in the order of computation."""
    torch, jax = live.run_torch(), live.run_jax()
    ours: Values = {}
    theirs: Values = {}
    last = live.channels_last(torch)
    _outputs(live, torch, jax, last, ours, theirs)
    ours["loss", "loss"], theirs["loss", "loss"] = np.asarray(torch.loss), np.asarray(jax.loss)
    gradients, others = live.torch_parts(torch.gradients), live.in_torch(jax.gradients)
    for name, value in reversed(gradients.items()):  # the last parameter's comes first
        ours["gradient", name] = value
        theirs["gradient", name] = others.get(name, np.full(0, np.nan))
    return ours, theirs


def _outputs(
    live: LivePair, torch: Pass, jax: Plain, last: bool, ours: Values, theirs: Values
) -> None:
    back = {other: key for key, other in live.names(torch).items()}
    for way, key in torch.events:
        if way == "enter" or key not in back:
            continue
        found = jax.outputs.get(back[key], [])
        for number, value in enumerate(torch.calls[key].outputs):
            name = str(key) if key.path else "output"
            name += f"[{number}]" if number else ""
            other = found[number] if number < len(found) else np.full(0, np.nan)
            turned = in_layout(value, other.shape, last)
            ours["activation", name] = value if turned is None else turned
            theirs["activation", name] = other


def _verdicts(torch: Values, jax: Values, oracle: Values, dtype: str) -> list[Verdict]:
    gradients = {name: value for (kind, name), value in oracle.items() if kind == "gradient"}
    scales = numerics.scales(gradients)
    verdicts = []
    for (kind, name), value in torch.items():
        truth = oracle[kind, name]
        scale = scales[name] if kind == "gradient" else numerics.size(truth)
        other = jax[kind, name]
        if dtype == "float64":
            verdicts.append(judge_float64(name, kind, gaps(value, other), scale))
        else:
            apart = gaps(value, other, truth)
            verdicts.append(judge_rounded(name, kind, apart, scale, dtype, truth.size))
    return verdicts
