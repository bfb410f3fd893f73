"""What ``twingrad bench`` is made of: statistics, contestants, workloads, the judge, the race."""

import json
import math
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bench.harness import frameworks, machine, programs, records
from bench.speed import benchmark, ceilings, contestants, reference, results, scheduler, statistics
from bench.speed import record as speed_record
from bench.speed import workloads as kinds
from bench.speed.backends.backend import Job, read_batches, write_batches
from bench.speed.contestants import Contestant
from shared import data, params
from shared.config import AdamWConfig, preset

each_framework = pytest.mark.parametrize("framework", frameworks.NAMES)
devices = pytest.mark.parametrize("device", ["cpu", "cuda"])


# Statistics.


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("apart", [0.5, 1.0, 3.0])
def test_a_ratios_interval_covers_the_ratio(seed, apart):
    random = np.random.default_rng(seed)
    ours, theirs = apart * random.lognormal(0, 0.05, 9), random.lognormal(0, 0.05, 7)
    found = statistics.ratio({0: ours}, {0: theirs})
    assert found["ratio"] == pytest.approx(np.median(ours) / np.median(theirs))
    assert found["low"] < found["ratio"] < found["high"]
    assert found["low"] < apart < found["high"]


def test_a_ratios_interval_is_the_same_for_the_same_samples():
    samples = {0: [1.0, 1.1, 0.9, 1.3, 1.0]}, {0: [2.0, 2.2, 1.9]}
    assert statistics.ratio(*samples) == statistics.ratio(*samples)


def test_equal_samples_are_still_apart_by_what_processes_differ():
    found = statistics.ratio({0: [1.0] * 5}, {0: [1.0] * 5})
    spread = 1 + statistics.SPREAD
    assert found == pytest.approx({"ratio": 1.0, "low": 1 / spread, "high": spread})


def _call(random, starts=4, spread=0.05, noise=0.02):
    """Samples of a call in which every process has a speed of its own."""
    return {
        start: np.exp(random.normal(0, spread) + random.normal(0, noise, 3))
        for start in range(starts)
    }


@pytest.mark.parametrize("starts", [3, 4, 6])
def test_an_interval_over_processes_holds_what_a_repeated_call_finds(starts):
    random = np.random.default_rng(starts)
    inside = 0
    for _ in range(1000):
        found = statistics.ratio(_call(random, starts), _call(random, starts))
        again = statistics.ratio(_call(random, starts), _call(random, starts))
        inside += found["low"] <= again["ratio"] <= found["high"]
    # Of a thousand, 990 are to be expected, give or take three (binomial).
    assert inside >= 978
    assert inside < 1000


def test_an_interval_over_one_process_each_does_not():
    random = np.random.default_rng(0)
    pairs = [[_call(random, 1, 0.2) for _ in range(4)] for _ in range(200)]
    found = [(statistics.ratio(a, b), statistics.ratio(c, d)["ratio"]) for a, b, c, d in pairs]
    assert sum(one["low"] <= again <= one["high"] for one, again in found) < 100


def test_what_slows_a_start_for_all_does_not_widen_an_interval():
    slowed = {start: np.asarray([1.0, 1.01, 0.99]) * (1 + start) for start in range(4)}
    found = statistics.ratio(slowed, {n: 2 * np.asarray(own) for n, own in slowed.items()})
    assert found == pytest.approx({"ratio": 0.5, "low": 0.5, "high": 0.5})


def test_only_starts_that_both_had_are_compared():
    ours = {0: [1.0], 1: [1.0], 2: [1.0], 3: [9.0]}
    found = statistics.ratio(ours, {0: [1.0], 1: [1.0], 2: [1.0]})
    assert found == pytest.approx({"ratio": 1.0, "low": 1.0, "high": 1.0})


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.3])
def test_an_exponent_is_recovered(power):
    sizes = [128, 256, 512, 1024]
    found = statistics.exponent(sizes, [3e-4 * size**power for size in sizes])
    assert found["exponent"] == pytest.approx(power, abs=1e-9)
    assert found["r_squared"] == pytest.approx(1.0)


def test_what_is_no_power_fits_worse():
    assert statistics.exponent([1, 2, 4, 8], [1.0, 9.0, 2.0, 7.0])["r_squared"] < 0.5


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_a_summary_is_numpys(count):
    samples = np.random.default_rng(count).random(count)
    found = statistics.summary(list(samples))
    assert found["median_s"] == np.median(samples)
    assert found["quartile_low_s"] == np.percentile(samples, 25)
    assert found["quartile_high_s"] == np.percentile(samples, 75)


def test_the_first_figure_that_is_off_is_named():
    wanted = {"a": 1.0, "b": 2.0}
    assert statistics.close({"a": 1.0, "b": 2.0, "c": 3.0}, wanted) is None
    assert statistics.close({"a": 1.0, "b": 2.0 + 1e-6}, wanted) == "b"


# Samples that count, and growth.


def _samples(*others: float) -> list[dict]:
    return [{"round": i, "seconds": 1.0 + i, "others_cores": busy} for i, busy in enumerate(others)]


def test_disturbed_samples_are_left_out_where_enough_are_clean():
    found = speed_record.counted(_samples(0.0, 0.9, 0.0, 0.05, 0.0, 0.0), scheduler.QUIET)
    assert found == [1.0, 3.0, 4.0, 5.0, 6.0]


def test_disturbed_samples_count_where_few_are_clean():
    assert len(speed_record.counted(_samples(0.0, 0.9, 0.0, 0.9), scheduler.QUIET)) == 4


