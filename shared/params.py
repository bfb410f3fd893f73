"""The canonical parameter dictionary: one name, shape and layout for every parameter.

``dict[str, np.ndarray]`` with the names and layout of Hugging Face's GPT-2: projection weights are
(in, out), ``lm_head.weight`` is (vocabulary, width). Initialisation, import, export, gradients and
optimizer updates of both sides all use these names, so that a tensor of one side can be held
against its twin. Layout: https://huggingface.co/openai-community/gpt2.
"""

import json
import math
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from shared import files
from shared.config import LAYER_NORM_EPSILON, GPTConfig

Params = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]

NEURON_SHAPES: Shapes = {"w": (), "b": ()}
SIMPLE_NET_SHAPES: Shapes = {
    "fc1.weight": (10, 5),
    "fc1.bias": (5,),
    "fc2.weight": (5, 1),
    "fc2.bias": (1,),
}

INIT_STD = 0.02
# Each module after those that run before it, and weights before biases.
_FORWARD = " wte wpe h ln_1 attn c_attn ln_2 mlp c_fc c_proj ln_f lm_head weight bias "
# Causal masks that old checkpoints carry as tensors; both sides compute the mask.
_BUFFERS = (".attn.bias", ".attn.masked_bias")


def gpt2_shapes(config: GPTConfig) -> Shapes:
    """Canonical names and shapes of a GPT-2, in forward order."""
    V, T, C = config.vocab_size, config.context_length, config.emb_dim
    shapes: Shapes = {"wte.weight": (V, C), "wpe.weight": (T, C)}
    for i in range(config.n_layers):
        h = f"h.{i}"
        shapes |= {f"{h}.ln_1.weight": (C,), f"{h}.ln_1.bias": (C,)}
        shapes |= {f"{h}.attn.c_attn.weight": (C, 3 * C)}
        if config.qkv_bias:
            shapes |= {f"{h}.attn.c_attn.bias": (3 * C,)}
        shapes |= {f"{h}.attn.c_proj.weight": (C, C), f"{h}.attn.c_proj.bias": (C,)}
        shapes |= {f"{h}.ln_2.weight": (C,), f"{h}.ln_2.bias": (C,)}
        shapes |= {f"{h}.mlp.c_fc.weight": (C, 4 * C), f"{h}.mlp.c_fc.bias": (4 * C,)}
        shapes |= {f"{h}.mlp.c_proj.weight": (4 * C, C), f"{h}.mlp.c_proj.bias": (C,)}
    shapes |= {"ln_f.weight": (C,), "ln_f.bias": (C,)}
    if not config.tie_embeddings:
        shapes |= {"lm_head.weight": (V, C)}
    return shapes


def forward_order(name: str) -> tuple[tuple[int, int], ...]:
    """What to sort canonical names by, so that they stand as ``gpt2_shapes`` has them."""
    return tuple(
        (-1, int(part)) if part.isdecimal() else (_FORWARD.find(f" {part} "), 0)
        for part in name.split(".")
    )


def count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Number of learnable scalars in ``shapes``."""
    return sum(math.prod(shape) for shape in shapes.values())


def _stream(seed: int, name: str) -> np.random.Generator:
    """A generator for each name, so that adding a tensor leaves the others as they were."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def init_gpt2(config: GPTConfig, seed: int = 0, spread: float = 0.0) -> Params:
    """GPT-2's initial parameters, float32: N(0, 0.02), residual projections 0.02/sqrt(2 n_layers).

    ``spread`` adds N(0, spread) to gains and biases, which otherwise start at one and zero and
    would hide a dropped bias or an ignored gain from a comparison.
    """
    params: Params = {}
    for name, shape in gpt2_shapes(config).items():
        if len(shape) == 2:
            residual = name.endswith("c_proj.weight")
            std = INIT_STD / math.sqrt(2 * config.n_layers) if residual else INIT_STD
            start = 0.0
        else:
            std = spread
            start = 1.0 if name.endswith(".weight") else 0.0
        noise = _stream(seed, name).standard_normal(shape, dtype=np.float32)
        noise *= np.float32(std)
        params[name] = noise + np.float32(start) if start else noise
    return params


