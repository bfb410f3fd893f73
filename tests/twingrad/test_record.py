"""Records of one side: what is in them, how they are checked, and what they are judged with."""

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest

from bench.harness import frameworks
from tests.helpers.running import refused

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)

import jax
import jax.numpy as jnp
import safetensors.numpy
import torch
from flax import nnx
from torch import nn

from twingrad import torch_probe, torch_sketch, torch_subject
from twingrad.diagnosis import pairs
from twingrad.diagnosis.hypotheses import sketches
from twingrad.diagnosis.hypotheses.rules import Rule
from twingrad.pair import Pair
from twingrad.record import against, codec, files, recorder
from twingrad.record.content import Content, Steps
from twingrad.record.recorded import Record

X = np.random.default_rng(0).normal(size=(6, 4))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.norm = nn.LayerNorm(8)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


class Port(nnx.Module):
    def __init__(self, epsilon=1e-5, zeros=False):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, epsilon=epsilon, rngs=rngs)
        self.last = nnx.Linear(8, 3, use_bias=True, rngs=rngs)
        self.unused = zeros

    def __call__(self, x):
        h = self.first(x) - (self.first.bias[...] if self.unused else 0)
        return self.last(jnp.tanh(self.norm(h)))


def _square(model, x):
    return (model(x) ** 2).mean()


def pair(**options):
    given = {"torch": Net, "jax": Port, "torch_loss": _square, "jax_loss": _square, "batch": [X]}
    return Pair(**(given | options))


def record(side, folder, given, **options):
    files.write(folder, recorder.record(given, side, **options), 1.0)
    return against.recorded(folder)


def judged(side, folder, given, **options):
    """The diagnosis of ``given`` with its ``side`` replaced by a record of it."""
    found = record(side, folder / f"of_{side}", given, **options)
    return pairs.diagnose(against.against(given, found, folder))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A record of PyTorch's side, which no test changes."""
    folder = tmp_path_factory.mktemp("records") / "whole"
    record("torch", folder, pair())
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of it."""
    folder = tmp_path / "rec"
    folder.mkdir()
    for name in (files.JSON, files.TENSORS):
        (folder / name).write_bytes((whole / name).read_bytes())
    return folder


def test_a_record_is_read_as_it_was_written(whole):
    tensors, again = codec.Tensors(), codec.Tensors()
    content = files.read(whole)
    encoded = codec.encode(content, tensors)
    assert codec.encode(codec.decode(Content, encoded, tensors.by_name), again) == encoded
    assert again.by_name.keys() == tensors.by_name.keys()
    assert list(content.runs) == ["float64 lifted", "float32"]
    first = content.runs["float64 lifted"].first
    assert first.calls.keys() == {key for _, key in first.events}
    assert [leaf.path for leaf in content.runs["float32"].leaves][:2] == [
        "first.weight",
        "first.bias",
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "complex64", "bool", "int8"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_arrays_keep_numbers_shape_and_dtype(dtype, shape):
    tensors = codec.Tensors()
    x = np.ones(shape, dtype) * (1 + 2j if "complex" in dtype else 1)
    steps = Steps(gradients=[{"w": x.astype(dtype)}], parameters=[], rule=None)
    read = codec.decode(Steps, codec.encode(steps, tensors), tensors.by_name)
    assert read.gradients[0]["w"].dtype == dtype
    np.testing.assert_array_equal(read.gradients[0]["w"], x.astype(dtype))


def test_a_number_of_numpys_own_is_a_number_again():
    """As settings of optimizers may be."""
    tensors = codec.Tensors()
    rule = Rule(rates=(np.float64(0.1), 0.2), max_norm=math.inf)
    assert codec.decode(Rule, codec.encode(rule, tensors), tensors.by_name) == rule


def test_a_lower_precision_is_kept_as_float32():
    tensors = codec.Tensors()
    x = np.asarray(jnp.ones(3, jnp.bfloat16) / 3)
    (name,) = codec.encode([x], tensors)
    assert tensors.by_name[name].dtype == np.float32
    np.testing.assert_array_equal(tensors.by_name[name], x.astype(np.float32))


def _damages():
    def text(change):
        return lambda f: (f / files.JSON).write_bytes(change((f / files.JSON).read_bytes()))

    def tensors(change):
        return lambda f: (f / files.TENSORS).write_bytes(change((f / files.TENSORS).read_bytes()))

    yield "edited", text(lambda b: b.replace(b'"train":false', b'"train":true'))
    yield "text cut off", text(lambda b: b[:-9])
    yield "text empty", text(lambda b: b"")
    yield "tensors cut off", tensors(lambda b: b[:-8])
    yield "tensors empty", tensors(lambda b: b"")
    yield "one bit", tensors(lambda b: b[:-1] + bytes([b[-1] ^ 1]))
    yield "header", tensors(lambda b: b"\xff" * 8 + b[8:])
    yield "no text", lambda f: (f / files.JSON).unlink()
    yield "no tensors", lambda f: (f / files.TENSORS).unlink()


@pytest.mark.parametrize("damage", [pytest.param(d, id=name) for name, d in _damages()])
def test_a_damaged_record_is_refused(copy, damage, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damage(copy)
    said = refused(capsys, "diagnose", "x.py", "--against", "rec")
    assert "rec is" in said
    assert "record it again" in said or "twingrad record" in said


def _sign(folder, body):
    """Write ``body`` as the record's text, and its digest with the tensors."""
    text = json.dumps(body).encode()
    tensors = safetensors.numpy.load_file(folder / files.TENSORS)
    metadata = {"record.json sha256": hashlib.sha256(text).hexdigest()}
    (folder / files.JSON).write_bytes(text)
    safetensors.numpy.save_file(tensors, folder / files.TENSORS, metadata)


