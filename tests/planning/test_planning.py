"""Plans: formulas held against what PyTorch saves, what XLA sets aside, and what a file weighs."""

import json
from dataclasses import replace

import pytest

from bench.cli.main import main
from bench.harness import frameworks, records
from bench.planning import activations, memory, rates, timing, validation
from bench.planning.options import MOST_DEVICES, PlanOptions, arrangements
from bench.planning.step_plan import StepPlan, Variant, variant
from bench.planning.timing import Rates
from bench.speed import workloads
from bench.training.config import RunSettings
from shared import data, params
from shared.config import AdamWConfig, GPTConfig, TrainConfig, preset

MODEL = GPTConfig(
    vocab_size=61, context_length=24, emb_dim=16, n_heads=2, n_layers=3, drop_rate=0.1
)
each_framework = pytest.mark.parametrize("framework", frameworks.NAMES)


def planned(model: GPTConfig = MODEL, length: int = 20, **given) -> StepPlan:
    own = {key: given.pop(key) for key in ("data_parallel", "sharded", "device") if key in given}
    train = TrainConfig(**{"optimizer": AdamWConfig(), "batch_size": 3} | given)
    return StepPlan(model=model, train=train, length=length, **own)


def trainer(framework: str, one: StepPlan):
    """The trainer that is planned."""
    if not frameworks.installed(framework):
        pytest.skip(f"{framework} is not installed")
    side = frameworks.one(framework)
    runtime = side.runtime.configure(one.train.dtype, "cpu")
    model = side.params.build(
        lambda: side.make_gpt2(one.model, recompute=one.train.recompute),
        params.init_gpt2(one.model),
        runtime.master,
    )
    return side.train.Trainer(model, one.train, runtime)


def batch(one: StepPlan):
    """Inputs and targets of one device's step, [1, B, T]."""
    inputs, targets = data.split_tokens(data.token_batch(one.model, one.rows, one.length, 0))
    return inputs[None], targets[None]


# State


@pytest.mark.slow("small-jax")
@each_framework
@pytest.mark.parametrize("name", ["tiny", "small"])
def test_parameters_and_moments_weigh_what_the_trainer_exports(framework, name):
    one = planned(preset(name), batch_size=1)
    exported, state = trainer(framework, one).export(), memory.state(one, framework)
    weights, *moments = (
        sum(value.nbytes for value in group.values())
        for group in (exported.params, exported.first_moment, exported.second_moment)
    )
    assert state["parameters"] == state["gradients"] == weights
    assert state["moments"] == sum(moments)


@each_framework
def test_a_sharded_device_holds_its_share_of_the_state(framework):
    whole = memory.state(planned(batch_size=8), framework)
    part = memory.state(planned(batch_size=8, sharded=4), framework)
    for name in ("parameters", "gradients", "moments"):
        assert part[name] == pytest.approx(whole[name] / 4, abs=1)


# Activations


SETTINGS = {
    "plain": {},
    "native": {"dropout": "native"},
    "recomputed": {"recompute": True},
    "chunked": {"loss_chunk": 7},
    "narrow": {"dtype": "bfloat16"},
    "narrow, chunked": {"dtype": "bfloat16", "loss_chunk": 7},
}


@pytest.mark.parametrize("rate", [0.0, 0.1])
@pytest.mark.parametrize("name", SETTINGS)
def test_kept_bytes_are_those_that_pytorch_saves(name, rate):
    import torch

    one = planned(replace(MODEL, drop_rate=rate), **SETTINGS[name])
    made = trainer("torch", one)
    known = {p.untyped_storage().data_ptr() for p in made.computing.parameters()}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = tensor  # kept, or its address would be given out again
        return tensor

    made.computing.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = made._sum(*(part[0] for part in batch(one)))
    assert loss.requires_grad
    found = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    assert activations.kept(one, "torch", variant(one, "torch")) == found


def _set_aside(**settings):
    """Temporary memory of the JAX step: as planned, and as XLA's compiled program has it."""
    # Long enough for activations to outweigh gradients.
    model = GPTConfig(vocab_size=512, context_length=128, emb_dim=64, n_heads=4, n_layers=3)
    one = planned(model, length=128, batch_size=16, **settings)
    made = trainer("jax", one)
    compiled = made._step.lower(made.leaves, made._batch(*batch(one))).compile()
    planned_bytes = memory.memory(one, "jax")
    return planned_bytes.kept + planned_bytes.working, compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_the_step_takes_what_xla_sets_aside():
    own, found = _set_aside()
    assert own == pytest.approx(found, rel=0.1)


@pytest.mark.slow
def test_a_recomputed_step_takes_no_more_than_planned():
    # The plan has all of a block at once; XLA frees some of it before it makes the rest.
    own, found = _set_aside(recompute=True)
    assert found <= own <= 1.25 * found


