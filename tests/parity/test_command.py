"""``twingrad compare``: the files it refuses, and what it prints and writes."""

import json
import signal
import time
from contextlib import nullcontext

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bench.cli.main import main
from bench.harness import frameworks
from bench.harness.ending import BudgetEnded, interruptible
from bench.parity import summary, tasks
from bench.parity.places import Here
from bench.parity.tasks import TaskResult
from shared import params, transformers_io
from shared.config import GPTConfig
from tests.helpers.commands import equal, refused
from twingrad.outcome import Outcome

both = pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="needs both frameworks"
)
SMALL = GPTConfig(vocab_size=31, context_length=8, emb_dim=8, n_heads=2, n_layers=1, qkv_bias=True)


@pytest.fixture
def folder(tmp_path):
    """A good export, to be damaged."""
    transformers_io.save(tmp_path / "model", SMALL, params.init_gpt2(SMALL, spread=0.1))
    return tmp_path / "model"


def _damage(folder, kind: str) -> None:
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "not safetensors":
        weights.write_bytes(b"PK\x03\x04 a pickle in a zip")
    elif kind == "missing tensor":
        del tensors["transformer.h.0.ln_1.bias"]
        save_file(tensors, weights)
    elif kind == "extra tensor":
        save_file(tensors | {"transformer.h.7.ln_1.bias": np.zeros(8, np.float32)}, weights)
    elif kind == "wrong shape":
        save_file(tensors | {"transformer.ln_f.bias": np.zeros(9, np.float32)}, weights)
    elif kind == "heads":
        config = json.loads((folder / "config.json").read_text()) | {"n_head": 3}
        (folder / "config.json").write_text(json.dumps(config))
    elif kind == "no config":
        (folder / "config.json").unlink()
    elif kind == "no weights":
        weights.unlink()


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("truncated", ["model.safetensors", "again"]),
        ("not safetensors", ["model.safetensors", "again"]),
        ("missing tensor", ["'h.0.ln_1.bias'", "missing"]),
        ("extra tensor", ["'h.7.ln_1.bias'", "unknown"]),
        ("wrong shape", ["'ln_f.bias'", "(9,)", "(8,)"]),
        ("heads", ["8", "3", "multiple"]),
        ("no config", ["config.json"]),
        ("no weights", ["model.safetensors", "does not exist"]),
    ],
)
@both
def test_damaged_weights_are_refused_and_nothing_is_written(capsys, tmp_path, folder, kind, named):
    _damage(folder, kind)
    out = tmp_path / "out.json"
    said = refused(capsys, "compare", "gpt2", "--weights", str(folder), "--json", str(out))
    for word in named:
        assert word in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@both
def test_a_single_weights_file_needs_a_preset_and_a_folder_refuses_one(capsys, folder):
    file = str(folder / "model.safetensors")
    assert "--preset" in refused(capsys, "compare", "gpt2", "--weights", file)
    said = refused(capsys, "compare", "gpt2", "--weights", str(folder), "--preset", "tiny")
    assert "config.json" in said


@pytest.mark.parametrize(
    ("tokens", "named"),
    [
        (np.zeros((2, 5), np.float32), ["float32", "integers"]),
        (np.zeros(5, np.int64), ["(5,)", "[B, T+1]"]),
        (np.zeros((2, 1), np.int64), ["(2, 1)"]),
        (np.full((2, 5), 31, np.int64), ["31", "0 to 30"]),
        (np.full((2, 5), -1, np.int64), ["-1"]),
        (np.zeros((1, 10), np.int64), ["9 tokens", "context length, 8"]),
    ],
)
@both
def test_wrong_tokens_are_refused(capsys, tmp_path, folder, tokens, named):
    path = tmp_path / "tokens.npy"
    np.save(path, tokens)
    said = refused(capsys, "compare", "gpt2", "--weights", str(folder), "--tokens", str(path))
    for word in named:
        assert word in said


