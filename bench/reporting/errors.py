"""Errors of compared tensors as heat maps of the report page, layer by layer."""

import re
from dataclasses import dataclass

from twingrad.numerics import Verdict
from twingrad.outcome import Gate, Outcome

# Which definition computes the tensor of a name; the first that fits.
OWNERS = {
    "sigmoid_bce": ((r"loss$", "loss_fn"), (r"", "Neuron")),
    "simple_net": ((r"loss$", "loss_fn"), (r"", "SimpleNet")),
    "gpt2": (
        (r"loss$", "loss_fn"),
        (r"h\.\d+\.attn\b", "CausalSelfAttention"),
        (r"h\.\d+\.mlp\b", "MLP"),
        (r"h\.\d+\b", "Block"),
        (r"", "GPT2"),
    ),
}
SHADES = 10


def _passes(found: list[Outcome], program: str) -> list[tuple[Outcome, Gate]]:
    """Forward and backward in every dtype, at the size of ``program`` with the most tensors."""
    own = [
        (outcome, gate)
        for outcome in found
        for gate in outcome.gates
        if outcome.program == program and gate.name == outcome.dtype
    ]
    most = max((len(gate.tensors) for _, gate in own), default=0)
    largest = {outcome.preset for outcome, gate in own if len(gate.tensors) == most}
    return [(outcome, gate) for outcome, gate in own if outcome.preset in largest]


@dataclass(frozen=True)
class Measured:
    """The largest error of one kind among a definition's tensors, in one dtype."""

    outcome: Outcome
    kind: str
    tensor: Verdict


def measured_errors(found: list[Outcome], name: str) -> dict[str, list[Measured]]:
    """By definition, the largest error of each kind in each dtype."""
    largest: dict[tuple[str, str, str], Measured] = {}
    for outcome, gate in _passes(found, name.replace("_", "-")):
        for tensor in gate.tensors:
            owners = OWNERS.get(name, ())
            owner = next((one for pattern, one in owners if re.match(pattern, tensor.name)), None)
            if owner is None:
                continue
            key = (owner, outcome.dtype, tensor.kind)
            if key not in largest or _error(tensor) > _error(largest[key].tensor):
                largest[key] = Measured(outcome, tensor.kind, tensor)
    by_owner: dict[str, list[Measured]] = {}
    for (owner, *_), measured in largest.items():
        by_owner.setdefault(owner, []).append(measured)
    return by_owner


def _error(tensor: Verdict) -> float:
    return max(tensor.torch_error_u, tensor.jax_error_u)


# Errors layer by layer.


@dataclass(frozen=True)
class Cell:
    """A tensor of one layer, and how dark each side's error is."""

    tensor: Verdict
    shades: dict[str, int]


@dataclass(frozen=True)
class Heat:
    """Errors of one kind: a row a layer, a column a part of the block."""

    kind: str
    columns: list[str]
    rows: dict[int, list[Cell | None]]
    worst: Verdict


@dataclass(frozen=True)
class Layers:
    """Errors of a GPT-2 in float32, within its layers and outside them."""

    outcome: Outcome
    heats: list[Heat]
    outside: list[Verdict]
    largest: float


def layers(found: list[Outcome]) -> Layers | None:
    """The map of the largest GPT-2 that was judged in float32."""
    own = [pair for pair in _passes(found, "gpt2") if pair[0].dtype == "float32"]
    if not own:
        return None
    outcome, gate = own[-1]
    inside = [tensor for tensor in gate.tensors if _place(tensor)]
    if not inside:
        return None
    largest = max(map(_error, inside))
    kinds = dict.fromkeys(tensor.kind for tensor in inside)
    heats = [_heat(kind, [t for t in inside if t.kind == kind], largest) for kind in kinds]
    outside = [tensor for tensor in gate.tensors if not _place(tensor)]
    return Layers(outcome, heats, outside, largest)


def _place(tensor: Verdict) -> tuple[int, str] | None:
    """Layer and part that a tensor belongs to."""
    found = re.fullmatch(r"h\.(\d+)(?:\.(.+)|(:.+)?)", tensor.name)
    return (int(found[1]), found[2] or f"block{found[3] or ''}") if found else None


def _heat(kind: str, tensors: list[Verdict], largest: float) -> Heat:
    places = {place: tensor for tensor in tensors if (place := _place(tensor))}
    # Gradients at outputs are recorded last layer first; parts come as the forward pass has them.
    first = min(layer for layer, _ in places)
    columns = list(dict.fromkeys(part for layer, part in places if layer == first))
    if kind == "gradient":
        outputs = [part for part in columns if part.endswith(":output")]
        columns = outputs[::-1] + [part for part in columns if part not in outputs]
    numbers = sorted({layer for layer, _ in places})
    rows = {n: [_cell(places.get((n, part)), largest) for part in columns] for n in numbers}
    return Heat(kind, columns, rows, max(tensors, key=_error))


def _cell(tensor: Verdict | None, largest: float) -> Cell | None:
    if tensor is None:
        return None
    errors = {"torch": tensor.torch_error_u, "jax": tensor.jax_error_u}
    shade = {side: round(SHADES * error / (largest or 1)) for side, error in errors.items()}
    return Cell(tensor, shade)
