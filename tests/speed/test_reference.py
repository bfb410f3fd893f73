"""The reference that contestants are judged by, and its judge."""

import json
import math
from dataclasses import asdict, replace

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


@pytest.fixture
def rounded(tmp_path):
    """A judge of bfloat16 by logits of two rows, whose tokens are 0, 1 and 2, 3; the logits."""
    logits = np.zeros((2, 2, 5), np.float32)
    for row, tokens in enumerate([[0, 1], [2, 3]]):
        logits[row, range(2), tokens] = 4.0
    save_file({"logits": logits}, tmp_path / "logits.safetensors")
    content = {"tokens": [[0, 1], [2, 3]], "owed_logits": 1e-3}
    (tmp_path / "reference.json").write_text(json.dumps(content))

    def judge(**changes: float) -> Judge:
        for place, value in changes.items():
            row, position, token = map(int, place.split("_")[1:])
            logits[row, position, token] = value
        save_file({"logits": logits}, tmp_path / "logits.safetensors")
        return Judge(tmp_path, "bfloat16")

    return judge


def test_in_bfloat16_a_token_that_is_nearly_the_best_is_right(rounded):
    nearly, tokens = rounded(at_0_0_4=3.99), np.array([[4, 0], [2, 3]])
    found = parity_check(nearly.tokens(tokens))
    assert found.ok
    # Nothing is said of what follows it, since the reference went on with another text.
    assert found.worst == "logits of 3 of 4 tokens"
    assert 0 < found.error_u < found.limit_u


def test_in_bfloat16_a_token_that_is_not_nearly_the_best_is_refused(rounded):
    judge, tokens = rounded(at_1_1_0=3.5), np.array([[0, 1], [2, 0]])
    assert not parity_check(judge.tokens(tokens)).ok
    assert not parity_check(judge.tokens(np.array([[3, 1], [2, 3]]))).ok


def test_the_same_tokens_are_right_in_every_dtype(rounded):
    found = parity_check(rounded().tokens(np.array([[0, 1], [2, 3]])))
    assert found.ok
    assert (found.worst, found.error_u) == ("logits of 4 of 4 tokens", 0.0)


def _request(framework: str, **changes) -> tuple[ReferenceRequest, params.Params]:
    config = replace(
        preset("tiny"), vocab_size=61, emb_dim=24, n_heads=2, n_layers=1, drop_rate=0.0
    )
    drawn = (data.token_batch(config, 6, 8, seed) for seed in range(2))
    request = ReferenceRequest(
        framework=framework,
        program="gpt2",
        config=config,
        optimizer=AdamWConfig(warmup_steps=1, total_steps=10),
        dtype="bfloat16",
        batches=tuple(map(data.split_tokens, drawn)),
    )
    return replace(request, **changes), params.init_gpt2(config, 0, programs.SPREAD)


@pytest.mark.slow("jax")
def test_a_reference_in_parts_of_a_batch_is_that_of_the_whole_batch(framework, monkeypatch):
    request, values = _request(framework.name)
    parts = reference._gpt2(request, values, "float64")
    monkeypatch.setattr(reference, "MICRO_BATCH", 6)
    whole = reference._gpt2(request, values, "float64")
    assert parts.losses == pytest.approx(whole.losses, rel=1e-13)
    for name, value in whole.gradients.items():
        np.testing.assert_allclose(parts.gradients[name], value, rtol=0, atol=1e-14, err_msg=name)


@pytest.mark.parametrize(("batch_size", "parts"), [(1, 1), (4, 1), (6, 2), (7, 7), (8, 2), (32, 8)])
def test_no_part_of_a_batch_is_larger_than_four(batch_size, parts):
    assert reference._micro_batches(batch_size) == parts


@pytest.mark.slow("jax")
def test_a_device_that_computes_something_else_is_refused(framework, monkeypatch):
    reference.check_device(framework.name, "cpu")
    results = reference._gpt2

    def planted(request, values, dtype):
        found = results(request, values, dtype)
        if request.device == "cuda":
            found.gradients["h.1.mlp.c_fc.weight"][0, 0] += 1e-9
        return found

    monkeypatch.setattr(reference, "_gpt2", planted)
    configure = framework.runtime.configure
    monkeypatch.setattr(
        framework.runtime, "configure", lambda dtype, device: configure(dtype, "cpu")
    )
    said = f"{framework.name} on cuda computes other float64 values than on a CPU: .*c_fc.weight"
    with pytest.raises(ValueError, match=said):
        reference.check_device(framework.name, "cuda")


def test_requests_for_other_numbers_have_other_names():
    request, _ = _request("torch")
    other = tuple(map(data.split_tokens, [data.token_batch(request.config, 6, 8, 2)] * 2))
    changed = (
        request,
        replace(request, dtype="float32"),
        replace(request, device="cuda"),
        replace(request, batches=other),
        replace(request, batches=None, prompts=other[0][0]),
    )
    assert len({one.digest for one in changed}) == len(changed)
    assert _request("torch")[0].digest == request.digest


@pytest.mark.slow
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
