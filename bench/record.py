"""What is written down: the environment of a run, and results as JSON and safetensors."""

import json
import os
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as to_safetensors

from bench.compare import Gate, Outcome
from bench.sides import Side
from shared.numerics import Verdict
from shared.observation import Observation
from shared.params import write_bytes

ROOT = Path(__file__).resolve().parent.parent
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


def environment(sides: tuple[Side, ...], device: str) -> dict[str, Any]:
    """Hardware, versions and commit; numeric settings stand with each outcome."""
    versions = {"python": platform.python_version(), "numpy": version("numpy")}
    for side in sides:
        versions |= side.runtime.versions()
    return {
        "device": device,
        "hardware": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": versions,
        "commit": commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def commit() -> dict[str, Any]:
    """The commit that this code is of, and whether files differ from it; empty outside a clone."""
    commands = {"id": ["rev-parse", "HEAD"], "changes": ["status", "--porcelain"]}
    found = {}
    for key, arguments in commands.items():
        try:
            run = subprocess.run(
                ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return {}
        found[key] = run.stdout.strip()
    return {"id": found["id"], "dirty": bool(found["changes"])}


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


def write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write ``content`` whole or not at all; ``ValueError`` says why it cannot be written."""
    write_bytes(path, (_text(content) + "\n").encode())


def _text(value: Any, indent: str = "") -> str:
    """JSON with a line for each innermost object, so that a record's changes can be read."""
    inner = indent + " "
    if isinstance(value, dict) and any(isinstance(v, (dict, list)) for v in value.values()):
        items = [f"{inner}{json.dumps(k)}: {_text(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value):
        items = [inner + _text(v, inner) for v in value]
        return "[\n" + ",\n".join(items) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)


def write_observed(
    path: str | os.PathLike[str], observed: dict[str, Observation], dtype: str
) -> None:
    """Write logits, loss and gradients of both sides as one safetensors file, in ``dtype``."""
    tensors: dict[str, np.ndarray] = {}
    for side, seen in observed.items():
        tensors[f"{side}/logits"] = seen.output
        tensors[f"{side}/loss"] = seen.loss
        tensors |= {f"{side}/grad/{name}": value for name, value in seen.gradients.items()}
    arrays = {name: _in_dtype(np.asarray(value), dtype) for name, value in tensors.items()}
    write_bytes(path, to_safetensors(arrays, metadata={"dtype": dtype}))


def _in_dtype(value: np.ndarray, dtype: str) -> np.ndarray:
    """The tensor as it was computed: bfloat16 was widened to float32, which lost nothing."""
    if dtype == "bfloat16" and value.dtype == np.float32:
        import ml_dtypes  # comes with JAX

        value = value.astype(ml_dtypes.bfloat16)
    return np.asarray(value, order="C")
