"""Gates and outcomes: verdicts on every tensor of one comparison, and their JSON form."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import NotRequired, TypedDict, cast

from twingrad.basis import Basis, BasisObject
from twingrad.numerics import UNIT_ROUNDOFF, Verdict


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One rule applied to many tensors."""

    name: str
    tensors: list[Verdict]

    @property
    def ok(self) -> bool:
        """Whether every tensor keeps its limit; a gate that judged nothing does not hold."""
        return bool(self.tensors) and all(tensor.ok for tensor in self.tensors)

    @property
    def worst(self) -> Verdict:
        """The tensor that comes nearest to its limit, or is furthest over it."""
        return self.worst_first[0]

    @property
    def worst_first(self) -> list[Verdict]:
        """The tensors, those first that are furthest over their limits or nearest to them."""
        return sorted(self.tensors, key=lambda t: (not t.ok, t.error_ratio), reverse=True)


@dataclass(frozen=True)
class MeasuredErrors:
    """The errors of one tensor that its gate measured and bounds, in units of u; None the others.

    ``torch`` and ``jax`` are distances from a third result: the float64 result, a formula written
    out, or finite differences. ``apart`` is the distance of the two from one another.
    """

    torch: float | None = None
    jax: float | None = None
    apart: float | None = None


def measured_errors(gate: str, dtype: str, tensor: Verdict) -> MeasuredErrors:
    """The errors in ``tensor`` that ``gate`` is about.

    Two float64 results without a third have one distance, which a verdict holds three times. Runs
    of many steps are bounded by how far they are apart. Rounded results are each bounded by their
    own error.
    """
    torch, jax, apart = tensor.torch_error_u, tensor.jax_error_u, tensor.mutual_error_u
    if dtype not in UNIT_ROUNDOFF:
        return MeasuredErrors()  # values that are compared as they are printed
    if gate == "central-differences":
        return MeasuredErrors(torch=torch)
    if gate.startswith(("trajectory", "two sides")) or (
        dtype == "float64" and torch == jax == apart
    ):
        return MeasuredErrors(apart=apart)
    return MeasuredErrors(torch, jax, apart if dtype == "float64" or gate == "decoding" else None)


@dataclass(kw_only=True)
class Outcome:
    """All gates of one program in one dtype on one device."""

    program: str
    preset: str | None
    dtype: str
    device: str
    gates: list[Gate] = field(default_factory=list)
    first_forward: str | None = None
    first_backward: str | None = None
    seconds: float = 0.0
    settings: dict[str, dict[str, str]] = field(default_factory=dict)  # read back after the run
    basis: Basis | None = None  # where it was judged in this dtype alone

    @property
    def ok(self) -> bool:
        """Whether every gate holds."""
        return bool(self.gates) and all(gate.ok for gate in self.gates)


OUTPUT = ":output"  # marks the gradient at a module's output, which is not a parameter's


def first_divergence(gate: Gate) -> tuple[str | None, str | None]:
    """Names of the first module whose output fails and of the first whose gradient does."""
    failed = [tensor for tensor in gate.tensors if not tensor.ok]
    forward = next((t.name for t in failed if t.kind in ("activation", "loss")), None)
    backward = next((t.name for t in failed if t.kind in ("gradient", "update")), None)
    return forward, backward.removesuffix(OUTPUT) if backward else None


def failing_gate(outcome: Outcome) -> Gate | None:
    """The first gate of ``outcome`` that does not hold."""
    return next((gate for gate in outcome.gates if not gate.ok), None)


def first_failing(outcome: Outcome) -> Verdict | None:
    """The first tensor over its limit, in the order of computation."""
    gate = failing_gate(outcome)
    return next((t for t in gate.tensors if not t.ok), None) if gate else None


def divergence_places(outcome: Outcome) -> list[str]:
    """Where the two sides first differ, as a sentence goes on; not empty for a gate that fails."""
    places = {"forward": outcome.first_forward, "backward": outcome.first_backward}
    named = [f"{way} at {place}" for way, place in places.items() if place]
    tensor = first_failing(outcome)
    if named or outcome.ok:
        return named
    return [f"at {tensor.name} ({tensor.kind})" if tensor else "in that nothing was judged"]


