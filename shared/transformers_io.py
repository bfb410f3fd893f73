"""Folders and files as Hugging Face transformers saves them: configuration and weights."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from shared import files
from shared.config import LAYER_NORM_EPSILON, GPTConfig
from shared.files import Json, JsonObject, write_bytes
from shared.params import Params, check, gpt2_shapes
from shared.safetensors_io import read_safetensors, write_safetensors

# Causal masks that old checkpoints carry as tensors; both sides compute the mask.
_BUFFERS = (".attn.bias", ".attn.masked_bias")


def canonical(tensors: Mapping[str, np.ndarray], config: GPTConfig) -> Params:
    """``tensors`` under canonical names, in canonical order, every shape checked.

    Takes names with or without the ``transformer.`` prefix, leaves out mask buffers of old files
    and an ``lm_head.weight`` that repeats a tied ``wte.weight``. Raises ``ValueError`` naming the
    first tensor that is missing, unknown, doubled, wrongly shaped or not finite.
    """
    named: Params = {}
    for key, value in tensors.items():
        name = key.removeprefix("transformer.")
        if name.endswith(_BUFFERS) and name.split(".")[-2] == "attn":
            continue
        if name in named:
            raise ValueError(f"tensor {name!r} is there twice, with and without 'transformer.'")
        named[name] = value
    if config.tie_embeddings and "lm_head.weight" in named and "wte.weight" in named:
        if not np.array_equal(named["lm_head.weight"], named["wte.weight"]):
            raise ValueError(
                "lm_head.weight differs from wte.weight: the file is of an untied model, "
                "so set tie_embeddings (tie_word_embeddings in config.json) to false"
            )
        del named["lm_head.weight"]
    return check(named, gpt2_shapes(config))


# transformers' names of our fields, and the values that its other fields must have.
_FIELDS = {
    "vocab_size": "vocab_size",
    "n_positions": "context_length",
    "n_embd": "emb_dim",
    "n_head": "n_heads",
    "n_layer": "n_layers",
}
_FIXED: dict[str, tuple[str | float | bool, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (LAYER_NORM_EPSILON,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


def config_from_transformers(raw: Mapping[str, Json]) -> GPTConfig:
    """The ``GPTConfig`` of a transformers GPT-2 ``config.json``.

    Raises ``ValueError`` naming the field that is missing or that asks for another architecture.
    """
    for name, allowed in _FIXED.items():
        if name in raw and raw[name] not in allowed:
            expected = " or ".join(repr(value) for value in allowed)
            raise ValueError(f"config.json has {name} {raw[name]!r}: expected {expected}")
    for name in _FIELDS:
        if name not in raw:
            raise ValueError(f"config.json has no {name!r}: expected a GPT-2 configuration")
    try:
        config = GPTConfig(
            **{ours: raw[theirs] for theirs, ours in _FIELDS.items()},
            drop_rate=raw.get("resid_pdrop", 0.1),
            qkv_bias=True,
            tie_embeddings=raw.get("tie_word_embeddings", True),
        )
    except ValueError as error:
        raise ValueError(f"config.json: {error}") from None
    if raw.get("n_inner") not in (None, 4 * config.emb_dim):
        raise ValueError(
            f"config.json has n_inner {raw['n_inner']!r}: "
            f"expected {4 * config.emb_dim}, 4 times n_embd"
        )
    return config


def config_to_transformers(config: GPTConfig) -> JsonObject:
    """The ``config.json`` of an exported model, for transformers."""
    fixed = {name: allowed[0] for name, allowed in _FIXED.items()}
    return fixed | {
        "architectures": ["GPT2LMHeadModel"],
        **{theirs: getattr(config, ours) for theirs, ours in _FIELDS.items()},
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), config.drop_rate),
        "tie_word_embeddings": config.tie_embeddings,
    }


def load(path: str | os.PathLike[str], config: GPTConfig | None = None) -> tuple[GPTConfig, Params]:
    """Configuration and canonical parameters of ``path``.

    ``path`` is a folder as transformers saves it, or a ``.safetensors`` file, with ``config``.
    Raises ``ValueError`` naming the file, field or tensor that is wrong.
    """
    path = Path(path)
    if path.is_dir():
        return _load_folder(path)
    if config is None and path.exists():
        raise ValueError(f"{path} is a single file: say its sizes with --preset")
    tensors = read_safetensors(path)  # says so if there is no such file
    assert config is not None
    return config, canonical(tensors, config)


def _load_folder(folder: Path) -> tuple[GPTConfig, Params]:
    try:
        raw = files.read_json(folder / "config.json")
    except FileNotFoundError:
        raise ValueError(
            f"{folder} has no config.json: give a folder that transformers saved"
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / 'config.json'} is not readable JSON: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{folder / 'config.json'} is not a JSON object: expected GPT-2's fields")
    config = config_from_transformers(raw)
    tensors: Params = {}
    for file in _weight_files(folder):
        tensors |= read_safetensors(file)
    return config, canonical(tensors, config)


def _weight_files(folder: Path) -> Iterable[Path]:
    """``model.safetensors``, or the shards that its index lists, all inside ``folder``."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return [folder / "model.safetensors"]
    try:
        names = sorted(set(files.read_json(index)["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{index} is not a shard index: expected a 'weight_map' object") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".."):
            raise ValueError(f"{index} names {name!r}: expected a file beside it")
    return [folder / name for name in names]


def save(
    folder: str | os.PathLike[str], config: GPTConfig, params: Mapping[str, np.ndarray]
) -> None:
    """Export as a folder that ``GPT2LMHeadModel.from_pretrained`` loads; raises ``ValueError``.

    transformers' GPT-2 always has query, key and value biases: absent ones are written as zeros.
    """
    checked = check(params, gpt2_shapes(config))
    width = 3 * config.emb_dim
    for i in range(config.n_layers):
        name = f"h.{i}.attn.c_attn"
        checked.setdefault(f"{name}.bias", np.zeros(width, checked[f"{name}.weight"].dtype))
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write {folder}: {error.strerror or error}") from None
    prefixed = {
        name if name.startswith("lm_head") else f"transformer.{name}": value
        for name, value in checked.items()
    }
    write_safetensors(folder / "model.safetensors", prefixed)
    text = json.dumps(config_to_transformers(config), indent=2) + "\n"
    write_bytes(folder / "config.json", text.encode())