def test_disturbed_samples_count_where_a_start_has_no_others():
    first = [sample | {"start": 0} for sample in _samples(*[0.0] * 6)]
    disturbed = [sample | {"start": 1} for sample in _samples(0.9, 0.9)]
    assert len(speed_record.counted(first + disturbed, scheduler.QUIET)) == 8
    row = {
        "median_s": 1.0,
        "work": {},
        "datasheet_flops_per_s": None,
        "first_s": 1.0,
        "step_s": 1.0,
    }
    for samples, clean in ((first, True), (first + disturbed, False)):
        found = speed_record.derived(row | {"samples": samples}, 0.0, scheduler.QUIET)
        assert found["clean"] is clean
    calm = [sample | {"start": 1} for sample in _samples(0.9, 0.0)]
    assert len(speed_record.counted(first + calm, scheduler.QUIET)) == 7


def test_growth_is_of_each_contestant_and_size_alone():
    rows = [
        {
            "workload": "growth",
            "status": "timed",
            "contestant": name,
            "variant": f"{axis} {size}",
            axis: size,
            "median_s": 1e-3 * size**power,
        }
        for name, axis, power in (("a", "length", 2), ("a", "n_layers", 1), ("b", "length", 1))
        for size in (2, 4, 8)
    ]
    found = {(one["contestant"], one["axis"]): one["exponent"] for one in speed_record.growth(rows)}
    wanted = {("a", "length"): 2, ("a", "n_layers"): 1, ("b", "length"): 1}
    assert found == pytest.approx(wanted)


def _called(ratio, low, high, **named):
    keys = dict.fromkeys(("numerator", "denominator", *speed_record.KEYS), "the same")
    return {"ratios": [keys | named | {"ratio": ratio, "low": low, "high": high}]}


@pytest.mark.parametrize(
    ("other", "covered"),
    [((1.1, 1.0, 1.2), True), ((1.1, 1.05, 1.2), False), ((1.3, 0.9, 1.4), False)],
)
def test_two_calls_agree_where_each_interval_has_the_others_ratio(other, covered):
    [(_, _, found)] = speed_record.repeated(_called(1.0, 0.9, 1.2), _called(*other))
    assert found is covered


def test_only_ratios_of_the_same_two_are_held_against_each_other():
    first, second = _called(1.0, 0.9, 1.1), _called(1.0, 0.9, 1.1, preset="another")
    assert speed_record.repeated(first, second) == []


# Contestants.


@each_framework
@devices
def test_every_rung_changes_exactly_one_setting(framework, device):
    rungs = [asdict(one.settings) for one in contestants.ladder(framework, device)]
    for before, after in pairwise(rungs):
        changed = [name for name in before if before[name] != after[name]]
        assert len(changed) == 1, changed


@each_framework
def test_on_cuda_the_ladder_ends_with_graphs(framework):
    *others, last = contestants.ladder(framework, "cuda")
    assert last.settings.graphs
    assert not any(one.settings.graphs for one in others)
    assert not any(one.settings.graphs for one in contestants.ladder(framework, "cpu"))


@devices
def test_names_of_contestants_are_unique(device):
    everybody = [
        *contestants.built_in(device),
        *contestants.ladder("torch", device),
        *contestants.ladder("jax", device),
    ]
    names = [one.name for one in everybody]
    assert len(set(names)) == len(names)


@each_framework
def test_tuned_contestants_keep_their_memory_and_idiomatic_ones_run_at_defaults(framework):
    rows = {one.name: one for one in contestants.built_in("cpu")}
    tuned = rows[f"{framework}-tuned"].environment()
    assert any(name.startswith("MALLOC_") for name in tuned)
    assert rows[f"{framework}-idiomatic"].environment() == {}


def test_a_family_is_all_its_members_and_a_member_is_one():
    chosen = contestants.choose(["torch", "jax-tuned"], "cpu", [])
    assert {one.name for one in chosen} == {"torch-idiomatic", "torch-tuned", "jax-tuned"}


def test_a_peers_record_does_not_hold_its_path(tmp_path):
    (tmp_path / "mine.py").write_text("class Racer: ...\n")
    found = contestants.peers({"mine": tmp_path / "mine.py"})
    assert [one.name for one in found] == ["mine", "mine-tuned"]
    for one in found:
        assert str(tmp_path) in str(one.path)
        assert str(tmp_path) not in json.dumps(one.described())


def test_the_callers_settings_do_not_leak_into_a_contestant(tmp_path, monkeypatch):
    for name in contestants.CLEARED:
        monkeypatch.setenv(name, "1")
    rows = {one.name: one for one in contestants.built_in("cpu")}
    plain = scheduler.environment(rows["jax-idiomatic"], tmp_path)
    assert not set(contestants.CLEARED) & set(plain)
    tuned = scheduler.environment(rows["jax-tuned"], tmp_path)
    assert tuned["MALLOC_MMAP_MAX_"] == contestants.KEPT_MEMORY["MALLOC_MMAP_MAX_"]


# Workloads and their arithmetic.


def test_flops_of_124m_are_those_computed_by_hand():
    # 12 layers of 768: 85M parameters in matrices, 38.6M in the head, 12 layers of attention.
    matrices, head, attention = 12 * 12 * 768**2, 50257 * 768, 4 * 12 * 768 * 1024
    forward = 2 * (84_934_656 + 38_597_376) + 37_748_736
    assert (matrices, head, attention) == (84_934_656, 38_597_376, 37_748_736)
    config = preset("124m")
    assert kinds.flops_a_token(config, 1024) == forward == 284_812_800
    assert kinds.flops("forward", config, 2, 1024) == forward * 2048
    for workload in ("forward-backward", "train"):
        assert kinds.flops(workload, config, 2, 1024) == 3 * forward * 2048


