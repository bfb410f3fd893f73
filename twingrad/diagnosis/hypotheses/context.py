"""What a place of a model had at hand: the stuff that hypotheses about it are made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from twingrad import numerics
from twingrad.calls import Call

# How closely a prediction must fit, relative to the values (L2) ...
FIT = {"float64": 1e-7, "float32": 1e-4}
# ... and to the difference that it is to explain.
SHARE = 0.25
# Lower precisions by name; TF32 keeps as many bits as float16.
LOW_PRECISIONS = ("bfloat16", "float16 or TF32")
Guess = tuple[str, np.ndarray]


def rounded(x: np.ndarray, precision: str) -> np.ndarray:
    """``x`` rounded to one of ``LOW_PRECISIONS``, in its own dtype."""
    if precision == "bfloat16":
        import ml_dtypes  # comes with JAX

        return x.astype(ml_dtypes.bfloat16).astype(x.dtype)
    return x.astype(np.float16).astype(x.dtype)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a module had at hand, and what either side made of it, in PyTorch's layout.

    ``sources`` are tensors by name, ``values`` the module's own parameters, ``everything`` all
    there are, ``elsewhere`` other tensors of the pass. ``features`` is what the loss is made of.
    ``dropouts`` are the layers that draw by a key: rate, and key of two words, by path. ``modules``
    are PyTorch's own parts of the module that give a tensor of this shape for one of this shape.
    """

    stage: str
    what: str
    torch: np.ndarray
    jax: np.ndarray
    dtype: str = "float64"
    kind: str = ""
    path: str = ""
    call: Call | None = None
    before: Call | None = None
    sources: Mapping[str, np.ndarray] = field(default_factory=dict)
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    everything: Mapping[str, np.ndarray] = field(default_factory=dict)
    elsewhere: Mapping[str, np.ndarray] = field(default_factory=dict)
    batch: tuple[np.ndarray, ...] = ()
    features: np.ndarray | None = None
    dropouts: Mapping[str, tuple[float, np.ndarray]] = field(default_factory=dict)
    modules: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)

    def same_shape(self) -> dict[str, np.ndarray]:
        """Sources that could be added to the values."""
        return {n: x for n, x in self.sources.items() if x.shape == self.torch.shape}

    def fits(self, value: np.ndarray, found: np.ndarray) -> bool:
        """Whether ``value`` is what one side found, so that the difference would be gone."""
        if value.shape != found.shape:
            return False
        near = FIT[self.dtype] * numerics.size(found).l2
        return numerics.distance(value, found).l2 <= min(near, SHARE * self._gap)

    @property
    def _gap(self) -> float:
        return numerics.distance(self.torch, self.jax).l2
