"""Released checkpoints: their shapes, and how they are fetched."""

import numpy as np
import pytest

from bench.training import pretrained
from shared import params, transformers_io
from shared.config import preset
from tests.helpers.runs import refused


@pytest.mark.slow
def test_released_shapes_are_those_of_the_presets():
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    sizes = {
        "gpt2": {},
        "gpt2-medium": {"n_embd": 1024, "n_layer": 24, "n_head": 16},
        "gpt2-large": {"n_embd": 1280, "n_layer": 36, "n_head": 20},
        "gpt2-xl": {"n_embd": 1600, "n_layer": 48, "n_head": 25},
    }
    assert sizes.keys() == pretrained.RELEASED.keys()
    for name, given in sizes.items():
        theirs = transformers.GPT2Config(**given)
        with torch.device("meta"):
            model = transformers.GPT2LMHeadModel(theirs)
        config = transformers_io.config_from_transformers(theirs.to_dict())
        assert config == preset(name)
        # One number stands for all of a tensor: the largest has six gigabytes of them.
        tensors = {
            key: np.broadcast_to(np.float32(0.01), tuple(value.shape))
            for key, value in model.state_dict().items()
        }
        taken = transformers_io.canonical(tensors, config)
        assert taken.keys() == params.gpt2_shapes(config).keys()


def test_a_released_name_without_the_hub_says_what_to_do(one, capsys, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    import huggingface_hub

    def fail(*arguments, **options):
        raise OSError("no network here")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    said = refused(capsys, "--framework", one, "--init", "gpt2", "--out", tmp_path / "run")
    assert "openai-community/gpt2 is not in the Hugging Face cache" in said
    assert "no network here" in said
