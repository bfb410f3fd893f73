"""Small checkpoints to save, compare, damage and forge."""

import json
from dataclasses import fields

import numpy as np

from shared.checkpoint import Checkpoint
from shared.checkpoint.format import seal
from shared.config import AdamWConfig, GPTConfig, TrainConfig
from shared.params import gpt2_shapes

TINY = GPTConfig(vocab_size=13, context_length=7, emb_dim=8, n_heads=2, n_layers=2, qkv_bias=True)
TRAIN = TrainConfig(optimizer=AdamWConfig(learning_rate=1e-3, total_steps=300), seed=5)
GROUPS = ("params", "first_moment", "second_moment")
TENSOR_FILES = tuple(f"{group}.safetensors" for group in GROUPS)
FILES = (*TENSOR_FILES, "state.json")


def draw_tensors(seed, config=TINY, dtype="float32"):
    """Tensors whose every digit is in use in ``dtype``."""
    drawn = np.random.default_rng(seed)
    shapes = gpt2_shapes(config)
    return {name: drawn.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def make_checkpoint(step=100, dtype="float32", config=TINY, **changes):
    given = {group: draw_tensors(i, config, dtype) for i, group in enumerate(GROUPS)}
    given |= {
        "step": step,
        "model": config,
        "train": TRAIN,
        "framework": "torch",
        "data": {"epoch": 1, "position": 2**40, "shards": ["a", "b"]},
        "tokenizer": {"kind": "bytes", "special": {"<|endoftext|>": None}},
        "random": {"generator": "threefry2x32", "seed": 0, "step": step, "dropout": "matched"},
        "extra": {"best": 0.1 + 0.2, "note": "größer\n\ud800", "done": False},
    }
    return Checkpoint(**given | changes)


def assert_same(ours, theirs):
    for field in fields(theirs):
        left, right = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name not in GROUPS:
            assert left == right, field.name
            continue
        assert list(left) == list(gpt2_shapes(theirs.model)), field.name
        for name in left:
            assert left[name].dtype == right[name].dtype, (field.name, name)
            assert left[name].shape == right[name].shape, (field.name, name)
            assert left[name].tobytes() == right[name].tobytes(), (field.name, name)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def damage(path):
    """Change one byte in the middle of ``path / 'params.safetensors'``."""
    file = path / "params.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def forge(path, **changes):
    """Rewrite fields of ``state.json`` under a digest that is right; ``None`` leaves one out."""
    state = json.loads((path / "state.json").read_text())
    del state["sha256"]
    state = {name: value for name, value in (state | changes).items() if value is not None}
    (path / "state.json").write_bytes(seal(state))
