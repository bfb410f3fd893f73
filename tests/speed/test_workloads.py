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
