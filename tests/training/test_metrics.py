"""Step metrics of a run: a line a step, read up to where a line is not whole."""

import json
import math
from dataclasses import replace

import pytest

from bench.training import metrics
from bench.training.metrics import StepMetrics

ROW = StepMetrics(step=1, loss=2.5, grad_norm=1.0, lr=1e-3, tokens_per_s=9.5)


@pytest.mark.parametrize("line", ['{"step": 3, "lo', "5", "{}", '"text"', "\xff"])
def test_metrics_end_where_a_line_is_not_whole(tmp_path, line):
    path = tmp_path / metrics.FILE
    rows = [replace(ROW, step=step) for step in (1, 2)]
    path.write_bytes(metrics.lines(rows).encode() + line.encode("latin-1") + b"\n")
    assert metrics.read(path, 9) == rows
    assert metrics.read(path, 1) == rows[:1]


@pytest.mark.parametrize(
    "change",
    [{"loss": "high"}, {"loss": None}, {"val_loss": [1]}, {"loss": math.nan}, {"step": 1e400}],
)
def test_metrics_end_where_a_value_is_no_number(tmp_path, change):
    path = tmp_path / metrics.FILE
    row = ROW.to_json()
    path.write_text("\n".join(map(json.dumps, (row, row | change, row))))
    assert metrics.read(path, 9) == [ROW]


def test_metrics_that_cannot_be_read_are_refused(tmp_path):
    assert metrics.read(tmp_path / metrics.FILE, 9) == []
    with pytest.raises(ValueError, match="cannot read"):
        metrics.read(tmp_path, 9)


def test_the_best_step_is_validated_lowest_among_those_that_are_there():
    rows = [
        metrics.StepLoss(step=step, loss=1.0, val_loss=loss)
        for step, loss in ((1, 3.0), (2, 1.0), (3, None), (4, 2.0))
    ]
    assert metrics.best(rows, [1, 2, 3, 4]) == 2
    assert metrics.best(rows, [1, 3, 4]) == 4
    assert metrics.best(rows, [3]) is None
