"""Types of what is somebody else's, where no type can be known: the one module that has ``Any``."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # of any shape and dtype
DType: TypeAlias = np.dtype[Any]
Model: TypeAlias = Any  # nn.Module | nnx.Module | linen.Module | a function
Optimizer: TypeAlias = Any  # torch.optim.Optimizer | optax.GradientTransformation
Loss: TypeAlias = Callable[..., Any]  # (model, *batch) -> loss, or (loss, output)
OptimizerOf: TypeAlias = Callable[[Any], Any]  # parameters -> an optimizer
Tensor: TypeAlias = Any  # torch.Tensor | jax.Array
Tree: TypeAlias = Any  # tensors in whatever containers a module takes or returns
Untyped: TypeAlias = Any  # an object whose methods have no annotations
ModuleCall: TypeAlias = Callable[..., Any]  # (*arguments) -> a tree
Claim: TypeAlias = Callable[..., None]  # a function that raises where two models differ
