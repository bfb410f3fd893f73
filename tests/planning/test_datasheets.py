"""Plans by datasheets: marked as such, bounded by the peaks, and held against the GPU's memory."""

import json

import pytest

from bench.cli.main import main
from bench.planning.command import run
from bench.planning.datasheets import DATASHEETS
from bench.planning.options import PlanOptions
from bench.planning.step_plan import WIDTH
from bench.speed.workloads import DATASHEET
from bench.training.config import RunSettings
from tests.helpers.consoles import assert_fits


def test_every_dtype_of_a_plan_has_a_peak_and_its_document():
    for sheet in DATASHEETS.values():
        assert sheet.flops_per_s.keys() == WIDTH.keys()
        assert "datasheet" in sheet.source


def test_the_benchmark_and_the_plan_know_the_same_peaks():
    for name, sheet in DATASHEETS.items():
        assert sheet.flops_per_s["bfloat16"] == pytest.approx(DATASHEET[name.upper()], rel=1e-3)


@pytest.fixture
def plan(tmp_path, capsys):
    """The JSON of a plan and its text."""

    def make(*call):
        path = tmp_path / "plan.json"
        assert main(["plan", *call, "--json", str(path)]) == 0
        return json.loads(path.read_text()), capsys.readouterr().out

    return make


@pytest.mark.parametrize("name", DATASHEETS)
def test_a_plan_by_a_datasheet_says_so_and_where_it_is_from(plan, name):
    written, text = plan("--preset", "124m", "--device", name, "--dtype", "bfloat16")
    sheet = DATASHEETS[name]
    assert written["assumed"]["datasheet"]["source"] == sheet.source
    assert "not measured" in text
    assert sheet.name in text


def test_the_peaks_bound_what_any_mfu_gives(plan):
    call = ("--preset", "124m", "--device", "h100", "--dtype", "bfloat16")
    full, _ = plan(*call, "--mfu", "1")
    half, _ = plan(*call, "--mfu", "0.5")
    for whole, part in zip(full["layouts"], half["layouts"], strict=True):
        assert part["estimate"]["step_s"] == pytest.approx(2 * whole["estimate"]["step_s"])
        assert whole["step_s"] == part["step_s"] >= whole["estimate"]["step_s"]
        tokens = full["step"]["train"]["batch_size"] * full["step"]["length"]
        rate = tokens / whole["estimate"]["step_s"]
        assert whole["estimate"]["tokens_per_s"] == pytest.approx(rate)


def test_a_larger_memory_fits_what_a_smaller_one_does_not(plan):
    call = ("--preset", "gpt2-xl", "--framework", "torch", "--batch-size", "16")
    fits = {
        name: plan(*call, "--device", name)[0]["layouts"][0]["estimate"]["fits"]
        for name in ("h100", "h200")
    }
    small, _ = plan("--preset", "124m", "--framework", "torch", "--device", "h100")
    assert small["layouts"][0]["estimate"]["fits"]
    assert not fits["h100"]


def test_a_measured_plan_has_no_estimate(plan):
    written, text = plan("--preset", "124m")
    assert written["assumed"] is None
    assert {row["estimate"] for row in written["layouts"]} == {None}
    assert "datasheet" not in text


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (["--device", "h100", "--measure"], ["h100", "--measure", "--device cuda"]),
        (["--device", "a100", "--ceilings", "x.json"], ["a100", "--ceilings"]),
        (["--device", "a100", "--mfu", "1.5"], ["--mfu", "1.5"]),
        (["--device", "a100", "--mfu", "0"], ["--mfu", "0"]),
        (["--device", "v100"], ["v100", "h100"]),
    ],
)
def test_a_wrong_call_is_refused_in_one_sentence(capsys, call, named):
    assert main(["plan", *call]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for word in named:
        assert word in said


@pytest.mark.parametrize("device", ["cpu", "h200"])
def test_the_tables_of_a_plan_fit(device):
    settings = RunSettings(preset="gpt2-xl")
    options = PlanOptions(device=device, devices=8, settings=settings)
    assert_fits(lambda console: run(options, console))
