"""PyTorch's tensors in NumPy, which has no bfloat16 and knows of no other device."""

import torch
from torch import Tensor

from twingrad.foreign import Array


def array(x: Tensor) -> Array:
    """``x`` in NumPy: in the tensor's own memory where it lies there, bfloat16 as float32."""
    plain = x.detach().cpu()
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()


def copied(x: Tensor) -> Array:
    """``x`` in NumPy, in memory of its own."""
    return array(x).copy()