@pytest.mark.parametrize("name", ["tiny", "124m"])
def test_the_ceilings_products_are_those_of_a_forward_pass(name):
    config = preset(name)
    cost = {n: 2 * np.prod(s, dtype=float) for n, s in ceilings.shapes(config, 100).items()}
    assert cost.pop("head, weight gradient") == cost["head"]
    head = cost.pop("head")
    attention = 4 * config.n_layers * config.emb_dim * 64
    whole = config.n_layers * sum(cost.values()) + head + 100 * attention
    assert whole == 100 * kinds.flops_a_token(config, 64)


def test_decoding_reads_every_matrix():
    config = preset("124m")
    shapes = params.gpt2_shapes(config)
    matrices = [s for n, s in shapes.items() if len(s) == 2 and "wpe" not in n]
    assert kinds.decode_bytes(config, 2) == 2 * sum(math.prod(shape) for shape in matrices)


def test_the_plan_for_cuda_puts_training_first_at_full_length():
    racing = contestants.choose(["torch", "jax"], "cuda", [])
    first, *_ = kinds.plan(kinds.DEFAULT["cuda"], "124m", "cuda", racing, None, None)
    assert first.workloads[0] == "train"
    assert (first.batch_size, first.length) == kinds.LARGE["cuda"] == (32, 1024)
    assert first.config.drop_rate == 0.0


def test_growth_changes_one_size_at_a_time():
    racing = contestants.choose(["torch", "jax"], "cpu", [])
    stages = kinds.plan(("growth",), "small", "cpu", racing, None, None)
    for axis, sizes in kinds.GROWTH.items():
        own = [stage for stage in stages if stage.axis == axis]
        assert [stage.size for stage in own] == list(sizes)
        varied = {
            "length": {stage.length for stage in own},
            "batch_size": {stage.batch_size for stage in own},
            "n_layers": {stage.config.n_layers for stage in own},
        }
        assert varied.pop(axis) == set(sizes)
        assert all(len(values) == 1 for values in varied.values())


# One call of bench, without processes.


@pytest.fixture
def bench():
    def make(**asked) -> benchmark.Bench:
        return benchmark.Bench(benchmark.Asked(**{"device": "cpu"} | asked))

    return make


@pytest.fixture
def taking(monkeypatch):
    """Runs a call whose every stage takes so many seconds; those that were run."""

    def measure(call: benchmark.Bench, seconds: float) -> list[kinds.Stage]:
        ran: list[kinds.Stage] = []
        monkeypatch.setattr(call, "_measure_ceilings", lambda: None)
        monkeypatch.setattr(call, "_stage", lambda stage, until: ran.append(stage))
        monkeypatch.setattr(call, "elapsed", lambda: seconds * len(ran))
        call.measure()
        return ran

    return measure


def test_a_spent_budget_skips_later_stages_and_the_record_says_so(bench, taking):
    call = bench(workloads=("train", "overhead"), preset="tiny", budget=100.0)
    first, *later = call.stages
    assert taking(call, 95.0) == [first]
    skipped = call.report()["skipped"]
    assert [one["stage"] for one in skipped] == [stage.title for stage in later]
    assert all("budget of 100 s" in one["why"] for one in skipped)


def test_what_one_workload_took_says_nothing_of_another(bench, taking):
    call = bench(workloads=("train", "cold"), preset="tiny", budget=100.0)
    assert [stage.workloads for stage in taking(call, 60.0)] == [("train",), ("cold",)]


def test_a_stage_that_one_like_it_shows_to_take_too_long_is_skipped(bench, taking):
    call = bench(workloads=("overhead",), budget=100.0)
    first, second = call.stages
    assert taking(call, 60.0) == [first]
    assert [one["stage"] for one in call.report()["skipped"]] == [second.title]


def test_where_a_budget_is_kept_each_contestant_has_one_process(bench):
    assert bench().starts == bench(preset="tiny", budget=5.0).starts == 1
    assert bench(preset="tiny").starts == benchmark.STARTS >= statistics.STARTS
    assert bench(preset="tiny", budget=5.0, starts=3).starts == 3


def test_ceilings_are_all_measured_unless_the_call_has_nothing_else_to_say(bench):
    assert bench().brief
    assert not bench(budget=5.0).brief
    assert not bench(preset="tiny").brief
    assert not bench(workloads=("train",)).brief


@pytest.mark.parametrize(
    ("names", "workloads", "ran", "left"),
    [
        (("hf",), ("train", "overhead"), {"train"}, ["overhead"]),
        (("torch-ladder",), ("overhead", "train", "cold"), {"train"}, ["overhead", "cold"]),
        (("jax-idiomatic",), ("growth", "train"), {"train"}, ["growth"]),
        (("flax-reference",), ("decode", "forward"), {"forward"}, ["decode"]),
    ],
)
def test_a_workload_without_contestants_is_left_out_and_the_record_says_so(
    bench, names, workloads, ran, left
):
    call = bench(contestants=names, workloads=workloads, preset="tiny")
    assert {workload for stage in call.stages for workload in stage.workloads} == ran
    assert [one["stage"] for one in call.report()["skipped"]] == left


