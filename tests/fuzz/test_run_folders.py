"""Bad checkpoints and run folders are refused in one sentence."""

import hashlib
import json
from dataclasses import asdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bench.training import metrics, pretrained, run_folder
from bench.training.config import RunConfig, RunSettings, changed, resolve
from shared import checkpoint, corpus, tokenizer
from shared.checkpoint import Checkpoint
from shared.config import AdamWConfig, TrainConfig
from tests.helpers.damage import bent, damaged
from tests.helpers.fuzz import (
    MODEL,
    TEXT,
    bounded,
    examples,
    laid,
    tried,
)
from tests.helpers.weights import parameters, safetensors


def _checkpoint() -> Checkpoint:
    values = parameters()
    return Checkpoint(
        step=10,
        params=values,
        first_moment=values,
        second_moment=values,
        model=MODEL,
        train=TrainConfig(optimizer=AdamWConfig(), batch_size=2),
        framework="torch",
        data={"batches": 10, "seed": 0},
        tokenizer={"kind": "bytes"},
        random={"seed": 0},
        extra={},
    )


def _sealed(state: bytes) -> bytes:
    """``state`` with the digest that it should have, if it ends as a state does."""
    at = state.rfind(b'"sha256":')
    start = state.find(b'"', at + 9) + 1
    if at < 0 or start == 0:
        return state
    blank = state[:start] + b'"\n}\n'
    return state[:start] + hashlib.sha256(blank).hexdigest().encode() + b'"\n}\n'


@examples("checkpoint")
@given(content=st.data(), what=st.sampled_from(("state", "sealed", "sealed", "tensors", "agreed")))
def test_checkpoint(ground, content, what):
    folder = ground / "run" / "torch" / "checkpoints"
    whole = checkpoint.save(folder, _checkpoint())
    state = json.loads((whole / "state.json").read_text())
    if what in ("state", "sealed"):
        written = content.draw(bent(state))
        laid(whole, "state.json", _sealed(written) if what == "sealed" else written)
    else:
        name = content.draw(st.sampled_from(sorted(state["files"])))
        tensors = content.draw(safetensors((whole / name).read_bytes()))
        laid(whole, name, tensors)
        state["files"][name] = {
            "bytes": len(tensors),
            "sha256": hashlib.sha256(tensors).hexdigest(),
        }
        if what == "agreed":
            laid(whole, "state.json", _sealed(json.dumps(state, indent=2).encode()))
    tried("checkpoint", ground, lambda: checkpoint.load(whole))
    with bounded():
        newest, passed_over = checkpoint.newest([folder])
    assert (newest is None) == bool(passed_over)
    tried("checkpoint", ground, lambda: pretrained.load(str(ground / "run")))


def _run_config() -> RunConfig:
    return resolve(RunSettings(init="weights", data="absent.txt", length=8, batch_size=2), MODEL)


@examples("run folder")
@given(content=st.data(), what=st.sampled_from(("config", "config", "metrics", "tokenizer")))
def test_run_folder(ground, content, what):
    folder = ground / "begun"
    folder.mkdir(exist_ok=True)
    described = {"run": asdict(_run_config()), "corpus": {"sha256": "0" * 64}}
    text = corpus.Corpus(train=np.zeros(9), validation=np.zeros(9), description={"sha256": "1"})
    if what == "config":
        laid(folder, run_folder.CONFIG, content.draw(bent(described)))
        stored = tried("run folder", ground, lambda: run_folder.stored(folder))
        if stored is not None:
            tried("run folder", ground, lambda: changed(stored, RunSettings(steps=900)))
        tried("run folder", ground, lambda: run_folder.check_data(folder, text))
    elif what == "tokenizer":
        path = laid(
            folder, run_folder.TOKENIZER, content.draw(bent({"kind": "bpe", "definition": TEXT}))
        )
        tried("run folder", ground, lambda: tokenizer.from_json(run_folder.read_json(path)))
    else:
        row = {"step": 3, "loss": 2.5, "grad_norm": 1.0, "lr": 1e-3, "tokens_per_s": 9.5}
        rows = [json.dumps(row | {"step": n}).encode() for n in range(4)]
        rows[content.draw(st.integers(0, 3))] = content.draw(bent(row | {"val_loss": 2.0}))
        path = laid(folder, metrics.FILE, content.draw(damaged(b"\n".join(rows))))
        found = tried("run folder", ground, lambda: metrics.read(path, 3))
        for kept in found or []:
            assert kept.step <= 3
            assert np.isfinite(list(kept.to_json().values())).all()
