"""Forward passes, gradients and decoding are timed, judged and recorded for both frameworks."""

import importlib.util
import json

import pytest

from bench.cli.main import main
from bench.harness import frameworks

pytestmark = pytest.mark.slow
if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("the contestants are of both frameworks", allow_module_level=True)

SIZE = ("--device", "cpu", "--preset", "tiny", "--batch-size", "2", "--length", "16")
OURS = ("jax-tuned", "torch-tuned", "jax-idiomatic", "torch-idiomatic")
WORKLOADS = ("forward", "forward-backward", "decode")


def _bench(path, contestants, *words):
    """Time contestants, and have the record checked."""
    chosen = ("--contestants", ",".join(contestants), "--samples", "2")
    chosen += ("--starts", "1", "--without-ceilings")
    assert main(["bench", *SIZE, *chosen, *words, "--json", str(path)]) == 0
    assert main(["bench", "--check", str(path)]) == 0


def test_a_model_is_timed_forwards_backwards_and_decoding(tmp_path, capsys):
    path = tmp_path / "speed.json"
    peers = ["flax-reference"]
    peers += ["hf"] if importlib.util.find_spec("transformers") else []
    _bench(path, [*OURS, *peers], "--workload", *WORKLOADS)
    rows = json.loads(path.read_text())["results"]
    found = {(row["workload"], row["contestant"]) for row in rows}
    wanted = {(workload, name) for workload in WORKLOADS for name in (*OURS, *peers)}
    assert found == wanted - {("decode", "flax-reference")}, "which has no cache"
    assert all(row["parity"]["ok"] for row in rows)
    assert "same tokens" in capsys.readouterr().out


def test_decoding_in_bfloat16_is_judged_by_its_logits(tmp_path):
    """Right logits of 16 bits do not always have the same largest one."""
    path = tmp_path / "speed.json"
    _bench(path, OURS, "--workload", "decode", "--dtype", "bfloat16")
    rows = json.loads(path.read_text())["results"]
    assert {row["contestant"] for row in rows} == set(OURS)
    assert all(row["parity"]["ok"] for row in rows)