def divergence_sentence(outcome: Outcome) -> str:
    """Where the two sides first differ, in one sentence."""
    gate = failing_gate(outcome)
    within = f"In {outcome.dtype}, gate {gate.name}" if gate else f"In {outcome.dtype}"
    return f"{within}, the sides first diverge {', '.join(divergence_places(outcome))}."


def diagnose_hint(program: str) -> str:
    """What to call to know more about the program or pair file ``program``."""
    return f"Where each first differs from the same inputs, and why: twingrad diagnose {program}"


class _Judged(TypedDict):
    """The fields that a verdict and its JSON object share; errors are in units of u."""

    name: str
    kind: str
    torch_error_u: float
    jax_error_u: float
    mutual_error_u: float
    peak_error_u: float
    limit_u: float
    peak_limit_u: float
    ok: bool


class VerdictObject(_Judged):
    """One tensor's verdict, as the JSON contract has it; ``factor`` is its error ratio."""

    factor: float


class GateObject(TypedDict):
    """One gate, as the JSON contract has it."""

    gate: str
    ok: bool
    tensors: list[VerdictObject]


class DivergenceObject(TypedDict):
    """Names of the first modules that fail, and of the first tensor, as the JSON contract has them.

    ``tensor`` is named wherever a gate fails, whatever kind it is of.
    """

    forward: str | None
    backward: str | None
    gate: str | None
    tensor: str | None


class OutcomeObject(TypedDict):
    """One program's outcome, as the JSON contract has it."""

    program: str
    preset: str | None
    dtype: str
    device: str
    ok: bool
    first_divergence: DivergenceObject
    seconds: float
    settings: dict[str, dict[str, str]]
    gates: list[GateObject]
    basis: NotRequired[BasisObject]


def outcome_object(outcome: Outcome) -> OutcomeObject:
    """``outcome`` as the JSON contract has it, its numbers to six digits."""
    written: OutcomeObject = {
        "program": outcome.program,
        "preset": outcome.preset,
        "dtype": outcome.dtype,
        "device": outcome.device,
        "ok": outcome.ok,
        "first_divergence": _divergence_object(outcome),
        "seconds": round(outcome.seconds, 2),
        "settings": outcome.settings,
        "gates": [
            {"gate": gate.name, "ok": gate.ok, "tensors": [_rounded(t) for t in gate.tensors]}
            for gate in outcome.gates
        ],
    }
    if outcome.basis is not None:
        written["basis"] = outcome.basis.as_object()
    return written


def _divergence_object(outcome: Outcome) -> DivergenceObject:
    gate, tensor = failing_gate(outcome), first_failing(outcome)
    return {
        "forward": outcome.first_forward,
        "backward": outcome.first_backward,
        "gate": gate.name if gate else None,
        "tensor": tensor.name if tensor else None,
    }


def _rounded(verdict: Verdict) -> VerdictObject:
    values = asdict(verdict)
    values["factor"] = values.pop("error_ratio")
    numbers = {name: float(f"{x:.6g}") for name, x in values.items() if isinstance(x, float)}
    return cast(VerdictObject, values | numbers)


def _verdict(tensor: VerdictObject) -> Verdict:
    judged = {key: value for key, value in tensor.items() if key != "factor"}
    return Verdict(**cast(_Judged, judged), error_ratio=tensor["factor"])


def outcomes(report: Mapping[str, object]) -> list[Outcome]:
    """The outcomes in ``report``, which ``compare --json`` wrote.

    Raises ``LookupError`` or ``TypeError`` for a report of another form.
    """
    return [
        Outcome(
            program=program["program"],
            preset=program["preset"],
            dtype=program["dtype"],
            device=program["device"],
            seconds=program["seconds"],
            settings=program["settings"],
            gates=[
                Gate(name=gate["gate"], tensors=[_verdict(tensor) for tensor in gate["tensors"]])
                for gate in program["gates"]
            ],
            first_forward=program["first_divergence"]["forward"],
            first_backward=program["first_divergence"]["backward"],
        )
        for program in cast(list[OutcomeObject], report["programs"])
    ]