def test_a_call_that_nobody_takes_part_in_is_refused(bench):
    with pytest.raises(ValueError, match="none of jax-idiomatic takes part in growth"):
        bench(contestants=("jax-idiomatic",), workloads=("growth",))


def test_ctrl_c_in_a_later_start_keeps_the_samples_of_earlier_ones(bench, monkeypatch):
    call = bench(workloads=("train",), contestants=("torch-tuned", "jax-tuned"), preset="tiny")
    monkeypatch.setattr(call, "_measure_ceilings", lambda: None)
    monkeypatch.setattr(call, "_oracle", lambda *_: None)

    def leg(sitting, leg, entries, until):
        for entry in entries:
            entry.ready = {"first_s": 2.0, "step_s": 1.0, "peak_bytes": {"host": 1 << 20}}
            entry.ready["parity"] = {**_parity(1.0), "judged": 3, "worst": "loss"}
            entry.state = {"settings": {}, "versions": {}, "libraries": []}
            for turn in range(3):
                entry.samples.append(scheduler.Sample(sitting.number, turn, 1.0 + turn, 0.0))
            if sitting.number:
                raise KeyboardInterrupt

    monkeypatch.setattr(call, "_make", lambda *_: None)
    monkeypatch.setattr(call, "_leg", leg)
    with pytest.raises(KeyboardInterrupt):
        call.measure()
    found = json.loads(json.dumps(call.report()))
    starts = [[sample["start"] for sample in row["samples"]] for row in found["results"]]
    # The one that goes first the second time had just been timed.
    assert starts == [[0, 0, 0], [0, 0, 0, 1, 1, 1]]
    assert len(found["ratios"]) == 1
    assert list(speed_record.problems(found)) == []


def test_no_cache_lies_where_a_cpp_compiler_would_not_find_it(bench, monkeypatch, tmp_path):
    call = bench(workloads=("cold",), contestants=("torch-tuned",), preset="tiny")
    [stage], [one], said = call.stages, call.chosen, []
    monkeypatch.setattr(call, "_start", lambda entry, folder, caches: said.append(str(caches)))
    with pytest.raises(AssertionError):  # there is no process
        call._cold_start(stage, scheduler.Entry(contestant=one, label=one.name), tmp_path, 3)
    named = replace(one, name="a name of two words")
    said += [scheduler.environment(named, tmp_path)["TORCHINDUCTOR_CACHE_DIR"]]
    assert len(said) == 2
    assert not any(character.isspace() for path in said for character in path)


def test_ctrl_c_among_cold_starts_keeps_those_before(bench, monkeypatch):
    call = bench(workloads=("cold",), contestants=("jax-tuned",), preset="tiny")
    monkeypatch.setattr(call, "_measure_ceilings", lambda: None)
    monkeypatch.setattr(call, "_oracle", lambda *_: None)

    def cold_start(stage, entry, folder, turn):
        if turn == 2:
            raise KeyboardInterrupt
        entry.samples.append(scheduler.Sample(turn, turn, 1.0 + turn, 0.0))
        entry.ready = {"first_s": 2.0, "step_s": 2.0, "peak_bytes": {}, "parity": _parity(1.0)}

    monkeypatch.setattr(call, "_cold_start", cold_start)
    with pytest.raises(KeyboardInterrupt):
        call.measure()
    counts = {row["variant"]: len(row["samples"]) for row in call.results}
    assert counts == {"empty cache": 2, "filled cache": 2}


def test_contestants_that_do_not_fit_into_memory_race_in_parts(bench, monkeypatch):
    call = bench(workloads=("train",), preset="tiny")
    [stage] = call.stages
    assert call._heats(stage) == [stage]
    monkeypatch.setattr(machine, "free_memory", lambda device: 0.0)
    parts = [heat.contestants for heat in call._heats(stage)]
    first, *others = stage.contestants
    assert parts == [(first, other) for other in others]


def test_on_cuda_the_default_is_124m_in_bfloat16(bench, monkeypatch):
    monkeypatch.setattr(benchmark, "_device", lambda device: "cuda")
    call = bench()
    assert (call.preset, call.dtype, call.budget) == ("124m", "bfloat16", None)


def test_only_a_call_without_arguments_has_a_budget_of_its_own(bench):
    assert bench().budget == benchmark.DEFAULT_BUDGET
    assert bench(preset="tiny").budget is None
    assert bench(preset="tiny", budget=5.0).budget == 5.0


SMI = "NVIDIA H200, 570.86.15, 1980, 3201, 41, 118.20\n"


@pytest.mark.parametrize("printed", [SMI, SMI + SMI], ids=["one GPU", "two GPUs"])
def test_clocks_of_a_gpu_are_read_from_nvidia_smi(monkeypatch, printed):
    def run(command, **_):
        assert command[0] == "nvidia-smi"
        return subprocess.CompletedProcess(command, 0, stdout=printed)

    monkeypatch.setattr(benchmark.subprocess, "run", run)
    found = machine.gpu_clocks("cuda")
    assert found == {
        "name": "NVIDIA H200",
        "driver_version": "570.86.15",
        "clocks.sm": "1980",
        "clocks.mem": "3201",
        "temperature.gpu": "41",
        "power.draw": "118.20",
    }
    assert results.datasheet("cuda") == 989e12
    assert results.datasheet("cpu") is None