def _forge(name):
    def of_run(change):
        return lambda body: change(body["record"]["runs"]["float64 lifted"])

    return {
        "version": lambda body: body.update(version=99),
        "format": lambda body: body.update(format="a song"),
        "no record": lambda body: body.pop("record"),
        "a field too many": lambda body: body["record"].update(code="print(1)"),
        "side": lambda body: body["record"].update(side="numpy"),
        "loss": of_run(lambda run: run["first"].update(loss="0.5")),
        "tensor": of_run(lambda run: run["tensors"].update({"first.weight": "absent"})),
        "shape": of_run(lambda run: run["leaves"][0].update(shape=[2, 2])),
        "event": of_run(lambda run: run["first"]["events"].insert(0, ["leave", ["x", 0]])),
        "order": of_run(lambda run: run["first"]["events"].reverse()),
        "gradients": of_run(lambda run: run["first"]["calls"][0][1].update(input_gradients=[])),
    }[name]


FORGERIES = ("version", "format", "no record", "a field too many", "side", "loss", "tensor",
             "shape", "event", "order", "gradients")  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_record_is_refused(copy, name):
    body = json.loads((copy / files.JSON).read_text())
    _sign(copy, body)
    files.read(copy)  # signed anew and otherwise whole
    _forge(name)(body)
    _sign(copy, body)
    with pytest.raises(ValueError, match="record it again"):
        files.read(copy)


def test_a_record_that_cannot_be_written_leaves_nothing(whole, tmp_path, monkeypatch):
    content = files.read(whole)
    with pytest.raises(ValueError, match="does not exist; create it"):
        files.write(tmp_path / "a" / "b", content, 1.0)
    with pytest.raises(ValueError, match=r"GiB, and the limit is .* --only"):
        files.write(tmp_path / "a", content, 1e-9)
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        files.write(tmp_path / "there", content, 1.0)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(ValueError, match="No space left"):
        files.write(tmp_path / "a", content, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_a_right_port_is_equal_from_a_record_of_either_side(tmp_path, side):
    optimizers = {"torch_optimizer": lambda p: torch.optim.SGD(p, 0.1), "jax_optimizer": _sgd()}
    found = judged(side, tmp_path, pair(**optimizers))
    assert found.ok
    assert found.notes == []


def _sgd():
    import optax

    return optax.sgd(0.1)


@pytest.mark.slow("jax")
@pytest.mark.parametrize("side", ["torch", "jax"])
def test_updates_of_a_parameter_without_axes_are_compared(tmp_path, side):
    class Scaled(Net):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.5))

        def forward(self, x):
            return super().forward(x) * self.scale

    class ScaledPort(Port):
        def __init__(self):
            super().__init__()
            self.scale = nnx.Param(jnp.zeros(()))

        def __call__(self, x):
            return super().__call__(x) * self.scale[...]

    optimizers = {"torch_optimizer": lambda p: torch.optim.SGD(p, 0.2), "jax_optimizer": _sgd()}
    found = judged(side, tmp_path, pair(torch=Scaled, jax=ScaledPort, **optimizers))
    assert [(f.stage, f.where.partition(",")[0]) for f in found] == [("update", "scale")]


