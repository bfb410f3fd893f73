"""Workloads, their stages and their arithmetic."""

import math

from bench.speed import contestants, workloads
from shared import params
from shared.config import preset


def test_flops_of_124m_are_those_computed_by_hand():
    # 12 layers of 768: 85M parameters in matrices, 38.6M in the head, 12 layers of attention.
    matrices, head, attention = 12 * 12 * 768**2, 50257 * 768, 4 * 12 * 768 * 1024
    forward = 2 * (84_934_656 + 38_597_376) + 37_748_736
    assert (matrices, head, attention) == (84_934_656, 38_597_376, 37_748_736)
    config = preset("124m")
    assert workloads.flops_a_token(config, 1024) == forward == 284_812_800
    assert workloads.flops("forward", config, 2, 1024) == forward * 2048
    for workload in ("forward-backward", "train"):
        assert workloads.flops(workload, config, 2, 1024) == 3 * forward * 2048


def test_decoding_reads_every_matrix():
    config = preset("124m")
    shapes = params.gpt2_shapes(config)
    matrices = [s for n, s in shapes.items() if len(s) == 2 and "wpe" not in n]
    assert workloads.decode_bytes(config, 2) == 2 * sum(math.prod(shape) for shape in matrices)


def test_on_cuda_each_kind_of_pass_has_processes_of_its_own():
    chosen = contestants.choose(["torch", "jax"], "cuda", [])
    names = ("train", "forward-backward", "forward", "decode")
    planned = workloads.stages(names, "124m", "cuda", chosen, None, None)
    assert [stage.workloads for stage in planned] == [
        ("train",),
        ("forward-backward", "forward"),
        ("decode",),
    ]
    assert [stage.rows for stage in planned] == [(), (), workloads.ROWS]
    [together] = workloads.stages(names, "tiny", "cpu", chosen, None, None)
    assert together.workloads == names


def test_pytorchs_small_programs_are_one_graph_on_cuda_alone():
    chosen = tuple(contestants.choose(["torch", "jax"], "cuda", []))
    for device in ("cpu", "cuda"):
        small = {one.name: one.settings for one in workloads.small_ones(chosen, device)}
        assert small["torch-tuned"].graphs is (device == "cuda")
        assert not any(s.graphs for name, s in small.items() if name != "torch-tuned")


def test_memory_is_that_of_the_dtype_and_of_what_exists_at_once():
    chosen = {one.name: one for one in contestants.choose(["torch", "lean"], "cuda", [])}
    [stage] = workloads.stages(("train",), "124m", "cuda", list(chosen.values()), None, None)
    needs = {name: workloads.memory_bytes(stage, one, "bfloat16") for name, one in chosen.items()}
    assert needs["torch-lean"] < needs["torch-tuned"] < needs["torch-idiomatic"]
    tuned = chosen["torch-tuned"]
    assert needs["torch-tuned"] < workloads.memory_bytes(stage, tuned, "float32")


def test_the_plan_for_cuda_puts_training_first_at_full_length():
    chosen = contestants.choose(["torch", "jax"], "cuda", [])
    first, *_ = workloads.stages(workloads.DEFAULT["cuda"], "124m", "cuda", chosen, None, None)
    assert first.workloads[0] == "train"
    assert (first.batch_size, first.length) == workloads.LARGE["cuda"] == (32, 1024)
    assert first.config.drop_rate == 0.0


def test_growth_changes_one_size_at_a_time():
    chosen = contestants.choose(["torch", "jax"], "cpu", [])
    planned = workloads.stages(("growth",), "small", "cpu", chosen, None, None)
    for axis, sizes in workloads.GROWTH.items():
        own = [stage for stage in planned if stage.axis == axis]
        assert [stage.size for stage in own] == list(sizes)
        varied = {
            "length": {stage.length for stage in own},
            "batch_size": {stage.batch_size for stage in own},
            "n_layers": {stage.config.n_layers for stage in own},
        }
        assert varied.pop(axis) == set(sizes)
        assert all(len(values) == 1 for values in varied.values())
