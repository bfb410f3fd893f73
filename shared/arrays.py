"""Arrays of NumPy, PyTorch or JAX, for functions that use operators alone."""

from typing import Any, TypeAlias

# No type is common to the three libraries' arrays.
AnyArray: TypeAlias = Any
