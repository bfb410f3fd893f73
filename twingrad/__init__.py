"""Equality of a PyTorch model and its JAX port: where and why they differ, if they do.

Names are resolved when they are first used (PEP 562), so that importing ``twingrad`` or
``twingrad.numerics`` loads neither framework.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twingrad.api import assert_equal, assert_equal_models, compare, diagnose
    from twingrad.decode import Decode
    from twingrad.map import To
    from twingrad.pair import Pair
    from twingrad.result import Comparison, Findings, NotEqual

__all__ = [
    "Comparison",
    "Decode",
    "Findings",
    "NotEqual",
    "Pair",
    "To",
    "assert_equal",
    "assert_equal_models",
    "compare",
    "diagnose",
]

_MODULES = {
    "Comparison": "twingrad.result",
    "Decode": "twingrad.decode",
    "Findings": "twingrad.result",
    "NotEqual": "twingrad.result",
    "Pair": "twingrad.pair",
    "To": "twingrad.map",
    "assert_equal": "twingrad.api",
    "assert_equal_models": "twingrad.api",
    "compare": "twingrad.api",
    "diagnose": "twingrad.api",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'twingrad' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