@pytest.mark.slow("jax")
@pytest.mark.parametrize("side", ["torch", "jax"])
def test_a_mistake_is_found_from_a_record_of_either_side(tmp_path, side):
    found = judged(side, tmp_path, pair(jax=lambda: Port(epsilon=1e-3)))
    assert [(f.stage, f.where) for f in found] == [("forward", "norm")]
    assert found[0].cause is not None
    assert "epsilon 0.001" in found[0].cause


@pytest.mark.slow
def test_the_bias_of_a_recorded_jax_model_is_not_left_at_zero(tmp_path):
    """A port that takes its bias off again is right as long as the bias is zero."""
    assert not judged("jax", tmp_path, pair(jax=lambda: Port(zeros=True))).ok


def test_numbers_of_another_record_are_taken_as_they_are(tmp_path, whole):
    given = pair()
    torch_numbers = against.recorded(whole).content.runs["float64 lifted"].tensors
    numbers = against.numbers(given, against.recorded(whole), whole)
    of_jax = record("jax", tmp_path / "of_jax", given, like=numbers).content.runs["float64 lifted"]
    np.testing.assert_array_equal(of_jax.tensors["first.kernel"].T, torch_numbers["first.weight"])
    np.testing.assert_array_equal(of_jax.tensors["last.bias"], torch_numbers["last.bias"])


@pytest.mark.slow("torch")
@pytest.mark.parametrize("side", ["torch", "jax"])
def test_only_some_modules_are_recorded_and_the_rest_agrees_as_a_whole(tmp_path, side):
    given = pair(jax=lambda: Port(epsilon=1e-3))
    found = record(side, tmp_path / "rec", given, only="^norm$")
    first = found.content.runs["float64 lifted"].first
    assert [key.path for key in first.calls] == ["", "norm"]
    assert {key.path for key in first.left_out} == {"first", "last"}
    findings = pairs.diagnose(against.against(given, found, tmp_path))
    assert [(f.stage, f.where) for f in findings] == [("forward", "norm")]
    right = record(side, tmp_path / "right", pair(), only="^last$")
    assert pairs.diagnose(against.against(pair(), right, tmp_path)).ok


def test_a_record_over_the_limit_is_refused_before_it_is_made(tmp_path):
    with pytest.raises(ValueError, match=r"would have about .* GiB, .* --only REGEX"):
        recorder.record(pair(), "torch", most_gib=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": True}, "train is True in the pair and False"),
        ({"copy": False}, "copy is False in the pair and True"),
        ({"torch_loss": None, "jax_loss": None}, "with a loss"),
        ({"batch": [X + 1]}, "array 0 of the batch"),
        ({"batch": [X, X]}, "2 arrays in the pair and 1"),
        ({"jax": None}, "the pair has no jax"),
    ],
)
def test_a_pair_that_says_otherwise_than_the_record_is_refused(whole, options, words):
    with pytest.raises(ValueError, match=words):
        against.against(pair(**options), Record(files.read(whole)), whole)


def test_one_side_alone_takes_the_batch_in_its_own_layout(whole):
    one = Pair(jax=Port, jax_loss=_square, batch=[X.T])
    put = against.against(one, against.recorded(whole), whole)
    np.testing.assert_array_equal(put.batch[0], X)
    np.testing.assert_array_equal(put.jax_batch[0], X.T)
    other = dataclasses.replace(one, batch=[X.T + 1e-9])
    with pytest.raises(ValueError, match="holds other numbers"):
        against.against(other, against.recorded(whole), whole)


def test_a_pair_with_one_side_says_which_it_lacks():
    with pytest.raises(ValueError, match="neither torch nor jax"):
        Pair(batch=[X])
    with pytest.raises(ValueError, match=r"the pair has no torch: .* --against REC"):
        pairs.diagnose(Pair(jax=Port, jax_loss=_square, batch=[X]))
    with pytest.raises(ValueError, match=r"the pair has no jax: .*Pair\(jax="):
        recorder.record(Pair(torch=Net, torch_loss=_square, batch=[X]), "jax")


def test_a_model_that_draws_at_random_is_not_recorded():
    class Noisy(Net):
        def forward(self, x):
            return super().forward(x) + torch.rand(())

    with pytest.raises(ValueError, match="the torch model is not deterministic"):
        recorder.record(pair(torch=Noisy), "torch")