@pytest.mark.parametrize(("said", "free"), [("1024\n", 2.0**30), ("[N/A]\n", None), ("", None)])
def test_on_a_gpu_what_is_free_there_decides_who_races_together(monkeypatch, said, free):
    def run(command, **_):
        assert "memory.free" in command[1]
        return subprocess.CompletedProcess(command, 0, stdout=said)

    monkeypatch.setattr(benchmark.subprocess, "run", run)
    found = machine.free_memory("cuda")
    assert found == free if free else found == pytest.approx(machine.free_memory("cpu"), rel=0.2)


def test_where_nvidia_smi_is_absent_there_are_no_clocks(monkeypatch):
    def run(*_, **__):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(benchmark.subprocess, "run", run)
    assert machine.gpu_clocks("cuda") == {}
    assert results.datasheet("cuda") is None


# The judge.


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """The oracle's answer on SimpleNet, by hand: the folder, losses, and gradients."""
    folder = tmp_path_factory.mktemp("oracle")
    program = programs.make("simple-net", steps=2)
    question = reference.Question(
        side="",
        program="simple-net",
        config=preset("tiny"),
        optimizer=kinds.SGD,
        dtype="float32",
        batches=tuple(program.batches[:2]),
    )
    reference.answer(question, program.params, folder)
    answer = json.loads((folder / "answer.json").read_text())
    # As if gradients had been clipped to half.
    (folder / "answer.json").write_text(json.dumps(answer | {"clip": 0.5}))
    return folder, answer["losses"], load_file(folder / "gradients.safetensors")


def _scaled(gradients: params.Params, factor: float) -> params.Params:
    return {name: factor * value for name, value in gradients.items()}


