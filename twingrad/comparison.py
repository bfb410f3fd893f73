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

    In float64 the two results are compared with one another, in float32 each with the float64
    result. ``say`` is called with the stage that begins. Raises ``ValueError`` for a pair that
    cannot be judged.
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


OUTPUT = "output"  # the name of what the model as a whole returns


def failing_whole(torch: Values, jax: Values, oracle: Values, dtype: str) -> list[Verdict]:
    """Of output, loss and gradients, the verdicts that do not hold; none where the whole agrees."""
    return [v for v in _verdicts(torch, jax, oracle, dtype) if _is_whole(v) and not v.ok]


def _is_whole(verdict: Verdict) -> bool:
    return verdict.kind != "activation" or verdict.name.partition("[")[0] == OUTPUT


def values(live: LivePair, torch_pass: Pass, jax_pass: Plain) -> tuple[Values, Values]:
    """Every tensor of both models in PyTorch's layout, in the order of computation."""
    torch, jax = _outputs(live, torch_pass, jax_pass)
    torch["loss", "loss"], jax["loss", "loss"] = map(np.asarray, (torch_pass.loss, jax_pass.loss))
    gradients = live.torch_parts(torch_pass.gradients)
    jax_gradients = live.in_torch(jax_pass.gradients)
    for name, value in reversed(gradients.items()):  # the last parameter's comes first
        torch["gradient", name] = value
        jax["gradient", name] = jax_gradients.get(name, np.full(0, np.nan))
    return torch, jax


def _outputs(live: LivePair, torch_pass: Pass, jax_pass: Plain) -> tuple[Values, Values]:
    """Outputs of all modules that both sides call; NaN where JAX has fewer."""
    torch: Values = {}
    jax: Values = {}
    channels_last = live.channels_last(torch_pass)
    jax_keys = {torch_key: jax_key for jax_key, torch_key in live.names(torch_pass).items()}
    for way, key in torch_pass.events:
        if way == "enter" or key not in jax_keys:
            continue
        jax_outputs = jax_pass.outputs.get(jax_keys[key], [])
        for number, value in enumerate(torch_pass.calls[key].outputs):
            name = str(key) if key.path else OUTPUT
            name += f"[{number}]" if number else ""
            other = jax_outputs[number] if number < len(jax_outputs) else np.full(0, np.nan)
            turned = in_layout(value, other.shape, channels_last)
            torch["activation", name] = value if turned is None else turned
            jax["activation", name] = other
    return torch, jax


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
