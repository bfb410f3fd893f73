"""Known causes, one by one: which way of computing a place gives PyTorch's numbers, which JAX's.

A hypothesis is a name and the values it predicts, worked out in NumPy from what the module was
given. Where one predicts one side's values and another the other's, the difference has a cause.
"""

from collections.abc import Callable, Iterator

import numpy as np

from twingrad import numerics
from twingrad.diagnosis.hypotheses import dropout, layers, loss
from twingrad.diagnosis.hypotheses.attention import attention
from twingrad.diagnosis.hypotheses.context import FIT, LOW_PRECISIONS, Guess, Scene, rounded

Family = Callable[[Scene], Iterator[Guess]]
FORWARD: tuple[Family, ...] = (
    layers.integers,
    loss.losses,
    dropout.masks,
    layers.norms,
    layers.batch_norms,
    layers.linear,
    layers.embeddings,
    layers.cells,
    attention,
    layers.activations,
    layers.heads,
    layers.sums,
    layers.wiring,
    layers.applied,
)
BACKWARD: tuple[Family, ...] = (loss.gradients, layers.wiring)


def explain(scene: Scene) -> str | None:
    """The cause in one phrase, or nothing where no hypothesis fits both sides.

    Hypotheses of one family are preferred; else each side has the first that fits.
    """
    low = _rounded(scene)
    if low:
        return low
    ours: str | None = None
    theirs: str | None = None
    for family in FORWARD if scene.stage == "forward" else BACKWARD:
        mine, other = _first_fits(family, scene)
        if mine and other and mine != other:
            return _said(mine, other)
        ours, theirs = ours or mine, theirs or other
    if ours and theirs and ours != theirs:
        return _said(ours, theirs)
    return _plain(scene)


def _first_fits(family: Family, scene: Scene) -> tuple[str | None, str | None]:
    """Of one family, the first hypothesis that gives PyTorch's numbers, and that gives JAX's."""
    mine: str | None = None
    other: str | None = None
    with np.errstate(all="ignore"):
        for name, value in family(scene):
            mine = mine or (name if scene.fits(value, scene.torch) else None)
            other = other or (name if scene.fits(value, scene.jax) else None)
            if mine and other:
                break
    return mine, other


def _said(ours: str, theirs: str) -> str:
    return f"PyTorch's is {ours}, JAX's {theirs}"


def _rounded(scene: Scene) -> str | None:
    """Where all numbers of one side are such as a lower precision has, and the other's are not."""
    few = scene.torch.size < numerics.FEW and scene.dtype == "float64"
    if few or scene.torch.shape != scene.jax.shape:
        return None
    for name in LOW_PRECISIONS:
        coarser = [rounded(x.astype(np.float32), name) for x in (scene.torch, scene.jax)]
        held = [
            np.array_equal(x, y) for x, y in zip((scene.torch, scene.jax), coarser, strict=True)
        ]
        if held[0] != held[1]:
            coarse = scene.torch if held[0] else scene.jax
            if scene.fits(coarser[1 if held[0] else 0].astype(np.float64), coarse):
                return f"{'PyTorch' if held[0] else 'JAX'}'s is rounded to {name}"
    return None


def _plain(scene: Scene) -> str | None:
    """What can be said without knowing the module: nothing there, a factor, a lower precision."""
    ours, theirs = scene.torch.astype(np.float64), scene.jax.astype(np.float64)
    if ours.shape != theirs.shape:
        return f"PyTorch's shape is {scene.torch.shape}, JAX's {scene.jax.shape}"
    for name, x in (("PyTorch", ours), ("JAX", theirs)):
        if not np.isfinite(x).all():
            return f"{name} has NaN or infinity there"
    flow = scene.stage == "backward"
    sizes = {"PyTorch": numerics.size(ours).l2, "JAX": numerics.size(theirs).l2}
    side = min(sizes, key=lambda name: sizes[name])
    if sizes[side] <= numerics.NOISE * max(sizes.values()):
        return f"no gradient flows in {side}: it is stopped" if flow else f"{side} has zeros there"
    if scene.dtype != "float64" and ours.size == 1:
        return _of_rounding(scene, ours, theirs)  # one number is any other one times a factor
    ratio = float((ours * theirs).sum() / (ours * ours).sum())
    left = numerics.distance(theirs, np.asarray(ratio * ours)).l2
    # A factor explains only what goes away with it.
    if left <= min(
        FIT[scene.dtype] * numerics.size(theirs).l2, 0.01 * numerics.distance(theirs, ours).l2
    ):
        named = {-1.0: "the sign is turned"}
        return named.get(round(ratio, 9), f"JAX's is {ratio:.6g} times PyTorch's")
    part = _rows(scene, ours, theirs) or dropout.one_drops(ours, theirs)
    if part:
        return part
    return _of_rounding(scene, ours, theirs)


def _of_rounding(scene: Scene, ours: np.ndarray, theirs: np.ndarray) -> str | None:
    error = numerics.distance(ours, theirs).l2 / numerics.size(ours).l2
    for name, u in (("bfloat16", 2.0**-9), ("float16 or TF32", 2.0**-12), ("float32", 2.0**-25)):
        if name == "float32" and scene.dtype == "float32":
            continue
        if u / 4 <= error <= 8 * u:
            return f"apart by what rounding to {name} does"
    return None


def _rows(scene: Scene, ours: np.ndarray, theirs: np.ndarray) -> str | None:
    """Rows that one side leaves out, where all others agree."""
    if ours.ndim < 2:
        return None
    width = ours.shape[-1]
    ours, theirs = ours.reshape(-1, width), theirs.reshape(-1, width)
    apart = np.abs(ours - theirs).max(1) > 1e-9 * np.abs(ours).max()
    if not 0 < apart.sum() <= max(1, len(ours) // 4):
        return None
    which = _which(scene, apart)
    lost = scene.elsewhere.get(loss.LOOKUP, np.zeros_like(ours)).reshape(ours.shape)[apart]
    for side, x, other in (("JAX", theirs, ours), ("PyTorch", ours, theirs)):
        if not x[apart].any():
            kind = "gets no gradient" if scene.stage == "backward" else "is zero"
            return f"{which} {kind} in {side}, as padding would"
        if lost.any() and np.allclose(x[apart] + lost, other[apart], rtol=1e-9, atol=0):
            return f"{which} gets no gradient from the lookup in {side}, as padding would"
    return f"only {which} differs"


def _which(scene: Scene, apart: np.ndarray) -> str:
    """The rows by number, or by the one token that stands in all of them and nowhere else."""
    tokens = scene.batch[0].ravel() if scene.batch else apart
    if tokens.shape == apart.shape and tokens.dtype.kind in "iu":
        (*others, token) = np.unique(tokens[apart])
        if not others and np.array_equal(tokens == token, apart):
            return f"token {token}"
    return f"row {', '.join(map(str, np.flatnonzero(apart)[:4]))}"
