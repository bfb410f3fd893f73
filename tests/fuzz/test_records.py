"""Bad records are refused in one sentence."""

import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench.gpu.options import GpuOptions
from bench.gpu.progress import failures, is_compared, require_same_machine
from bench.gpu.steps import Step
from bench.harness import records
from bench.planning import command
from bench.planning.options import PlanOptions
from bench.planning.rates import MismatchedRates
from bench.reporting import html, markdown, source_diff
from bench.speed import record as speed_record
from bench.speed.results import Configuration
from bench.training.config import RunSettings
from tests.helpers.damage import bent
from tests.helpers.fuzz import examples, laid, tried


def _shortened(name: str) -> Any:
    """A committed record with at most a few of each of its rows, so that much can be tried."""

    def short(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: short(part) for key, part in value.items()}
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return [short(part) for part in value[:2]]
        return value

    return short(records.load(name).as_object())


def _speed_record() -> dict[str, Any]:
    """Two rows of a committed record with all of their samples, and their ratio."""
    found = records.load("speed-small-cpu").as_object()
    found["results"] = found["results"][:2]
    first, second = found["results"]
    keys = {field.name: first[field.name] for field in fields(Configuration)}
    keys |= {"numerator": first["contestant"], "denominator": second["contestant"]}
    found["ratios"] = [ratio for ratio in found["ratios"] if keys.items() <= ratio.items()]
    assert len(found["ratios"]) == 1
    return found


def test_the_record_that_is_bent_holds(ground):
    path = laid(ground, "record.json", json.dumps(_speed_record()).encode())
    assert "holds: 2 results" in speed_record.check(path)


@examples("benchmark record")
@given(content=bent(_speed_record()))
def test_benchmark_record(ground, content):
    path = laid(ground, "record.json", content)
    tried("benchmark record", ground, lambda: speed_record.check(path), speed_record.Refused)


_COMPARED = Step(name="compare-tiny", about="", preset="tiny", dtype="all")


@examples("other records")
@given(content=bent(_shortened("compare-cpu")))
def test_comparison_of_a_gpus_measurement(ground, content):
    laid(ground, "compare-tiny-1.json", content)
    options = GpuOptions(out=ground)
    tried("other records", ground, lambda: require_same_machine([_COMPARED], options, "cpu"))
    tried("other records", ground, lambda: is_compared(_COMPARED, options))
    tried("other records", ground, lambda: list(failures(_COMPARED, options)))


RECORDS = {
    "compare-cpu": ("compare:compare-cpu", "machine:compare-cpu"),
    "mutants-cpu": ("mutants:mutants-cpu", "machine:mutants-cpu"),
    "training-cpu": ("learning:training-cpu", "markov:training-cpu"),
    "defaults-cpu": ("defaults:defaults-cpu",),
    "decoding-cpu": ("decoding:decoding-cpu",),
    "findings-cpu": ("findings:findings-cpu",),
    "compile-cpu": ("compile:compile-cpu",),
    "speed-124m-cpu": ("speed:speed-124m-cpu::train", "ceilings:speed-124m-cpu"),
    "speed-ladder-cpu": ("ladder:speed-ladder-cpu",),
}
SHORT = {name: _shortened(name) for name in RECORDS}


@examples("other records")
@given(content=st.data(), name=st.sampled_from(sorted(RECORDS)))
def test_other_records(ground, content, name):
    results = ground / "results"
    results.mkdir(exist_ok=True)
    path = laid(results, f"{name}.json", content.draw(bent(SHORT[name])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "RESULTS", results)
        patch.setattr(
            source_diff, "twin_files", lambda outcomes, times: []
        )  # the sources, which no record changes
        for block in RECORDS[name]:
            page = f"<!-- from {block} -->\n<!-- end -->"
            tried("other records", ground, lambda page=page: markdown.fill(page))
        tried("other records", ground, html.make)
    path.unlink()


def _plan_record() -> dict[str, Any]:
    """What a committed record of plans has of rates, at one size."""
    found = records.load("plan-cpu").as_object()
    kept = {key: found[key] for key in ("environment", "asked", "floors")}
    return kept | {"sizes": [{"ceilings": found["sizes"][0]["ceilings"]}]}


def _plan_by(path: Path) -> int:
    settings = RunSettings(preset="tiny", batch_size=2, length=8)
    options = PlanOptions(devices=2, ceilings=path, settings=settings)
    return command.run(options, Console(file=io.StringIO()))


def test_a_plan_is_made_by_the_record_that_is_bent(ground):
    assert _plan_by(laid(ground, "plan.json", json.dumps(_plan_record()).encode())) == 0


@examples("rates for a plan")
@given(content=bent(_plan_record()))
def test_rates_for_a_plan(ground, content):
    path = laid(ground, "plan.json", content)
    tried("rates for a plan", ground, lambda: _plan_by(path), MismatchedRates)
