"""Bad files and folders of weights are refused in one sentence."""

import json

from hypothesis import given
from hypothesis import strategies as st

from bench.training import pretrained
from shared import params, safetensors_io, transformers_io
from tests.helpers.damage import bent, damaged
from tests.helpers.fuzz import MODEL, TEXT, examples, laid, tried
from tests.helpers.weights import HALVES, WEIGHTS, parameters, safetensors


@examples("safetensors")
@given(content=st.sampled_from((WEIGHTS, HALVES)).flatmap(safetensors))
def test_safetensors(ground, content):
    path = laid(ground, "model.safetensors", content)
    found = tried("safetensors", ground, lambda: safetensors_io.read_safetensors(path))
    if found is not None:
        assert sum(value.nbytes for value in found.values()) <= 2 * len(content)
    tried("safetensors", ground, lambda: transformers_io.load(path, MODEL))


INDEX = {"metadata": {}, "weight_map": {"transformer.wte.weight": "model.safetensors"}}


@examples("weights folder")
@given(content=st.data(), what=st.sampled_from(("config.json", "index", "model", "tokenizer")))
def test_weights_folder(ground, content, what):
    folder = ground / "weights"
    transformers_io.save(folder, MODEL, parameters())
    names = {"index": "model.safetensors.index.json", "model": "model.safetensors"}
    for name in (names["index"], "tokenizer.json"):
        (folder / name).unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    strategies = {
        "config.json": bent(config),
        "index": bent(INDEX),
        "model": safetensors(WEIGHTS),
        "tokenizer": damaged(TEXT.encode()),
    }
    name = names.get(what, what.removesuffix(".json") + ".json")
    laid(folder, name, content.draw(strategies[what]))
    found = tried("weights folder", ground, lambda: pretrained.load(str(folder)))
    if found is not None:
        shapes = {name: value.shape for name, value in found.params.items()}
        assert shapes == params.gpt2_shapes(found.config)
