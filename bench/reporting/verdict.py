"""The verdict of the report page: every gate, and the tensor nearest to its limit."""

from dataclasses import dataclass

from bench.harness.records import Record
from twingrad.numerics import UNIT_ROUNDOFF
from twingrad.outcome import Gate, Outcome


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All gates of a comparison, and the tensor nearest to its limit."""

    ok: bool
    programs: int
    tensors: int
    seconds: float
    gates: list[tuple[Outcome, Gate]]
    diverging: list[Outcome]

    @property
    def worst(self) -> tuple[Outcome, Gate]:
        """The gate, with its outcome, whose worst tensor comes nearest to its limit."""
        return max(self.gates, key=lambda pair: (not pair[1].ok, pair[1].worst.error_ratio))

    @property
    def by_program(self) -> dict[tuple[str, str | None], list[tuple[Outcome, Gate]]]:
        """Gates of each program and preset, in the order of the comparison."""
        found: dict[tuple[str, str | None], list[tuple[Outcome, Gate]]] = {}
        for outcome, gate in self.gates:
            found.setdefault((outcome.program, outcome.preset), []).append((outcome, gate))
        return found

    @property
    def held(self) -> int:
        """How many gates hold."""
        return sum(gate.ok for _, gate in self.gates)

    @property
    def dtypes(self) -> list[str]:
        """Dtypes that were judged and have a unit, widest first."""
        seen = {outcome.dtype for outcome, _ in self.gates}
        return [dtype for dtype in UNIT_ROUNDOFF if dtype in seen]


def summary(report: Record, found: list[Outcome]) -> Summary | None:
    """The summary of a comparison; none where nothing was judged."""
    gates = [(outcome, gate) for outcome in found for gate in outcome.gates if gate.tensors]
    if not gates:
        return None
    return Summary(
        ok=report["ok"] and all(outcome.ok for outcome in found),
        programs=len({(outcome.program, outcome.preset) for outcome in found}),
        tensors=sum(len(gate.tensors) for _, gate in gates),
        seconds=report.body.get("seconds", sum(outcome.seconds for outcome in found)),
        gates=gates,
        diverging=[outcome for outcome in found if not outcome.ok],
    )
