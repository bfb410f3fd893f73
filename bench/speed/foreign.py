"""Types of values that backends make and take back: no common class describes all libraries'."""

from typing import Any, TypeAlias

from bench.harness.foreign import Array as Array
from bench.harness.foreign import Model as Model
from bench.harness.foreign import Native as Native
from bench.harness.foreign import TensorFn as TensorFn

Batch: TypeAlias = Any  # a batch where a backend wants it
Loss: TypeAlias = Any  # a loss that may not be computed yet
