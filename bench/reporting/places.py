"""Every judged tensor of a comparison, and the identifier of its row on the report page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twingrad.anchors import Anchors
from twingrad.numerics import Verdict
from twingrad.outcome import Gate, Outcome


@dataclass(frozen=True)
class Judged:
    """A gate with its outcome, and the identifiers of the gate and of its tensors, in order."""

    id: str
    outcome: Outcome
    gate: Gate
    rows: list[str]


def judged(outcomes: Sequence[Outcome]) -> list[Judged]:
    """Every gate that judged something, with identifiers made from names alone."""
    anchors = Anchors()
    found = []
    for outcome in outcomes:
        for gate in outcome.gates:
            if gate.tensors:
                names = [outcome.program, outcome.preset, outcome.dtype]
                names += [gate.name] if gate.name != outcome.dtype else []
                place = anchors.new("gate", *names)
                rows = [anchors.new("tensor", *names, tensor.name) for tensor in gate.tensors]
                found.append(Judged(place, outcome, gate, rows))
    return found


def places_of(gates: Sequence[Judged]) -> Callable[[Verdict], str]:
    """A function from a verdict, by its identity, to the identifier of its row."""
    places = {
        id(tensor): place
        for one in gates
        for tensor, place in zip(one.gate.tensors, one.rows, strict=True)
    }
    return lambda tensor: places[id(tensor)]
