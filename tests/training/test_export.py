"""Exported checkpoints, as transformers loads them."""

import json
from functools import partial

import numpy as np
import pytest

from bench.cli import main
from bench.harness.frameworks import NAMES
from bench.harness.frameworks import one as one_framework
from bench.training import pretrained, run_folder
from shared import tokenizer
from tests.helpers.runs import SMALL, train


@pytest.mark.slow
def test_transformers_computes_the_same_from_an_exported_checkpoint(both, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    assert main.main(["export", "--checkpoint", str(both), "--out", str(tmp_path / "gpt2")]) == 0
    assert "--tokenizer bytes" in capsys.readouterr().out
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "gpt2").eval()
    model = pretrained.load(str(both))
    tokens = np.random.default_rng(0).integers(256, size=(2, 17))
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    for name in NAMES:
        framework = one_framework(name)
        runtime = framework.runtime.configure("float32", "cpu")
        make = partial(framework.make_gpt2, model.config)
        built = framework.params.build(make, model.params, runtime)
        built.eval()
        logits = framework.params.to_numpy(built(*runtime.batch(tokens)))
        assert np.linalg.norm(logits - expected) <= 1e-6 * np.linalg.norm(expected), name


def test_a_trained_tokenizer_is_exported_too(text, tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    run, folder = tmp_path / "run", tmp_path / "gpt2"
    asked = ["--framework", "torch", "--steps", "2", "--tokenizer", "bpe"]
    assert train(*asked, *SMALL, "--data", text, "--out", run) == 0
    assert main.main(["export", "--checkpoint", str(run), "--out", str(folder)]) == 0
    assert "bytes" not in capsys.readouterr().out.splitlines()[-1]
    ours = tokenizer.from_json(json.loads((run / run_folder.TOKENIZER).read_text()))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    words = "the words of a text"
    assert theirs.encode(words) == list(ours.encode(words))
    said = []
    for checkpoint_ in (run, folder):
        call = [
            "sample",
            "--framework",
            "torch",
            "--checkpoint",
            str(checkpoint_),
            "--prompt",
            "th",
        ]
        assert main.main([*call, "--tokens", "5"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
