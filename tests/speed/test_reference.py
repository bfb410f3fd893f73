"""The reference that contestants are judged by, and its judge."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bench.harness import frameworks, programs
from bench.speed import reference, workloads
from bench.speed.contestants import alone
from bench.speed.messages import ComputeReference
from bench.speed.reference import Judge, ReferenceRequest, parity_check
from bench.speed.scheduler import WorkerHandle
from shared import data, params
from shared.config import AdamWConfig, preset


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """The reference of SimpleNet, by hand: the folder, losses, and gradients."""
    folder = tmp_path_factory.mktemp("reference")
    program = programs.make("simple-net", steps=2)
    request = ReferenceRequest(
        framework="",
        program="simple-net",
        config=preset("tiny"),
        optimizer=workloads.SGD,
        dtype="float32",
        batches=tuple(program.batches[:2]),
    )
    reference.compute(request, program.params, folder)
    content = json.loads((folder / "reference.json").read_text())
    # As if gradients had been clipped to half.
    (folder / "reference.json").write_text(json.dumps(content | {"clip": 0.5}))
    return folder, content["losses"], load_file(folder / "gradients.safetensors")


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
    judge = Judge(folder, "float32")
    rows = judge.gradients(_scaled(gradients, factor), clipped)
    assert len(rows) == len(gradients)
    assert parity_check(rows).ok is ok


def test_a_gradient_that_is_missing_or_extra(judged):
    folder, _, gradients = judged
    judge = Judge(folder, "float32")
    extra = gradients | {"a peer's own": np.ones(3)}
    assert parity_check(judge.gradients(extra, False)).ok
    name, *_ = gradients
    fewer = {other: value for other, value in gradients.items() if other != name}
    found = parity_check(judge.gradients(fewer, False))
    assert not found.ok
    assert found.worst == name


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_parity_check_without_a_finite_error_can_be_written_down(judged, broken):
    folder, losses, _ = judged
    found = parity_check(Judge(folder, "float32").losses([broken, losses[1]]))
    assert not found.ok
    assert found.worst == "loss"
    json.dumps(asdict(found), allow_nan=False)


def test_the_loss_after_a_step_is_judged_too(judged):
    folder, (first, second), _ = judged
    judge = Judge(folder, "float32")
    assert parity_check(judge.losses([first, second])).ok
    found = parity_check(judge.losses([first, first]))
    assert not found.ok
    assert found.worst == "loss after a step"


def test_one_other_token_is_refused(tmp_path):
    (tmp_path / "reference.json").write_text(json.dumps({"tokens": [[1, 2], [3, 4]]}))
    judge = Judge(tmp_path, "float32")
    assert parity_check(judge.tokens(np.array([[1, 2], [3, 4]]))).ok
    assert not parity_check(judge.tokens(np.array([[1, 2], [3, 5]]))).ok


def test_the_references_gradients_are_those_before_clipping(tmp_path):
    framework = next(name for name in frameworks.NAMES if frameworks.installed(name))
    config = preset("tiny")
    values = params.init_gpt2(config, 0, programs.SPREAD)
    batches = [data.split_tokens(data.token_batch(config, 2, 8, seed)) for seed in range(2)]
    request = ReferenceRequest(
        framework=framework,
        program="gpt2",
        config=config,
        optimizer=AdamWConfig(max_grad_norm=0.1, warmup_steps=1, total_steps=10),
        dtype="float32",
        batches=tuple(batches),
    )
    save_file(values, tmp_path / "params")
    worker = WorkerHandle(contestant=alone(framework))
    try:
        worker.start(tmp_path)
        worker.ask(ComputeReference(request, str(tmp_path / "params"), str(tmp_path)), 60.0)
    finally:
        worker.end()
    content = json.loads((tmp_path / "reference.json").read_text())
    gradients = load_file(tmp_path / "gradients.safetensors")
    assert gradients.keys() == values.keys()
    norm = math.sqrt(sum(float((value**2).sum()) for value in gradients.values()))
    assert norm > 0.1
    assert content["clip"] == pytest.approx(0.1 / norm, rel=1e-9)
