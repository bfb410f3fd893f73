"""A framework's half of a run: where its numbers are not finite, and how its steps are timed."""

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench.training import session
from bench.training.config import RunSettings, resolve
from bench.training.framework_run import FrameworkRun
from shared.train_state import Step
from shared.world import World
from tests.helpers.runs import SMALL, rows_of, state, train


@pytest.mark.slow("jax")
def test_a_loss_that_is_not_finite_stops_the_run(framework, text, tmp_path, capsys):
    asked = (*SMALL, "--framework", framework.name, "--data", text, "--steps", 50, "--warmup", 0)
    wild = ("--learning-rate", 1e18, "--max-grad-norm", 1e30, "--checkpoint-every", 1)
    assert train(*asked, *wild, "--out", tmp_path / "run") == 1
    said = " ".join(capsys.readouterr().out.split())
    step = rows_of(tmp_path / "run", framework.name)[-1]["step"]
    assert f"Stopped at step {step + 1} in {framework.name}" in said
    assert "it began in the " in said
    assert f"step-{step:06d}" in said
    kept = state(tmp_path / "run", framework.name, step)
    assert all(np.isfinite(value).all() for value in kept.params.values())


def test_a_step_is_timed_until_it_is_computed(monkeypatch):
    """JAX returns while a step is still being computed; reading the loss waits for it."""
    clock = [100.0]

    class Computed:
        def __float__(self):
            clock[0] += 2.0
            return 1.5

    runtime = SimpleNamespace(peak_memory=lambda device: None)
    run = FrameworkRun(
        framework=SimpleNamespace(runtime=runtime),
        config=resolve(RunSettings(length=8)),
        device="cpu",
        world=World(),
        folder=Path(),
        trainer=SimpleNamespace(step=lambda *_: Step(Computed(), Computed())),
        tuned=[],
    )
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    row = run.advance(1, np.zeros((1, 2, 8), np.int64), np.zeros((1, 2, 8), np.int64))
    assert row.tokens_per_s == 16 / 4.0


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(0.4, "0"), (950, "950"), (999.6, "1.00k"), (14_822, "14.8k"), (123_456, "123k"),
     (999_600, "1.00M"), (1_051_167, "1.05M"), (12_345_678, "12.3M")],
)  # fmt: skip
def test_a_rate_in_the_progress_bar_is_short(rate, shown):
    assert session._in_three_digits(rate) == shown
