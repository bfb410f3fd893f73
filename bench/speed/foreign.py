"""Types of values that backends make and take back: no common class describes all libraries'."""

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[Any]]  # of any shape and dtype
Batch: TypeAlias = Any  # a batch where a backend wants it
Loss: TypeAlias = Any  # a loss that may not be computed yet
Model: TypeAlias = Any  # torch.nn.Module | flax.nnx.Module, of ours or of a peer's
Native: TypeAlias = Any  # a runtime or a tensor of a framework
