"""Where NaN or infinity begins: the first module of a pass that makes it, and from which number."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from twingrad.calls import LOSS, Event, Key, Pass, Plain
from twingrad.diagnosis.hypotheses import elements, not_finite
from twingrad.foreign import Array
from twingrad.live import LivePair, named

Tensors = Callable[[Key], Sequence[Array]]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The module in which it begins, its tensor that has it, and the numbers it had at hand.

    ``name`` says which tensor of the module that is.
    """

    owner: Key
    name: str
    bad: Array
    sources: Mapping[str, Array] = field(default_factory=dict)


def require_finite(live: LivePair, seen: Pass, plain: Plain) -> None:
    """Raise ``ValueError`` where neither model's loss is finite: it says where that begins.

    Where one of them is, the two models differ, and that is a finding.
    """
    if math.isfinite(seen.loss) or math.isfinite(plain.loss):
        return
    within = f"in {live.dtype} " if live.dtype != "float64" else ""
    raise ValueError(
        f"{within}PyTorch's loss is {seen.loss} and JAX's {plain.loss}: {_sentence(live, seen)}"
        f"{_in_jax(live, seen, plain)}; give a batch with a finite loss"
    )


def _sentence(live: LivePair, seen: Pass) -> str:
    """Where it begins in PyTorch, and from which number."""
    calls = seen.calls
    origin = first(seen.events, lambda k: calls[k].inputs, lambda k: calls[k].outputs, seen.loss)
    what = "NaN" if math.isnan(seen.loss) else "infinity"
    start = f"{origin.owner.path}." if origin.owner.path else ""
    values = {
        name.removeprefix(start): value
        for name, value in live.torch.views().items()
        if name.startswith(start) and "." not in name.removeprefix(start)
    }
    parameters = not_finite.own_parameters(values) if origin.owner != LOSS else {}
    reason = elements.element(origin.bad, {**parameters, **origin.sources})
    text = f"in PyTorch {what} begins in {_place(origin.owner)}"
    if origin.bad.ndim:
        text += f": {origin.name} has it first{elements.at(elements.first(origin.bad))}"
    return text + (f", {reason}" if reason else "")


def _in_jax(live: LivePair, seen: Pass, plain: Plain) -> str:
    """Where it begins in JAX, of the calls that both models have."""
    jax_calls = {other: key for key, other in live.names(seen).items()}
    events = [(way, key) for way, key in seen.events if key in jax_calls]
    origin = first(
        events,
        lambda key: plain.inputs.get(jax_calls[key], []),
        lambda key: plain.outputs.get(jax_calls[key], []),
        plain.loss,
    )
    return f"; in JAX in {_place(origin.owner)}"


def _place(owner: Key) -> str:
    return "the loss itself" if owner == LOSS else named(owner)


def first(events: Sequence[Event], inputs: Tensors, outputs: Tensors, loss: float) -> Origin:
    """The first tensor that has NaN, or for an infinite ``loss`` infinity.

    What a module's input has was made by the lines of its caller.
    """
    is_bad = np.isnan if math.isnan(loss) else np.isinf
    open_calls = [LOSS]
    at_hand: dict[Key, dict[str, Array]] = {LOSS: {}}
    for way, key in events:
        if way == "leave":
            open_calls.pop()
            for x in outputs(key):
                if is_bad(x).any():
                    return Origin(owner=key, name="its output", bad=is_bad(x), sources=at_hand[key])
            at_hand[open_calls[-1]] |= {f"the output of {named(key)}": x for x in outputs(key)[:1]}
            continue
        caller = open_calls[-1]
        for x in inputs(key):
            if is_bad(x).any():
                name = f"the input of {named(key)}"
                return Origin(owner=caller, name=name, bad=is_bad(x), sources=at_hand[caller])
        at_hand[key] = {f"its input{f' {n + 1}' * (n > 0)}": x for n, x in enumerate(inputs(key))}
        open_calls.append(key)
    return Origin(owner=LOSS, name="its value", bad=np.asarray(True), sources=at_hand[LOSS])
