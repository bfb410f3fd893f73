"""The engine of ``compare``: what it refuses, and that what computes for it can be replaced."""

import os
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest

from bench.harness import programs
from bench.harness.frameworks import Framework, Frameworks
from bench.harness.training_steps import StepMetrics, steps_with_detour
from bench.parity import pass_gate
from bench.parity.comparison import Comparison
from bench.parity.judging import judged
from bench.parity.program_runs import LiveRuns, UnexpectedDtype
from shared.observation import Observation
from twingrad import numerics


def test_another_dtype_than_the_one_asked_for_is_an_error(
    framework: Framework, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = framework.trace.observe

    def narrowed(*arguments: object) -> Observation:
        return replace(right(*arguments), dtype="float16")

    monkeypatch.setattr(framework.trace, "observe", narrowed)
    runs = LiveRuns(program=programs.sigmoid_bce(), device="cpu")
    with pytest.raises(UnexpectedDtype, match=f"{framework.name} computed in float16, not float64"):
        runs.observe(framework, "float64")


def test_a_stage_is_said_with_its_framework_and_that_jax_compiles(framework: Framework) -> None:
    said: list[str] = []
    runs = LiveRuns(program=programs.sigmoid_bce(), device="cpu", say=said.append)
    runs.observe(framework, "float64")
    where = {"torch": "in PyTorch", "jax": "in JAX, compiling first"}[framework.name]
    assert said == [f"sigmoid-bce, float64: forward and backward {where}"]


def test_float64_comes_first(frameworks: Frameworks) -> None:
    comparison = Comparison(program=programs.sigmoid_bce(), frameworks=frameworks, device="cpu")
    with pytest.raises(ValueError, match="float64 is judged before anything else"):
        comparison.run("float32")


@dataclass(frozen=True, kw_only=True)
class OneFrameworkOff(LiveRuns):
    """Runs in which the last training loss of JAX is a thousandth too large."""

    def train(self, framework: Framework, dtype: str, start: object = None) -> StepMetrics:
        metrics = super().train(framework, dtype)
        factor = np.ones(len(metrics["loss"]))
        factor[-1] = 1.001 if framework.name == "jax" else 1.0
        return {"loss": metrics["loss"] * factor}


def test_what_computes_is_handed_in_and_its_error_is_located(frameworks: Frameworks) -> None:
    program = programs.sigmoid_bce(steps=3)
    runs = OneFrameworkOff(program=program, device="cpu")
    comparison = Comparison(program=program, frameworks=frameworks, device="cpu", runs=runs)
    outcome = comparison.run("float64")
    *before, last = outcome.gates
    assert all(gate.ok for gate in before)
    assert last.name == "trajectory"
    assert [tensor.name for tensor in last.tensors if not tensor.ok] == ["loss[2]"]


class Counter:
    """A run whose state is how many steps it has taken."""

    def __init__(self) -> None:
        self.taken = 0

    def export(self) -> int:
        return self.taken

    def restore(self, state: int) -> None:
        self.taken = state

    def step(self, batch: object) -> int:
        self.taken += 1
        return self.taken


def test_a_detour_starts_anew_and_leaves_no_trace() -> None:
    run, seen = Counter(), []

    def detour(halfway: int) -> None:
        seen.append((halfway, run.taken))
        run.step(None)

    batches = [()] * 5
    assert list(steps_with_detour(run, batches, run.step, detour)) == [1, 2, 3, 4, 5]
    assert seen == [(2, 0)]


def test_many_are_judged_at_once_in_their_order_and_an_error_is_raised():
    assert judged(lambda n: n * n, range(100)) == [n * n for n in range(100)]
    barrier = threading.Barrier(min(2, os.cpu_count() or 1), timeout=30)
    assert len(judged(lambda _: barrier.wait(), range(barrier.parties))) == barrier.parties
    with pytest.raises(ZeroDivisionError):
        judged(lambda n: 1 / n, [1, 0, 2])


def _observed(factor: float = 1.0) -> Observation:
    """A pass whose every number is ``factor`` times as large; one gradient is nearly zero."""
    values = {"h": np.full(25, 2.0 * factor)}
    return Observation(
        dtype="float64", loss=np.asarray(3.0 * factor), output=np.full(25, 5.0 * factor),
        activations=values, activation_gradients=values,
        gradients={"w": np.full(25, 4.0 * factor), "b": np.full(25, 1e-20 * factor)},
    )  # fmt: skip


def test_errors_of_a_pass_are_relative_to_each_tensor_and_of_noise_to_all_gradients() -> None:
    program = replace(programs.simple_net(), by_hand=None, output_name="y")
    exact = _observed()
    relative = 2.0**-30
    by_name = {
        "float64": pass_gate.judge_frameworks(program, exact, _observed(1 + relative)),
        "float32": pass_gate.judge_against(
            exact, program, "float32", exact, _observed(1 + relative)
        ),
    }
    for dtype, gate in by_name.items():
        units = relative / numerics.UNIT_ROUNDOFF[dtype]
        found = {tensor.name: tensor.jax_error_u for tensor in gate.tensors}
        assert list(found) == ["h", "y", "loss", "h:output", "w", "b"]
        assert found.pop("b") == pytest.approx(units * 1e-20 / 4)
        assert list(found.values()) == pytest.approx([units] * 5, rel=1e-6)
        assert gate.ok is (dtype == "float32")
