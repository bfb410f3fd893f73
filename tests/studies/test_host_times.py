"""The study of what Python adds to a step: what it times is the same step, and its bounds hold."""

import pytest

from bench.harness import frameworks
from bench.harness.records import Record
from bench.studies import host_times


def _row(host_s, framework="jax"):
    return {
        "framework": framework, "layers": 12, "dropout": 0.1, "step_s": 2e-3,
        "computation_s": 2e-3 - host_s, "host_s": host_s,
    }  # fmt: skip


def test_a_step_that_python_takes_too_long_for_breaks_the_bound():
    record = Record({}, {"rows": [_row(0.29e-3), _row(0.31e-3), _row(0.49e-3, "torch")]})
    said = "Python takes 0.31 ms of a step, and 0.30 ms at most are allowed"
    assert list(host_times.broken(record)) == [f"jax, 12 layers, dropout 0.1: {said}"]
    assert next(host_times.lines(record)) == "jax, 12 layers, dropout 0.1: 0.29 ms of 2.00 ms"
    assert not host_times.STUDY.holds(record)
    table = host_times.markdown(record)
    assert "| PyTorch | 12 | 0.1 | 2.00 ms | 1.51 ms | 0.49 ms |" in table


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # some of the compiler's own
@pytest.mark.usefixtures("unchecked")  # PyTorch's compiler does not trace checks of signatures
def test_the_computation_alone_trains_as_the_step_does(framework):
    """From the same start both have the same losses; with dropout they draw other keys."""
    both = [host_times.calls(framework, 1, 0.0)[number] for number in (0, 1)]
    step, bare = ([work() for _ in range(3)] for work in both)
    assert step[0] != step[1]
    assert bare == pytest.approx(step, rel=1e-6)


@pytest.mark.slow
def test_a_row_has_the_times_of_both_and_of_their_difference():
    jax = frameworks.installed("jax")
    if not jax:
        pytest.skip("jax is not installed")
    row = host_times.row_of(frameworks.one("jax"), 1, 0.1, steps=4)
    assert row["framework"] == "jax"
    assert row["computation_s"] > 0
    assert row["step_s"] > 0
    assert abs(row["host_s"]) < row["step_s"]