@each_framework
def test_each_way_to_save_memory_saves_some(framework):
    one = planned(preset("small"), length=512)
    whole = Variant(fused=False, recompute=False, chunk=0)
    before = memory.memory(one, framework, whole).tensors
    for change in ({"fused": True}, {"recompute": True}, {"chunk": 64}):
        assert memory.memory(one, framework, replace(whole, **change)).tensors < before


# Arithmetic, exchange, time


@pytest.mark.parametrize("name", ["tiny", "124m", "gpt2-xl"])
def test_the_products_are_those_that_the_benchmark_counts(name):
    one = planned(preset(name), length=64)
    how = Variant(fused=False, recompute=False, chunk=0)
    flops = workloads.flops("train", one.model, one.rows, one.length)
    assert sum(timing.arithmetic(one, how).values()) == pytest.approx(flops, rel=1e-12)


def test_recomputing_costs_the_blocks_forward_pass():
    one = planned(preset("124m"), length=64)
    how = Variant(fused=False, recompute=False, chunk=0)
    extra = sum(timing.arithmetic(one, replace(how, recompute=True)).values()) - sum(
        timing.arithmetic(one, how).values()
    )
    head = 2 * one.positions * one.embedding
    forward = workloads.flops("forward", one.model, one.rows, one.length)
    assert extra == pytest.approx(forward - head, rel=1e-12)


def test_one_device_sends_nothing():
    assert timing.communication(planned(), "torch") == {}


@each_framework
def test_a_ring_sends_gradients_twice_but_its_own_share(framework):
    one = planned(batch_size=4, data_parallel=4)
    found = timing.communication(one, framework)
    assert found == {"all-reduce": pytest.approx(2 * 3 / 4 * 4 * one.parameters)}


@each_framework
def test_two_axes_exchange_over_both(framework):
    one = planned(batch_size=16, data_parallel=4, sharded=2, micro_batches=2)
    n = 4 * one.parameters
    found = timing.communication(one, framework)
    torch = framework == "torch"
    assert found["reduce-scatter"] == pytest.approx(2 * n / 2)
    assert found["all-gather"] == pytest.approx(2 * (2 if torch else 1) * n / 2)
    assert found["all-reduce"] == pytest.approx((1 if torch else 2) * 2 * 3 / 4 * n / 2)


def test_time_is_work_over_rates():
    names = ("c_attn", "c_proj", "c_fc", "mlp.c_proj", "head", "head, weight gradient")
    rates = Rates(products=dict.fromkeys(names, 1e9), copy=1e9, parts={})
    one = planned(preset("tiny"), length=64)
    flops = workloads.flops("train", one.model, one.rows, one.length)
    found = timing.seconds(one, "torch", rates)
    assert found["products"] + found["attention"] == pytest.approx(flops / 1e9)
    assert found["update"] == pytest.approx(timing.UPDATE_WORDS["torch"] * 4 * one.parameters / 1e9)
    wide = planned(preset("tiny"), length=64, batch_size=6, data_parallel=2)
    linked = timing.seconds(wide, "torch", rates, link=1e6)
    assert linked.pop("exchange") == pytest.approx(4 * one.parameters / 1e6)
    assert sum(linked.values()) == pytest.approx(sum(found.values()))


# The command


@pytest.mark.parametrize("devices", [1, 12, 64])
def test_every_arrangement_of_the_devices_is_planned(devices):
    found = arrangements(devices)
    assert (devices, 1) in found
    assert (1, devices) in found
    assert all(d * m == devices for d, m in found)
    assert len(set(found)) == len(found)


@pytest.mark.attack("processes")
def test_more_devices_than_there_are_is_refused_at_once():
    assert len(arrangements(MOST_DEVICES)) == 21
    with pytest.raises(ValueError, match="536870911 devices: expected 1048576 at most"):
        PlanOptions(devices=536_870_911)


def test_a_plan_is_shown_and_written(tmp_path, capsys):
    file = tmp_path / "plan.json"
    call = ["plan", "--preset", "gpt2-xl", "--devices", "64", "--link", "25", "--json", str(file)]
    assert main(call) == 0
    said = capsys.readouterr().out
    assert "1,557,611,200 parameters" in said
    found = json.loads(file.read_text())
    assert len(found["layouts"]) == 2 * 7
    assert all(row["step_s"] > row["seconds"]["exchange"] > 0 for row in found["layouts"])
    assert sum(row["chosen"] for row in found["activations"]) == 2


