"""Types of what the frameworks make and take back: no common class describes both kinds."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

# Of any shape and dtype, which are looked at when the programs run.
Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[Any]]

Model: TypeAlias = Any  # torch.nn.Module | flax.nnx.Module
Tensor: TypeAlias = Any  # torch.Tensor | jax.Array
Gradients: TypeAlias = Any  # dict[str, torch.Tensor] | flax.nnx.State
Optimizer: TypeAlias = Any  # of torch_impl.optim | of jax_impl.optim
# Whatever else a framework made and is handed back to it, such as its runtime or a cache of keys.
Native: TypeAlias = Any

LossFn: TypeAlias = Callable[..., Any]  # (model, *batch) -> (loss, output)
SummedLoss: TypeAlias = Callable[..., Any]  # (model, *batch) -> loss
TensorFn: TypeAlias = Callable[..., Any]  # (*tensors) -> tensor
Pass: TypeAlias = Callable[..., None]  # (*batch), returns when the work is done
ByHand: TypeAlias = Callable[..., tuple[Array, Array, dict[str, Array]]]  # shared.by_hand
Batch: TypeAlias = tuple[Array, ...]
