"""The canonical parameter dictionary: one name, shape and layout for every parameter.

``dict[str, np.ndarray]`` with the names and layout of Hugging Face's GPT-2: projection weights are
(in, out), ``lm_head.weight`` is (vocabulary, width). Initialisation, import, export, gradients and
optimizer updates of both frameworks all use these names, so that any tensor can be compared with
its twin. Layout: https://huggingface.co/openai-community/gpt2.
"""

import math
import zlib
from collections.abc import Iterable, Mapping

import numpy as np

from shared.config import GPTConfig

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
# Names of modules in the order in which they run, weights before biases.
_FORWARD = " wte wpe h ln_1 attn c_attn ln_2 mlp c_fc c_proj ln_f lm_head weight bias "


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
    """Sort key that puts canonical names in the order of ``gpt2_shapes``."""
    return tuple(
        (-1, int(part)) if part.isdecimal() else (_FORWARD.find(f" {part} "), 0)
        for part in name.split(".")
    )


def count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Number of learnable scalars in ``shapes``."""
    return sum(math.prod(shape) for shape in shapes.values())


def _stream(seed: int, name: str) -> np.random.Generator:
    """A generator for each name, so that one more tensor does not change the others."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def init_gpt2(config: GPTConfig, seed: int = 0, spread: float = 0.0) -> Params:
    """GPT-2's initial parameters, float32: N(0, 0.02), residual projections 0.02/sqrt(2 n_layers).

    Radford et al., Language Models are Unsupervised Multitask Learners, 2019, section 2.3.

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

    The distribution of weight and bias in ``torch.nn.Linear`` (He et al. 2015 with a = sqrt 5).
    """
    params: Params = {}
    for name, shape in shapes.items():
        fan_in = shapes.get(name.rpartition(".")[0] + ".weight", (1,))[0]
        bound = 1 / math.sqrt(fan_in)
        drawn = _stream(seed, name).uniform(-bound, bound, shape)
        params[name] = np.asarray(drawn, dtype=np.float32)
    return params


def check(params: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> Params:
    """``params`` in the order of ``shapes``; ``ValueError`` names the first wrong tensor."""
    check_names(params, shapes)
    for name, shape in shapes.items():
        check_tensor(name, params[name], shape)
    return {name: params[name] for name in shapes}


def check_names(names: Iterable[str], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ``ValueError`` naming the first tensor that is missing in ``names``, or unknown."""
    present = dict.fromkeys(names)
    for name in shapes:
        if name not in present:
            raise ValueError(f"tensor {name!r} is missing: expected shape {shapes[name]}")
    for name in present:
        if name not in shapes:
            raise ValueError(f"unknown tensor {name!r}: the configuration has no such parameter")


def check_tensor(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless ``value`` is of ``shape``, floating point and finite."""
    if value.shape != shape:
        raise ValueError(f"tensor {name!r} has shape {value.shape}: expected {shape}")
    if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
        raise ValueError(f"tensor {name!r} is of dtype {value.dtype}: expected floating point")
    if not np.isfinite(value).all():
        raise ValueError(f"tensor {name!r} holds NaN or infinity: the file is damaged")
