"""The plot of a run's losses: its title, axes, legend, and what a fine-tuning measured."""

import pytest

from bench.training import curves
from bench.training.fine_tuning import FineTuning
from bench.training.metrics import StepLoss

ROWS = [
    StepLoss(step=step, loss=4 - step / 300, val_loss=3.5 if step % 100 == 0 else None)
    for step in range(1, 301)
]


def test_a_plot_has_title_axes_and_a_legend_of_both_losses():
    figure = curves.plot({"torch": ROWS}, title="GPT-2 writer: 300 steps on a text")
    (axes,) = figure.axes
    assert axes.get_title() == "GPT-2 writer: 300 steps on a text"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss, nats per token")
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["PyTorch, mean of 5 steps", "PyTorch, validation"]


def test_a_mean_stands_over_the_steps_that_it_is_of():
    figure = curves.plot({"torch": ROWS})
    raw, mean = figure.axes[0].lines
    assert list(raw.get_ydata()) == [row.loss for row in ROWS]
    assert list(mean.get_xdata()) == list(range(3, 299))
    assert list(mean.get_ydata()) == pytest.approx([row.loss for row in ROWS[2:-2]])


def test_a_long_title_is_folded():
    figure = curves.plot({"jax": ROWS}, title="GPT-2 writer: 300 steps on " + "a folder/" * 20)
    assert max(map(len, figure.axes[0].get_title().splitlines())) <= 80


@pytest.mark.parametrize("is_over", [False, True])
def test_a_fine_tuning_marks_its_losses_before_and_after(is_over):
    losses = FineTuning(before={"new text": 5.25, "old text": 2.5})
    if is_over:
        losses.after = {"new text": 3.5, "old text": 2.75}
    figure = curves.plot({"torch": ROWS}, measured=losses.measured(300))
    (axes,) = figure.axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    for text in ("new text", "old text"):
        points = [[0, losses.before[text]], *([[300, losses.after[text]]] if is_over else [])]
        assert lines[f"{text}, before and after"] == points
    written = {text.get_text() for text in axes.texts}
    assert written == {"5.25", "2.50"} | ({"3.50", "2.75"} if is_over else set())
