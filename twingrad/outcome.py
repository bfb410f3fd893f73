"""Gates and outcomes: verdicts on every tensor of one comparison, and their JSON form."""

from dataclasses import asdict, dataclass, field
from typing import Any

from twingrad.numerics import Verdict


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
        return max(self.tensors, key=lambda tensor: (not tensor.ok, tensor.factor))


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


_DEFINED = (
    "torch_error_u",
    "jax_error_u",
    "mutual_error_u",
    "peak_error_u",
    "limit_u",
    "peak_limit_u",
    "factor",
)


_PLAIN = ("program", "preset", "dtype", "device", "seconds", "settings")


def outcome_object(outcome: Outcome) -> dict[str, Any]:
    """One program's outcome, as the JSON contract has it."""
    gates = []
    for gate in outcome.gates:
        tensors = [asdict(tensor) for tensor in gate.tensors]
        for tensor in tensors:
            tensor |= {key: float(f"{tensor[key]:.6g}") for key in _DEFINED}
        gates.append({"gate": gate.name, "ok": gate.ok, "tensors": tensors})
    return {
        "program": outcome.program,
        "preset": outcome.preset,
        "dtype": outcome.dtype,
        "device": outcome.device,
        "ok": outcome.ok,
        "first_divergence": {
            "forward": outcome.first_forward,
            "backward": outcome.first_backward,
        },
        "seconds": round(outcome.seconds, 2),
        "settings": outcome.settings,
        "gates": gates,
    }


def outcomes(report: dict[str, Any]) -> list[Outcome]:
    """The outcomes that a written report holds."""
    found = []
    for program in report["programs"]:
        gates = [
            Gate(name=gate["gate"], tensors=[Verdict(**tensor) for tensor in gate["tensors"]])
            for gate in program["gates"]
        ]
        found.append(
            Outcome(
                **{key: program[key] for key in _PLAIN},
                gates=gates,
                first_forward=program["first_divergence"]["forward"],
                first_backward=program["first_divergence"]["backward"],
            )
        )
    return found
