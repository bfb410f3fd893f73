"""A measurement of a GPU in which nothing is computed: its records are made of made-up times."""

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from bench.gpu.command import Measurement
from bench.gpu.options import GpuOptions
from bench.gpu.progress import next_path
from bench.gpu.steps import Step
from bench.harness import frameworks
from bench.speed import ceilings, messages
from bench.speed.results import Ceiling, Parity, Product, Sample
from bench.speed.stage_files import StageFiles
from bench.speed.stage_run import StageRun
from twingrad import environment as facts
from twingrad.files import write_json

COUNT = 5  # samples of each contestant


class Made:
    """What is made up, and after how many contestants the call is cut off."""

    def __init__(self, out: Path):
        self.out, self.cut_after, self.measured = out, -1, []
        self.said = ""

    def call(self, *names: str, **options) -> int:
        """Run the command on the steps of these names; its status."""
        console = Console(file=io.StringIO(), width=300)
        given = {"device": "cpu", "preset": "tiny", "out": self.out, "samples": COUNT}
        given |= {"budget": "1h"} | options  # within a budget each contestant has one process
        status = Measurement(GpuOptions(names=names, **given), console).run()
        self.said = console.file.getvalue()
        return status

    def files(self) -> list[str]:
        """The names of the records."""
        return sorted(path.name for path in self.out.iterdir())


@pytest.fixture
def made(tmp_path, monkeypatch) -> Made:
    """The command, with times that are made up."""
    for name in frameworks.NAMES:
        if not frameworks.installed(name):
            pytest.skip(f"{name} is not installed, and this needs both frameworks")
    made = Made(tmp_path / "records")
    parity = Parity(ok=True, judged=3, worst="loss", error_u=1.0, limit_u=4.0)
    # Each another, since no two are alike, and short, since none is waited for.
    seconds = itertools.count(1e-9, 1e-12)

    def measure_group(self, part, files, group, workers, until) -> None:
        for worker in workers:
            if made.cut_after == len(made.measured):
                raise KeyboardInterrupt
            made.measured.append(worker.name)
            worker.readiness = messages.Readiness(
                first_s=2e-9, step_s=1e-9, peak=messages.Peak(host=1 << 30), parity=parity
            )
            worker.state = {"settings": {}, "versions": {}, "libraries": []}
            worker.samples += [
                Sample(start=part.number, round=turn, seconds=next(seconds), others_cores=0.0)
                for turn in range(COUNT)
            ]
            self.noted()

    def compare(self, step: Step) -> None:
        content = {"ok": True, "environment": facts.environment("cpu", {}), "programs": []}
        write_json(next_path(step, self.options.out), content)

    def measure_ceilings(request, deadline) -> Ceiling:
        product = Product("c_fc", (1, 1, 1), 1e9)
        return Ceiling(
            framework=request.framework, fast=True, products=(product,), copy_bytes_per_s=1e9
        )

    monkeypatch.setattr(StageFiles, "compute_reference", lambda *_, **__: "")
    monkeypatch.setattr(StageRun, "_make", lambda *_: None)
    monkeypatch.setattr(StageRun, "_measure_group", measure_group)
    monkeypatch.setattr(Measurement, "_compare", compare)
    monkeypatch.setattr(ceilings, "measure_in_process", measure_ceilings)
    return made


@pytest.fixture
def check() -> Callable[[Path], None]:
    """Checks every record of timings in a folder, as ``bench --check`` does."""
    from bench.speed import record

    def judge(folder: Path) -> None:
        for path in folder.glob("*.json"):
            if not path.name.startswith("compare-"):
                assert "holds" in record.check(path)

    return judge