def init_uniform(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> Params:
    """Small nets' initial parameters, float32: U(-b, b) with b = 1/sqrt(fan in).

    What ``torch.nn.Linear`` draws weight and bias from (He et al. 2015 with a = sqrt 5).
    """
    params: Params = {}
    for name, shape in shapes.items():
        fan_in = shapes.get(name.rpartition(".")[0] + ".weight", (1,))[0]
        bound = 1 / math.sqrt(fan_in)
        drawn = _stream(seed, name).uniform(-bound, bound, shape)
        params[name] = np.asarray(drawn, dtype=np.float32)
    return params


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


def check(params: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> Params:
    """``params`` in the order of ``shapes``; ``ValueError`` names the first wrong tensor."""
    check_names(params, shapes)
    for name, shape in shapes.items():
        check_tensor(name, params[name], shape)
    return {name: params[name] for name in shapes}


def check_names(names: Iterable[str], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """``ValueError`` names the first tensor that is missing among ``names``, or unknown."""
    given = list(names)
    for name in shapes:
        if name not in given:
            raise ValueError(f"tensor {name!r} is missing: expected shape {shapes[name]}")
    for name in given:
        if name not in shapes:
            raise ValueError(f"unknown tensor {name!r}: the configuration has no such parameter")


def check_tensor(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    """``ValueError`` if ``value`` is not of ``shape``, not of floating point, or not finite."""
    if value.shape != shape:
        raise ValueError(f"tensor {name!r} has shape {value.shape}: expected {shape}")
    if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
        raise ValueError(f"tensor {name!r} is of dtype {value.dtype}: expected floating point")
    if not np.isfinite(value).all():
        raise ValueError(f"tensor {name!r} holds NaN or infinity: the file is damaged")


class Stored(Mapping[str, np.ndarray]):
    """The tensors of a safetensors file in the order of ``shapes``, read when they are asked for.

    Never more than one is in memory, also when all are checked at the beginning. Raises
    ``ValueError`` naming the file, or the first wrong tensor.
    """

    def __init__(self, path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.path, self._shapes = path, shapes
        with _opened(path) as file:
            names = list(file.keys())
        try:
            check_names(names, shapes)
            for name, shape in shapes.items():
                check_tensor(name, self[name], shape)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._shapes:
            raise KeyError(name)
        with _opened(self.path) as file:
            return _tensor(self.path, file, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def read_safetensors(path: str | os.PathLike[str]) -> Params:
    """Every tensor of one safetensors file; 16-bit floats are widened to float32, losslessly.

    Raises ``ValueError`` when the file is absent, truncated or not of that format. The library maps
    it, and holds header, offsets and shapes against its size before it copies any tensor.
    """
    with _opened(path) as file:
        return {name: _tensor(path, file, name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The safetensors file ``path``, open for reading; ``ValueError`` if it is none."""
    try:
        files.require_regular(path)
        with safe_open(path, framework="numpy") as file:
            yield file
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: give a .safetensors file or a folder") from None
    except (SafetensorError, OSError) as error:
        detail = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is not a whole safetensors file ({detail}): save or download it again"
        ) from None


def _tensor(path: str | os.PathLike[str], file: Any, name: str) -> np.ndarray:
    stored = file.get_slice(name)
    dtype = stored.get_dtype()
    if dtype == "BF16":
        return _bfloat16(path, name).reshape(stored.get_shape())
    if dtype.startswith(("F4", "F6_", "F8_")):
        raise ValueError(
            f"{path} holds tensor {name!r} as {dtype}: expected 16-bit floats or wider"
        )
    value = file.get_tensor(name)
    return value.astype(np.float32) if dtype == "F16" else value


def _bfloat16(path: str | os.PathLike[str], name: str) -> np.ndarray:
    """One bfloat16 tensor, which NumPy lacks: the upper half of a float32."""
    with open(path, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
        start, end = json.loads(file.read(header))[name]["data_offsets"]
        file.seek(8 + header + start)
        bits = np.frombuffer(file.read(end - start), "<u2")
    return (bits.astype(np.uint32) << 16).view(np.float32)


def write_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]) -> None:
    """Write ``tensors`` to ``path`` whole or not at all (a temporary file, then a rename)."""
    whole = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    write_bytes(path, to_safetensors(whole, metadata={"format": "pt"}))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path`` whole or not at all; ``ValueError`` says why it cannot be."""
    path = Path(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from None


# What transformers calls our fields, and what its other fields must be for the model to be ours.
_FIELDS = {
    "vocab_size": "vocab_size",
    "n_positions": "context_length",
    "n_embd": "emb_dim",
    "n_head": "n_heads",
    "n_layer": "n_layers",
}
_FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (LAYER_NORM_EPSILON,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


def config_from_transformers(raw: Mapping[str, Any]) -> GPTConfig:
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


def config_to_transformers(config: GPTConfig) -> dict[str, Any]:
    """The ``config.json`` with which transformers loads an exported model."""
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
    Raises ``ValueError`` in one sentence, for whatever is wrong with it.
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
        raise ValueError(f"cannot write {folder}: {error.strerror}") from None
    prefixed = {
        name if name.startswith("lm_head") else f"transformer.{name}": value
        for name, value in checked.items()
    }
    write_safetensors(folder / "model.safetensors", prefixed)
    text = json.dumps(config_to_transformers(config), indent=2) + "\n"
    write_bytes(folder / "config.json", text.encode())
