"""A framework's half of a run, where its numbers are not finite."""

import numpy as np
import pytest

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
