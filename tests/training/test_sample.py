"""Texts that a trained model continues."""

from dataclasses import replace

import pytest

from bench.cli import main
from bench.harness.frameworks import NAMES
from bench.training import pretrained
from bench.training.pretrained import Pretrained
from shared import params, tokenizer, transformers_io
from shared.config import preset
from tests.helpers.commands import refused


@pytest.mark.slow
def test_a_sample_from_a_run_is_alike_in_both_frameworks(both, capsys):
    written = []
    for name in NAMES:
        asked = ["sample", "--framework", name, "--checkpoint", str(both), "--prompt", "The"]
        assert main.main([*asked, "--tokens", "30", "--seed", "3", "--top-k", "20"]) == 0
        written.append(capsys.readouterr().out)
    assert written[0] == written[1]
    assert written[0].startswith("The")


@pytest.fixture
def without_tokenizer(tmp_path):
    """A folder as transformers saves one, with a vocabulary of 256 and no tokenizer."""
    config = preset("tiny")
    transformers_io.save(tmp_path / "model", config, params.init_gpt2(config))
    return str(tmp_path / "model")


def test_a_model_of_256_tokens_is_not_taken_for_gpt2(one, capsys, monkeypatch, without_tokenizer):
    monkeypatch.setattr(tokenizer, "GPT2", lambda: pytest.fail("GPT-2's tokenizer was fetched"))
    call = ["--framework", one, "--checkpoint", without_tokenizer, "--prompt", "The"]
    said = refused(capsys, "sample", *call)
    assert "has no tokenizer.json" in said
    assert "256 tokens where GPT-2 has 50257" in said
    assert "--tokenizer bytes" in said


def test_a_model_of_256_tokens_goes_on_in_bytes_where_told(one, capsys, without_tokenizer):
    call = ["--framework", one, "--checkpoint", without_tokenizer, "--prompt", "The"]
    assert main.main(["sample", *call, "--tokenizer", "bytes", "--tokens", "3"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("The")
    assert {"torch": "in PyTorch", "jax": "in JAX"}[one] in printed.err


@pytest.mark.parametrize("tokens", [50257, 50304])
def test_a_model_of_gpt2s_vocabulary_has_gpt2s_tokenizer(tokens):
    model = Pretrained(replace(preset("gpt2"), vocab_size=tokens), {}, None, "folder")
    assert pretrained.tokenizer_of(model, "folder") == {"kind": "gpt2"}
