"""Dropout of the same units in both frameworks, in PyTorch.

Each framework's own dropout has a generator of its own, and no seed makes the two agree. Here the
mask is a function of a key, and both frameworks use the same keys at every step.
"""

from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt32
from torch import Tensor, nn

from shared import threefry

_LAYERS: WeakKeyDictionary[nn.Module, list[nn.Module]] = WeakKeyDictionary()


class MatchedDropout(nn.Dropout):
    """Dropout by ``key``: the same key drops the same units, in every dtype, on every device.

    The processes of a run share a batch; each has the rows after those of the ranks below its own.
    """

    def __init__(self, rate: float):
        super().__init__(rate)
        self.rank = 0
        # Not a buffer: DistributedDataParallel would broadcast it before every pass.
        self.key = torch.zeros(2, dtype=torch.int32)

    def forward(self, x: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
        if not self.training or self.p == 0:
            return x
        return torch.where(self.dropped(x), 0.0, x / (1 - self.p))

    def dropped(self, x: Float[Tensor, "*S"]) -> Bool[Tensor, "*S"]:
        """Mask of the elements of ``x`` that are dropped."""
        words = _bits(self.key, x.numel(), x.device, self.rank * x.numel())
        # The mask makes the shift of a signed word an unsigned one.
        return ((words >> 8) & 0xFFFFFF < threefry.threshold(self.p)).view(x.shape)


def match(model: nn.Module) -> None:
    """Replace every dropout layer of ``model`` that drops anything by a ``MatchedDropout``."""
    _LAYERS.pop(model, None)
    for name in sites(model):
        parent, _, attribute = name.rpartition(".")
        dropout = model.get_submodule(name)
        assert isinstance(dropout, nn.Dropout)
        setattr(model.get_submodule(parent), attribute, MatchedDropout(dropout.p))


def sites(model: nn.Module) -> list[str]:
    """Names of the dropout layers that drop anything, in the order of their keys."""
    modules = model.named_modules()
    return sorted(
        name for name, module in modules if isinstance(module, nn.Dropout) and module.p > 0
    )


def set_keys(model: nn.Module, keys: UInt32[np.ndarray, "S 2"], rank: int = 0) -> None:
    """Seed the dropout of one pass: each layer where it is matched, else PyTorch as a whole.

    Processes of another ``rank`` have other rows of the batch, and drop other units.
    """
    for layer, key in zip(_layers(model), keys, strict=True):
        if isinstance(layer, MatchedDropout):
            # int32, since PyTorch has few operations on unsigned words.
            layer.key, layer.rank = torch.from_numpy(key.view(np.int32)), rank
        else:
            # One generator serves all layers, seeded by the key of the first.
            torch.manual_seed((int(key[0]) << 32 | int(key[1])) ^ rank)
            break


def _layers(model: nn.Module) -> list[nn.Module]:
    """The modules of ``sites``: looked for once, since every step of a training asks."""
    if model not in _LAYERS:
        _LAYERS[model] = [model.get_submodule(name) for name in sites(model)]
    return _LAYERS[model]


def _bits(
    key: Int[Tensor, "2"], size: int, device: torch.device, first: int = 0
) -> Int[Tensor, "N"]:
    """``size`` random words as int32 on ``device``: NumPy's on a CPU, where it is faster."""
    if device.type == "cpu" and not torch.compiler.is_compiling():
        drawn = threefry.bits(key.numpy().view(np.uint32), size, first)
        return torch.from_numpy(drawn.view(np.int32))
    key = key.to(device)
    words = torch.cat([key, key[:1] ^ key[1:] ^ threefry.PARITY])
    counters = torch.arange(first, first + size, device=device)
    high, low = threefry.encipher(words, (counters >> 32).int(), counters.int())
    return high ^ low
