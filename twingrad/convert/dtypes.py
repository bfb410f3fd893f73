"""Dtypes of checkpoints: their names in safetensors files, and which hold another's numbers."""

import ml_dtypes
import numpy as np

from twingrad.foreign import DType, Untyped


def _dtype(kind: Untyped) -> DType:
    dtype: DType = np.dtype(kind)
    return dtype


# By the names of the format, in the order in which its library writes tensors: wide ones first.
BY_NAME: dict[str, DType] = {
    "U64": _dtype(np.uint64),
    "I64": _dtype(np.int64),
    "F64": _dtype(np.float64),
    "C64": _dtype(np.complex64),
    "F32": _dtype(np.float32),
    "U32": _dtype(np.uint32),
    "I32": _dtype(np.int32),
    "BF16": _dtype(ml_dtypes.bfloat16),
    "F16": _dtype(np.float16),
    "U16": _dtype(np.uint16),
    "I16": _dtype(np.int16),
    "F8_E4M3": _dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": _dtype(ml_dtypes.float8_e5m2),
    "I8": _dtype(np.int8),
    "U8": _dtype(np.uint8),
    "BOOL": _dtype(np.bool_),
}
NAMES = {dtype: name for name, dtype in BY_NAME.items()}
FLOATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def is_float(dtype: DType) -> bool:
    """Whether ``dtype`` is of floating-point numbers, those that NumPy lacks too."""
    return dtype.name in FLOATS


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every number of ``narrow`` is one of ``wide``: a cast there loses nothing."""
    if wide == narrow:
        return True
    if not (is_float(wide) and is_float(narrow)):
        return False
    finfo: Untyped = ml_dtypes.finfo  # NumPy's does not know the dtypes that NumPy lacks
    a, b = finfo(wide), finfo(narrow)
    return bool(a.nmant >= b.nmant and a.maxexp >= b.maxexp and a.minexp <= b.minexp)