@pytest.mark.parametrize(
    ("factor", "clipped", "ok"),
    [
        (1.0, False, True),
        (1 + 1e-8, False, True),
        (1.01, False, False),
        (0.99, False, False),
        (0.5, True, True),
        (0.5, False, False),
        (1.0, True, False),
        (np.nan, False, False),
        (np.inf, False, False),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_gradients_are_judged_by_their_size_and_clipping(judged, factor, clipped, ok):
    folder, _, gradients = judged
    judge = reference.Judge(folder, "float32")
    rows = judge.gradients(_scaled(gradients, factor), clipped)
    assert len(rows) == len(gradients)
    assert reference.certificate(rows)["ok"] is ok


def test_a_gradient_that_is_missing_or_extra(judged):
    folder, _, gradients = judged
    judge = reference.Judge(folder, "float32")
    extra = gradients | {"a peer's own": np.ones(3)}
    assert reference.certificate(judge.gradients(extra, False))["ok"]
    name, *_ = gradients
    fewer = {other: value for other, value in gradients.items() if other != name}
    found = reference.certificate(judge.gradients(fewer, False))
    assert not found["ok"]
    assert found["worst"] == name


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_certificate_without_a_finite_error_can_be_written_down(judged, broken):
    folder, losses, _ = judged
    found = reference.certificate(reference.Judge(folder, "float32").losses([broken, losses[1]]))
    assert not found["ok"]
    assert found["worst"] == "loss"
    json.dumps(found, allow_nan=False)


def test_the_loss_after_a_step_is_judged_too(judged):
    folder, (first, second), _ = judged
    judge = reference.Judge(folder, "float32")
    assert reference.certificate(judge.losses([first, second]))["ok"]
    found = reference.certificate(judge.losses([first, first]))
    assert not found["ok"]
    assert found["worst"] == "loss after a step"


def test_one_other_token_is_refused(tmp_path):
    (tmp_path / "answer.json").write_text(json.dumps({"tokens": [[1, 2], [3, 4]]}))
    judge = reference.Judge(tmp_path, "float32")
    assert reference.certificate(judge.tokens(np.array([[1, 2], [3, 4]])))["ok"]
    assert not reference.certificate(judge.tokens(np.array([[1, 2], [3, 5]])))["ok"]


def test_the_oracles_gradients_are_those_before_clipping(tmp_path):
    framework = next(name for name in frameworks.NAMES if frameworks.installed(name))
    config = preset("tiny")
    values = params.init_gpt2(config, 0, programs.SPREAD)
    batches = [data.split_tokens(data.token_batch(config, 2, 8, seed)) for seed in range(2)]
    question = reference.Question(
        side=framework,
        program="gpt2",
        config=config,
        optimizer=AdamWConfig(max_grad_norm=0.1, warmup_steps=1, total_steps=10),
        dtype="float32",
        batches=tuple(batches),
    )
    save_file(values, tmp_path / "params")
    alone = benchmark._plain("oracle", framework)
    process = scheduler.Process("oracle", scheduler.environment(alone, tmp_path), tmp_path)
    try:
        given = {"params": str(tmp_path / "params"), "folder": str(tmp_path)}
        process.ask("oracle", 60.0, question=question, **given)
    finally:
        process.end()
    answer = json.loads((tmp_path / "answer.json").read_text())
    gradients = load_file(tmp_path / "gradients.safetensors")
    assert gradients.keys() == values.keys()
    norm = math.sqrt(sum(float((value**2).sum()) for value in gradients.values()))
    assert norm > 0.1
    assert answer["clip"] == pytest.approx(0.1 / norm, rel=1e-9)


# The race, with contestants that only look like processes.


class Fake:
    """Answers from a list, whose last is repeated; what is an exception is raised."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def ask(self, do, wait_s, **asked):
        self.asked.append(asked)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {"seconds": 1.0, "others": answer}


def _entry(name: str, *answers) -> scheduler.Entry:
    contestant = Contestant(
        name=name, family=name, framework="torch", tier="peer", racer="checkout", about=""
    )
    ready = {"step_s": 0.01}
    return scheduler.Entry(contestant=contestant, label=name, process=Fake(*answers), ready=ready)


def _rounds(entries, wanted=3, until=math.inf):
    told = []
    seen = scheduler.rounds(entries, {}, wanted=wanted, until=until, tell=told.append)
    return told, seen


def test_contestants_are_asked_in_turn_round_by_round():
    told, seen = _rounds([_entry("a", 0.0), _entry("b", 0.0)], wanted=2)
    assert told == ["round 1, a", "round 1, b", "round 2, a", "round 2, b"]
    assert len(seen) == 2


def test_a_sample_takes_as_many_steps_as_fill_its_time():
    entry = _entry("a", 0.0)
    _rounds([entry], wanted=1)
    assert entry.process.asked == [{"steps": round(scheduler.SAMPLE_S / 0.01)}]


def test_a_disturbed_sample_is_taken_again_by_everybody():
    calm, disturbed = _entry("calm", 0.0), _entry("disturbed", 0.9, 0.0)
    _rounds([calm, disturbed])
    assert len(disturbed.clean()) == 3
    assert [sample.round for sample in calm.samples] == [0, 1, 2, 3]
    assert [sample.round for sample in disturbed.samples] == [0, 1, 2, 3]


def test_what_is_always_disturbed_ends_all_the_same():
    entry = _entry("a", 0.9)
    _rounds([entry])
    assert len(entry.samples) == 3 * scheduler.RETAKES
    assert entry.clean() == []


def test_time_that_is_up_ends_the_race_after_as_many_rounds_as_a_spread_needs():
    entries = [_entry("a", 0.0), _entry("b", 0.0)]
    _rounds(entries, wanted=9, until=time.monotonic() - 1)
    assert [len(entry.samples) for entry in entries] == [scheduler.LEAST, scheduler.LEAST]


def test_the_others_go_on_when_one_fails():
    good, bad = _entry("good", 0.0), _entry("bad", 0.0, scheduler.Failed("hung: no answer"))
    _rounds([bad, good])
    assert bad.failed == "hung: no answer"
    assert len(bad.process.asked) == 2
    assert len(good.samples) == 3


def test_what_a_further_process_found_is_taken_over():
    kept, ready = _entry("a"), {"first_s": 9.0, "parity": _parity(1.0)}
    kept.ready, sample = {}, scheduler.Sample(0, 0, 1.0, 0.0)
    for further in (
        scheduler.Entry(contestant=kept.contestant, label="a", ready=ready, samples=[sample]),
        scheduler.Entry(contestant=kept.contestant, label="a", ready=ready | {"first_s": 2.0}),
        scheduler.Entry(contestant=kept.contestant, label="a", ready={"parity": _parity(3.0)}),
        scheduler.Entry(contestant=kept.contestant, label="a", samples=[replace(sample, start=3)]),
    ):
        kept.add(further)
    assert kept.failed is None
    assert kept.ready == {"first_s": 9.0, "parity": _parity(3.0)}
    assert [one.start for one in kept.samples] == [0, 3]


def test_what_fails_in_a_further_process_has_failed():
    kept = _entry("a")
    kept.ready = {"parity": _parity(1.0)}
    failed = {"parity": _parity(0.5) | {"ok": False}}
    kept.add(scheduler.Entry(contestant=kept.contestant, label="a", ready=failed, failed="parity"))
    assert kept.failed == "parity"
    assert kept.ready == failed


def _parity(error):
    return {"ok": True, "error_u": error, "limit_u": 4.0}


def test_one_that_failed_before_is_not_asked():
    entry = _entry("a", 0.0)
    entry.failed = "parity"
    _rounds([entry])
    assert entry.process.asked == []


# The race, with processes.

RACER = """
import os, signal, subprocess, sys, time
{top}
class Racer:
    def __init__(self, job, params): ...
    def put(self, *batch): return batch
    def wait(self, loss): return loss
    def train(self, batch):
        {train}
"""


@pytest.fixture
def start(tmp_path):
    """Starts a contestant whose ``train`` is this code; every process is ended afterwards."""
    entries: list[scheduler.Entry] = []

    def make(train: str, top: str = "") -> scheduler.Entry:
        path = tmp_path / "fake.py"
        path.write_text(RACER.format(top=top, train=train))
        contestant = Contestant(
            name="fake",
            family="fake",
            framework="torch",
            tier="peer",
            racer="checkout",
            about="",
            path=str(path),
        )
        entry = scheduler.Entry(contestant=contestant, label="fake")
        entry.process = scheduler.Process("fake", scheduler.environment(contestant, folder), folder)
        entries.append(entry)
        return entry

    with scheduler.stable(entries) as folder:
        yield make
    assert all(entry.process.child.returncode is not None for entry in entries)


def _train(entry: scheduler.Entry, tmp_path: Path, wait_s: float = 30.0) -> dict:
    save_file({"w": np.ones(2)}, tmp_path / "params")
    (tmp_path / "answer.json").write_text("{}")
    job = Job(
        contestant=entry.contestant,
        optimizer=kinds.OPTIMIZER,
        batch_size=1,
        length=1,
        dtype="float32",
        device="cpu",
    )
    batches = [(np.zeros((1, 1)), np.zeros((1, 1)))]
    write_batches(tmp_path / "batches", batches)
    given = {"params": str(tmp_path / "params"), "batches": str(tmp_path / "batches")}
    given["answer"] = str(tmp_path)
    entry.ask("make", 30.0, job=job, **given)
    return entry.ask("time", wait_s, workload="train", steps=2)


@pytest.mark.parametrize(
    ("train", "top", "said"),
    [
        ("raise MemoryError", "", ["out of memory"]),
        ("raise RuntimeError('DefaultCPUAllocator: can\\'t allocate memory')", "", ["out of mem"]),
        ("os.kill(os.getpid(), signal.SIGKILL)", "", ["killed", "memory"]),
        ("sys.exit('three')", "", ["died with status 1", "three"]),
        ("os._exit(3)", "", ["died with status 3", "it said nothing"]),
        ("raise ValueError('too\\nmany words')", "", ["ValueError: too"]),
        ("...", "import no_such_module", ["ModuleNotFoundError", "no_such_module"]),
        ("...", "syntax error", ["SyntaxError"]),
    ],
)
def test_what_became_of_a_process_is_said_in_a_line(start, tmp_path, train, top, said):
    entry = start(train, top)
    with pytest.raises(scheduler.Failed):
        _train(entry, tmp_path)
    assert "\n" not in entry.failed
    for words in said:
        assert words in entry.failed
    assert not entry.racing


def test_one_that_hangs_is_ended_and_named(start, tmp_path):
    entry = start("time.sleep(1000)")
    begun = time.monotonic()
    with pytest.raises(scheduler.Failed):
        _train(entry, tmp_path, wait_s=0.5)
    assert time.monotonic() - begun < 20
    assert entry.failed == "hung: no answer to 'time' in 0 s"
    assert entry.process.child.returncode == -9


def test_a_process_takes_what_it_started_with_it(start, tmp_path):
    entry = start("return subprocess.Popen(['sleep', '1000']).pid")
    assert _train(entry, tmp_path)["seconds"] > 0
    children = Path(f"/proc/{entry.process.child.pid}/task/{entry.process.child.pid}/children")
    if not children.exists():
        pytest.skip("this kernel does not list children")
    started = children.read_text().split()
    assert started
    entry.process.end()
    entry.process.end()  # and twice does no harm
    deadline = time.monotonic() + 5
    while any(_runs(pid) for pid in started) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_runs(pid) for pid in started)


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_contestant_prints_is_not_taken_for_an_answer(start, tmp_path):
    entry = start("os.write(1, b'hello'); return 1.0")
    assert _train(entry, tmp_path)["seconds"] > 0
    assert "hello" in entry.process.errors.read_text()


def test_one_that_dies_while_others_have_their_turn_has_failed(start, tmp_path, bench):
    entry = start("return 1.0")
    _train(entry, tmp_path)
    entry.made = True
    assert entry.alive
    entry.process.end()
    call = bench(workloads=("train",), preset="tiny")
    sitting = benchmark.Sitting(stage=call.stages[0], number=0, of=1, folder=tmp_path)
    call._leg(sitting, ("train", 0), [entry], until=math.inf)
    assert entry.failed == "died while others had their turn"
    assert entry.samples == []


def test_batches_are_read_as_they_were_written(tmp_path):
    batches = [(np.arange(6).reshape(2, 3).T, np.arange(n)) for n in range(1, 12)]
    write_batches(tmp_path / "batches", batches)
    found = read_batches(str(tmp_path / "batches"))
    assert [len(batch) for batch in found] == [2] * len(batches)
    for (a, b), (x, y) in zip(found, batches, strict=True):
        np.testing.assert_array_equal(a, x)
        np.testing.assert_array_equal(b, y)


@each_framework
def test_ceilings_are_measured_in_a_process_of_their_own(framework, tmp_path):
    if not frameworks.installed(framework):
        pytest.skip(f"{framework} is not installed")
    alone = benchmark._plain("alone", framework)
    process = scheduler.Process("alone", scheduler.environment(alone, tmp_path), tmp_path)
    try:
        found = process.ask(
            "ceilings",
            60.0,
            framework=framework,
            config=preset("tiny"),
            batch_size=2,
            length=8,
            dtype="float32",
            device="cpu",
            fast=True,
        )
    finally:
        process.end()
    assert [row["name"] for row in found["products"]] == list(ceilings.shapes(preset("tiny"), 16))
    rates = [row["flops_per_s"] for row in found["products"]]
    assert min(rates) > 0
    assert found["copy_bytes_per_s"] > 0
    parts = {row["name"]: row["elements_per_s"] for row in found["parts"]}
    assert {"attention", "matched dropout", "GELU", "loss"} < set(parts)
    assert min(parts.values()) > 0
    assert ceilings.best([found]) == max(rates)
    assert ceilings.best([]) == 0


# Freed memory.


def _said(code: str) -> str:
    """What ``code`` prints in a process and a session of its own, as contestants have them."""
    call = [sys.executable, "-c", code]
    done = subprocess.run(
        call, capture_output=True, text=True, check=True, cwd=Path.cwd(), start_new_session=True
    )
    return done.stdout.strip()


glibc = pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""),
    reason="glibc keeps what is freed, if told to",
)

ALLOCATE = """
import resource
import numpy as np
from shared import allocator
kept = [allocator.keep_freed() for _ in range({times})]
for turn in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = np.ones(200 << 20, np.uint8)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    del held
print(kept, faults)
"""


@glibc
@pytest.mark.parametrize("times", [1, 2])
def test_memory_that_is_kept_is_not_faulted_in_again(times):
    kept, _, faults = _said(ALLOCATE.format(times=times)).rpartition(" ")
    assert kept == str([True] * times)
    assert int(faults) < (200 << 20) / resource.getpagesize() / 100


def test_where_there_is_no_glibc_nothing_is_kept(monkeypatch):
    from shared import allocator

    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    assert allocator.keep_freed() is False


# The records that tables and plots are rendered from.

RECORDS = sorted((records.ROOT / "bench" / "results").glob("speed-*.json"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_committed_record_holds(path):
    assert "every figure follows" in speed_record.check(path)


@pytest.mark.parametrize("key", ["tokens_per_s", "mfu", "compile_s", "clean", "step_s"])
@pytest.mark.parametrize("path", RECORDS[:1], ids=lambda path: path.stem)
def test_an_edited_rate_is_refused(path, key):
    found = json.loads(path.read_text())
    row = found["results"][0]
    row[key] = (not row[key]) if key == "clean" else row[key] * 1.01
    [problem] = speed_record.problems(found)
    assert row["contestant"] in problem


# What is switched on for speed.


@pytest.fixture
def torch_runtime():
    if not frameworks.installed("torch"):
        pytest.skip("torch is not installed")
    runtime = frameworks.one("torch").runtime
    yield runtime
    runtime.configure("float32", "cpu")


@pytest.mark.parametrize(("error", "precision"), [(2e-7, "medium"), (4e-3, "highest")])
def test_the_faster_library_is_taken_only_where_it_rounds_no_worse(
    torch_runtime, monkeypatch, error, precision
):
    errors = {"highest": 1e-7, "medium": error}
    monkeypatch.setattr(torch_runtime, "_product_error", errors.get)
    torch_runtime.configure("float32", "cpu")
    said = torch_runtime.tune("cpu", "float32", torch_runtime.ONEDNN_WIDTH)
    assert torch_runtime.settings()["float32_matmul_precision"] == precision
    assert ("oneDNN for matrix products" in said) == (precision == "medium")


def _alone(framework: str) -> Job:
    return Job(
        contestant=benchmark._plain("alone", framework),
        optimizer=kinds.OPTIMIZER,
        batch_size=1,
        length=1,
        dtype="float32",
        device="cpu",
    )


@pytest.mark.parametrize("given", [None, ":16:8"])
def test_contestants_of_pytorch_may_take_kernels_that_are_not_deterministic(
    torch_runtime, monkeypatch, given
):
    import torch

    from bench.speed.backends import torch_loop

    monkeypatch.delenv(torch_loop.WORKSPACE, raising=False)
    if given:
        monkeypatch.setenv(torch_loop.WORKSPACE, given)
    torch_loop.prepare(_alone("torch"))
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled()
    assert os.environ.get(torch_loop.WORKSPACE) == given


@pytest.mark.parametrize("given", ["", "--xla_gpu_deterministic_ops=true"])
def test_contestants_of_jax_may_take_kernels_that_are_not_deterministic(monkeypatch, given):
    if not frameworks.installed("jax"):
        pytest.skip("jax is not installed")
    from bench.speed.backends import jax_loop

    monkeypatch.setenv("XLA_FLAGS", given)
    jax_loop.prepare(_alone("jax"))
    flags = os.environ["XLA_FLAGS"]
    assert flags == (given or "--xla_gpu_exclude_nondeterministic_ops=false")


@pytest.mark.parametrize(("dtype", "narrower"), [("float32", 1), ("float64", 0), ("bfloat16", 0)])
def test_narrow_models_and_other_dtypes_keep_their_library(torch_runtime, dtype, narrower):
    torch_runtime.configure(dtype, "cpu")
    torch_runtime.tune("cpu", dtype, torch_runtime.ONEDNN_WIDTH - narrower)
    assert torch_runtime.settings()["float32_matmul_precision"] == "highest"


def test_the_error_of_a_product_is_that_of_its_precision(torch_runtime):
    torch_runtime.configure("float32", "cpu")
    assert 0 < torch_runtime._product_error("highest") < 1e-6
    assert torch_runtime.settings()["float32_matmul_precision"] == "highest"


def test_memory_is_given_for_what_ran_before_the_oracles_answer_was_read(monkeypatch):
    from bench.speed import worker

    one = worker.Worker()
    monkeypatch.setattr(one, "_call", lambda *_: lambda: None)
    monkeypatch.setattr(one, "_peak", lambda: {"host": 1})
    monkeypatch.setattr(
        one, "_judged", lambda *_: [{"name": "a", "error_u": 0.0, "limit_u": 1.0, "ok": True}]
    )
    assert [one.ready("train")["peak_bytes"] for _ in range(2)] == [{"host": 1}, {}]


STARTS = """
import subprocess, sys, time
from bench import worker

spin = "import time; [0 for _ in iter(lambda: time.process_time() < 1.5, False)]; print(); input()"
before = worker._own()
two = [
    subprocess.Popen([sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                     start_new_session={apart})
    for _ in range(2)
]
for one in two:
    one.stdout.read(1)
if not {apart}:
    two[0].communicate(b"0")
print(worker._own() - before)
for one in two:
    one.kill()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the kernel's counts are in /proc")
@pytest.mark.parametrize("apart", [False, True])
def test_what_a_contestant_starts_is_its_own_and_what_others_start_is_not(apart):
    seconds = float(_said(STARTS.format(apart=apart)))
    # One of them is still there, the other one has been waited for.
    assert seconds < 1.4 if apart else seconds > 2.9
