"""Ceilings: matrix products, copies and other parts of a step, each alone."""

import numpy as np
import pytest

from bench.harness import frameworks
from bench.speed import ceilings, derivation, workloads
from bench.speed.messages import MeasureCeilings
from shared.config import preset

each_framework = pytest.mark.parametrize("framework", frameworks.NAMES)


@pytest.mark.parametrize("name", ["tiny", "124m"])
def test_the_ceilings_products_are_those_of_a_forward_pass(name):
    config = preset(name)
    cost = {n: 2 * np.prod(s, dtype=float) for n, s in ceilings.shapes(config, 100).items()}
    assert cost.pop("head, weight gradient") == cost["head"]
    head = cost.pop("head")
    attention = 4 * config.n_layers * config.emb_dim * 64
    whole = config.n_layers * sum(cost.values()) + head + 100 * attention
    assert whole == 100 * workloads.flops_a_token(config, 64)


@pytest.mark.slow("jax")
@each_framework
def test_ceilings_are_measured_in_a_process_of_their_own(framework):
    if not frameworks.installed(framework):
        pytest.skip(f"{framework} is not installed")
    request = MeasureCeilings(
        framework=framework,
        config=preset("tiny"),
        batch_size=2,
        length=8,
        dtype="float32",
        device="cpu",
        fast=True,
    )
    measured = ceilings.measure_in_process(request, 60.0)
    names = [product.name for product in measured.products]
    assert names == list(ceilings.shapes(preset("tiny"), 16))
    rates = [product.flops_per_s for product in measured.products]
    assert min(rates) > 0
    assert measured.copy_bytes_per_s > 0
    parts = {part.name: part.elements_per_s for part in measured.parts}
    assert {"attention", "matched dropout", "GELU", "loss"} < set(parts)
    assert min(parts.values()) > 0
    assert derivation.best([measured]) == max(rates)
    assert derivation.best([]) == 0