def test_the_record_holds_what_its_plans_say():
    """Figures in the record are of the formulas as they are now."""
    found = json.loads(rates.RECORD.read_text())
    assert len(found["sizes"]) == len(validation.SIZES)
    layouts = [(one["data_parallel"], one["sharded"]) for one in found["layouts"]]
    assert tuple(layouts) == validation.LAYOUTS
    for size in (*found["sizes"], *found["layouts"]):
        names = {"preset", "length", "batch_size", "data_parallel", "sharded"} & size.keys()
        one = validation.planned(RunSettings(**{name: size[name] for name in names}))
        tuned = {row["framework"]: row for row in size["ceilings"]}
        for row in size["rows"]:
            name, link = row["framework"], row.get("link_bytes_per_s")
            floor = row.get("floor_bytes", found["floors"][name])
            reached = validation.shared_rates(tuned[name], one.devices)
            assert row["planned"]["peak_bytes"] == floor + memory.memory(one, name).tensors
            spent = timing.seconds(one, name, reached, link)
            assert row["planned"]["step_s"] == pytest.approx(sum(spent.values()))
            assert row["errors"] == pytest.approx(
                validation.apart(row["planned"], row["measured"], floor)
            )
            assert abs(row["errors"]["peak"]) < 0.15
            # Where two processes share a core, they wait for each other, which no plan has.
            if one.devices <= found["environment"]["hardware"]["cores"]:
                assert abs(row["errors"]["step"]) < 0.30


SPEED = str(records.ROOT / "bench" / "results" / "speed-124m-cpu.json")


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (["--preset", "gpt4"], ["'gpt4'", "gpt2-xl"]),
        (["--framework", "mlx"], ["'mlx'", "jax"]),
        (["--devices", "0"], ["--devices", "0"]),
        (["--link", "-1"], ["--link", "-1"]),
        (["--devices", "3", "--sharded", "2"], ["--sharded", "2", "3"]),
        (["--batch-size", "9", "--devices", "2"], ["batch_size 9", "multiple of 2"]),
        (["--length", "129"], ["length 129", "128"]),
        (["--dtype", "bfloat16", "--ceilings", SPEED], ["float32", "bfloat16", "--measure"]),
        (["--device", "cuda", "--ceilings", SPEED], ["cpu", "cuda", "--ceilings"]),
        (["--ceilings", "/nowhere.json"], ["/nowhere.json", "--ceilings"]),
        (["--ceilings", __file__], ["test_planning.py", "--measure"]),
        (["--ceilings", SPEED, "--measure"], ["--ceilings", "--measure"]),
    ],
)
def test_a_wrong_call_is_refused_in_one_sentence(capsys, call, named):
    assert main(["plan", *call]) == 2
    said = capsys.readouterr().err
    assert said.startswith("twingrad: ")
    assert said.count("\n") == 1
    for word in named:
        assert word in said


@pytest.mark.parametrize(("present", "absent"), [("torch", "jax"), ("jax", "torch")])
def test_a_framework_to_measure_that_is_missing_is_refused_at_once(
    monkeypatch, capsys, present, absent
):
    def measure(*arguments):
        pytest.fail("something was measured")

    monkeypatch.setattr(rates, "_measure", measure)
    monkeypatch.setattr(frameworks, "installed", lambda name: name == present)
    assert main(["plan", "--preset", "tiny", "--measure"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"twingrad: {absent} is not installed: pip install")
    assert said.endswith(f"or plan for {present} alone: --framework {present}")


@pytest.mark.parametrize("unlike", [["--dtype", "bfloat16"], ["--device", "cuda"]])
def test_without_rates_a_plan_has_memory_and_exchange(capsys, tmp_path, unlike):
    path = tmp_path / "plan.json"
    call = ["plan", "--preset", "124m", "--devices", "2", *unlike, "--json", str(path)]
    assert main(call) == 0
    assert (
        f"no rates of {unlike[1] if '--dtype' in unlike else 'float32'}" in capsys.readouterr().out
    )
    for row in json.loads(path.read_text())["layouts"]:
        assert row["tensor_bytes"] > 0
        assert sum(row["exchange_bytes"].values()) > 0
        assert row["step_s"] is None


def test_a_record_of_the_benchmark_has_ceilings_too(capsys):
    assert main(["plan", "--preset", "124m", "--length", "256", "--ceilings", SPEED]) == 0
    assert "speed-124m-cpu.json" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["[" * 100_000, '{"sizes": [{"ceilings": []}]}', "[]", "3"])
def test_a_record_without_ceilings_is_refused_by_its_path(capsys, tmp_path, content):
    path = tmp_path / "record.json"
    path.write_text(content)
    assert main(["plan", "--preset", "124m", "--ceilings", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path} has no ceilings" in line


@pytest.mark.slow
@each_framework
def test_bandwidth_between_processes_is_measured(framework):
    if not frameworks.installed(framework):
        pytest.skip(f"{framework} is not installed")
    assert validation.bandwidth(framework, 2) > 1e6


@pytest.mark.slow
def test_processes_that_do_not_meet_are_no_figure(monkeypatch):
    if not frameworks.installed("torch"):
        pytest.skip("torch is not installed")
    monkeypatch.setattr(validation.launcher, "free_port", lambda: "no port")
    with pytest.raises(RuntimeError, match=r"2 processes of torch did not sum an array: .*no port"):
        validation.bandwidth("torch", 2)
