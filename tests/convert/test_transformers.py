"""Models of transformers, as ``save_pretrained`` writes them, to NNX and back."""

import runpy

import numpy as np
import pytest

from bench.harness import frameworks

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)
pytest.importorskip("transformers")

import torch

from tests.helpers.checkpoints_to_convert import PORTS, convert, same_files

pytestmark = pytest.mark.slow


@pytest.fixture(params=["hf_gpt2", "hf_llama", "hf_resnet"])
def saved(request, tmp_path):
    """The name of a port, and a model's folder; running statistics have numbers of their own."""
    model = runpy.run_path(str(PORTS / f"{request.param}.py"))["pair"].torch()
    random = np.random.default_rng(1)
    with torch.no_grad():
        for name, x in model.state_dict().items():
            if x.is_floating_point():
                spread = (0.5, 1.5) if "norm" in name else (-0.2, 0.2)
                x.copy_(torch.from_numpy(random.uniform(*spread, x.shape)))
            else:
                x.fill_(11)
    model.save_pretrained(tmp_path / "given")
    return request.param, tmp_path / "given"


def test_the_way_back_gives_the_file_that_went_in_and_the_models_are_equal(saved, tmp_path):
    port, given = saved
    there = convert(port, given, "jax", tmp_path / "jax", check=True)
    assert there.status == 0, there.err
    assert "every gate holds" in there.out
    for source in ("jax", "jax/orbax"):
        out = tmp_path / f"torch-{source[4:]}"
        back = convert(port, tmp_path / source, "torch", out, check=source == "jax")
        assert back.status == 0, back.err
        assert same_files(given / "model.safetensors", out / "model.safetensors")


def test_transformers_loads_what_comes_back(saved, tmp_path):
    port, given = saved
    assert convert(port, given, "jax", tmp_path / "jax").status == 0
    assert convert(port, tmp_path / "jax", "torch", tmp_path / "torch").status == 0
    (tmp_path / "torch" / "config.json").write_bytes((given / "config.json").read_bytes())
    kind = type(runpy.run_path(str(PORTS / f"{port}.py"))["pair"].torch())
    loaded, report = kind.from_pretrained(tmp_path / "torch", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for name, x in kind.from_pretrained(given).state_dict().items():
        assert torch.equal(loaded.state_dict()[name], x), name


def test_a_checkpoint_in_bfloat16_and_shards_comes_back_in_bfloat16(saved, tmp_path):
    port, given = saved
    kind = type(runpy.run_path(str(PORTS / f"{port}.py"))["pair"].torch())
    model = kind.from_pretrained(given, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").is_file()
    there = convert(port, tmp_path / "shards", "jax", tmp_path / "jax", check=True)
    assert there.status == 0, there.err
    assert convert(port, tmp_path / "jax", "torch", tmp_path / "torch").status == 0
    model.save_pretrained(tmp_path / "whole")
    assert same_files(*(tmp_path / name / "model.safetensors" for name in ("whole", "torch")))