@both
def test_compare_writes_what_its_contract_says(capsys, tmp_path, folder):
    tokens = np.random.default_rng(0).integers(31, size=(2, 7))
    np.save(tmp_path / "t.npy", tokens)
    report, saved = tmp_path / "r.json", tmp_path / "s.safetensors"
    call = ["gpt2", "--weights", str(folder), "--tokens", str(tmp_path / "t.npy")]
    call += ["--dtype", "float64", "--device", "cpu", "--json", str(report), "--save", str(saved)]
    equal(capsys, *call)
    written = json.loads(report.read_text())
    assert written["ok"] is True
    assert {"versions", "hardware", "device"} <= set(written["environment"])
    (program,) = written["programs"]
    assert (program["program"], program["dtype"], program["device"]) == ("gpt2", "float64", "cpu")
    assert program["settings"]["jax"]["enable_x64"] == "True"
    assert program["settings"]["torch"]["float32_matmul_precision"] == "highest"
    assert [gate["gate"] for gate in program["gates"]] == ["float64", "optimizer", "trajectory"]
    fields = {"name", "kind", "torch_error_u", "jax_error_u", "mutual_error_u", "limit_u", "ok"}
    kinds = set()
    for gate in program["gates"]:
        assert gate["ok"]
        for tensor in gate["tensors"]:
            assert fields <= set(tensor)
            assert max(tensor["torch_error_u"], tensor["jax_error_u"]) <= tensor["limit_u"]
            kinds.add(tensor["kind"])
    assert kinds == {"activation", "loss", "gradient", "update"}
    tensors = load_file(saved)
    shapes = params.gpt2_shapes(SMALL)
    for name in frameworks.NAMES:
        assert tensors[f"{name}/logits"].shape == (2, 6, 31)
        assert tensors[f"{name}/loss"].shape == ()
        for parameter, shape in shapes.items():
            assert tensors[f"{name}/grad/{parameter}"].shape == shape
            assert tensors[f"{name}/grad/{parameter}"].dtype == np.float64
    assert len(tensors) == 2 * (2 + len(shapes))


@both
def test_sigmoid_bce_prints_the_gradients_of_its_chapter(capsys):
    printed = equal(capsys, "sigmoid-bce", "--dtype", "float64", "--device", "cpu")
    assert printed.count("-0.0898") >= 4
    assert printed.count("-0.0817") >= 4


@both
def test_a_failed_gate_ends_in_status_1_and_names_the_place(capsys, monkeypatch):
    module = frameworks.one("jax").simple_net
    right = module.loss_fn

    def wrong(model, x, y):
        loss, output = right(model, x, y)
        return loss * 1.001, output

    monkeypatch.setattr(module, "loss_fn", wrong)
    assert main(["compare", "simple-net", "--dtype", "float64", "--device", "cpu"]) == 1
    printed = capsys.readouterr().out
    assert "DIFFERS" in printed
    assert "Not equal" in printed
    assert "first diverge" in printed


@both
def test_the_tour_alone_is_compared_row_by_row(capsys):
    printed = equal(capsys, "tensors")
    assert "differs, as documented" in printed
    assert "every gate holds" in printed


@pytest.mark.slow
@both
def test_u_and_limit_are_defined_under_the_tables(capsys):
    printed = equal(capsys, "sigmoid-bce", "--dtype", "float64", "--device", "cpu")
    *lines, last = printed.splitlines()
    text = " ".join(" ".join(lines).split())
    assert "u: one unit of rounding error of the dtype, 2^-24 for float32; limit: " in text
    assert last.startswith("Equal: 1 program")


@pytest.fixture
def cut_off(monkeypatch):
    """Has a comparison of every program be ended after the tensor tour, in this way."""

    def end(ending: BaseException) -> None:
        def some(planned, pair, place, say):
            outcome = Outcome(program="tensors", preset=None, dtype="default", device="default")
            yield TaskResult(title="tensors", outcomes=[outcome])
            raise ending

        monkeypatch.setattr(tasks, "place_for", lambda options: nullcontext(Here()))
        monkeypatch.setattr(tasks, "run_all", some)

    return end


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "Interrupted: what was judged until then is kept."),
        (BudgetEnded(), 1, "The budget ended: what was judged until then is kept."),
    ],
)
@both
def test_whatever_ends_a_comparison_leaves_what_was_judged(
    capsys, tmp_path, cut_off, ending, status, said
):
    cut_off(ending)
    files = [str(tmp_path / name) for name in ("out.json", "page.html")]
    call = ["compare", "--device", "cpu", "--json", files[0], "--html", files[1]]
    assert main(call) == status
    assert said in capsys.readouterr().out
    content = json.loads((tmp_path / "out.json").read_text())
    assert (content["ok"], content["interrupted"]) == (False, True)
    assert [program["program"] for program in content["programs"]] == ["tensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@both
def test_a_comparison_that_is_complete_says_nothing_of_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "place_for", lambda options: nullcontext(Here()))
    monkeypatch.setattr(tasks, "run_all", lambda *_: iter([TaskResult(title="", outcomes=[])]))
    monkeypatch.setattr(summary, "show", lambda *_: None)
    out = tmp_path / "out.json"
    assert main(["compare", "--device", "cpu", "--json", str(out)]) == 0
    assert "interrupted" not in json.loads(out.read_text())


def test_a_budget_that_is_no_time_is_refused(capsys):
    assert "'soon'" in refused(capsys, "compare", "--device", "cpu", "--budget", "soon")


def test_sigterm_and_the_end_of_a_budget_are_raised_where_the_call_is():
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(BudgetEnded), interruptible(0.05):
        time.sleep(5)
    # Afterwards both are as before.
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