@pytest.mark.slow
def test_casts_by_design_are_recorded_with_and_without_them(tmp_path):
    class Cast(Net):
        def forward(self, x):
            return self.last(torch.tanh(self.norm(self.first(x)).float()).to(x.dtype))

    given = pair(torch=Cast)
    found = record("torch", tmp_path / "rec", given)
    assert list(found.content.runs) == ["float64 lifted", "float64", "float32"]
    findings = pairs.diagnose(against.against(given, found, tmp_path))
    assert findings.ok
    assert ["PyTorch computes in float32 by design" in n.note for n in findings.notes] == [True]
    assert [n.note for n in findings.notes] == [n.note for n in pairs.diagnose(given).notes]


def test_the_wrong_calls_of_record_are_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "--side" in refused(capsys, "record", "x.py", "--out", "rec")
    assert "torch, jax" in refused(capsys, "record", "x.py", "--side", "tpu", "--out", "rec")
    call = ("record", "x.py", "--side", "torch", "--out", "rec")
    assert "no pair file" in refused(capsys, *call)
    assert "no regular expression" in refused(capsys, *call, "--only", "(")
    assert "limit 0" in refused(capsys, *call, "--limit", "0")
    (tmp_path / "rec").mkdir()
    assert "exists already" in refused(capsys, *call)
    assert "is no record" in refused(capsys, "compare", "x.py", "--against", "absent")


@pytest.mark.slow
def test_jax_has_the_same_gradients_at_every_call_as_pytorch(tmp_path):
    given, before = pair(), jax.config.read("jax_enable_x64")
    torch_run = recorder.record(given, "torch").runs["float64 lifted"]
    like = against.numbers(given, record("torch", tmp_path / "rec", given), tmp_path / "rec")
    jax_run = recorder.record(given, "jax", like=like).runs["float64 lifted"]
    assert jax_run.first.events == torch_run.first.events
    for key, call in torch_run.first.calls.items():
        other = jax_run.first.calls[key]
        for name in ("inputs", "outputs", "input_gradients", "output_gradients"):
            for x, y in zip(getattr(call, name), getattr(other, name), strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-14)
    assert jax.config.read("jax_enable_x64") is before


class Doubled(Net):
    """Its own lines, which no hypothesis of numbers alone explains."""

    def forward(self, x):
        return self.last(torch.roll(torch.logcumsumexp(self.norm(self.first(x)), -1), 1, -1))


class DoubledPort(Port):
    def __call__(self, x):
        sums = jax.lax.cumlogsumexp(self.norm(self.first(x)), 1)
        return self.last(jnp.roll(sums, 2, -1))


@pytest.mark.slow
def test_what_is_found_by_running_a_module_again_is_kept_in_a_record(tmp_path):
    given = pair(torch=Doubled, jax=DoubledPort)
    (here,) = pairs.diagnose(given)
    found = record("torch", tmp_path / "rec", given)
    (there,) = pairs.diagnose(against.against(given, found, tmp_path))
    assert here.cause is not None
    assert (there.where, there.cause, there.size) == (here.where, here.cause, here.size)


def test_a_record_without_trials_says_what_was_not_tried(tmp_path):
    given = pair(torch=Doubled, jax=DoubledPort)
    content = recorder.record(given, "torch")
    run = content.runs["float64 lifted"]
    bare = dataclasses.replace(run, torch=dataclasses.replace(run.torch, scenes=[]))
    runs = {**content.runs, "float64 lifted": bare}
    found = Record(dataclasses.replace(content, runs=runs))
    findings = pairs.diagnose(against.against(given, found, tmp_path))
    assert findings[0].where == "model"
    assert [note.note for note in findings.notes] == [pairs.NOT_TRIED]


def test_trials_take_no_longer_than_they_may():
    subject = torch_subject.Subject(torch_probe.prepare(Net(), "float64", False), "float64")
    seen = subject.observe(_square, [X])
    sketched = torch_sketch.scenes(subject.model, _square, [X], "float64", False, seen, 0.0)
    assert len(sketched) <= 2  # the first module's, forward and backward


@pytest.mark.parametrize("shape", [(), (7,), (40, 50)])
def test_a_sketch_tells_tensors_apart(shape):
    x = np.asarray(np.random.default_rng(0).normal(size=shape))
    y = x * (1 + 1e-6 * np.asarray(np.random.default_rng(1).normal(size=shape)))
    assert sketches.is_same(sketches.sketch(x), x * (1 + 1e-13), 1e-9)
    assert not sketches.is_same(sketches.sketch(x), y, 1e-9)
