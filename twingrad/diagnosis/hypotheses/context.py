"""The tensors at hand where two models part: the material that hypotheses are computed from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from twingrad import numerics
from twingrad.calls import Call
from twingrad.diagnosis.hypotheses.sketches import Sketched
from twingrad.foreign import Array

if TYPE_CHECKING:
    from twingrad.diagnosis.hypotheses.changes.search import Trial  # it loads PyTorch

# How closely a prediction must fit, relative to the values (L2) ...
FIT = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 1e-2}
# ... and to the difference that it is to explain.
SHARE = 0.25
# Lower precisions by name; TF32 keeps as many bits as float16.
LOW_PRECISIONS = ("bfloat16", "float16 or TF32")
Hypothesis = tuple[str, Array]  # a way to compute a tensor, and the values that it gives


def rounded(x: Array, precision: str) -> Array:
    """``x`` rounded to one of ``LOW_PRECISIONS``, in its own dtype."""
    if precision == "bfloat16":
        return _bfloat16(x).astype(x.dtype)
    return x.astype(np.float16).astype(x.dtype)


def _bfloat16(x: Array) -> Array:
    """``x`` as float32 whose lower 16 bits are rounded away, to even; NumPy has no bfloat16."""
    single = np.ascontiguousarray(x, np.float32)
    bits = single.view(np.uint32)
    kept = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(single), kept.view(np.float32), single)


@dataclass(frozen=True, kw_only=True)
class Context:
    """A tensor of both models, and the tensors it may be computed from, in PyTorch's layout.

    ``sources`` are tensors by name, ``values`` the module's own parameters, ``everything`` all
    there are, ``elsewhere`` other tensors of the pass. ``features`` is what the loss is made of.
    ``lookup`` is an embedding's part of a tied gradient. ``dropouts`` are the layers that draw by a
    key: rate, and key of two words, by path. ``modules`` are PyTorch's own parts of the module that
    give a tensor of this shape for one of this shape. ``trial`` computes PyTorch's tensor
    again with operations changed. ``rows_before`` is the length of the
    table that indices go into. ``indices`` are the integers that JAX's call was given, ``nearby``
    for a gradient the inputs of the parts of the module.
    """

    stage: str
    what: str
    torch: Array
    jax: Array
    dtype: str = "float64"
    kind: str = ""
    path: str = ""
    call: Call | None = None
    before: Call | None = None
    sources: Mapping[str, Array] = field(default_factory=dict)
    values: Mapping[str, Array] = field(default_factory=dict)
    everything: Mapping[str, Array] = field(default_factory=dict)
    elsewhere: Mapping[str, Array] = field(default_factory=dict)
    batch: tuple[Array, ...] = ()
    features: Array | None = None
    lookup: Array | None = None
    dropouts: Mapping[str, tuple[float, Array]] = field(default_factory=dict)
    modules: Mapping[str, Callable[[Array], Array]] = field(default_factory=dict)
    trial: "Callable[[], Trial | Sketched | None] | None" = None
    rows_before: int | None = None
    indices: tuple[Array, ...] = ()
    nearby: Mapping[str, Array] = field(default_factory=dict)

    def same_shape(self) -> dict[str, Array]:
        """Sources that could be added to the values."""
        return {n: x for n, x in self.sources.items() if x.shape == self.torch.shape}

    def fits(self, predicted: Array, actual: Array) -> bool:
        """Whether ``predicted`` is one model's ``actual``, so that the difference would be gone."""
        if predicted.shape != actual.shape:
            return False
        near = FIT[self.dtype] * numerics.size(actual).l2
        return numerics.distance(predicted, actual).l2 <= min(near, SHARE * self._gap)

    @cached_property
    def _gap(self) -> float:
        return numerics.distance(self.torch, self.jax).l2
