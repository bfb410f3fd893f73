"""What is read out of a sequence or an image: one position, or a mean over all."""

from collections.abc import Callable, Iterator

import numpy as np

from twingrad.diagnosis.hypotheses.context import Context, Hypothesis
from twingrad.foreign import Array

OF_SEQUENCES: dict[str, Callable[[Array], Array]] = {
    "the first position": lambda x: x[:, 0],
    "the last position": lambda x: x[:, -1],
    "the mean over positions": lambda x: x.mean(1),
    "the mean over positions but the first": lambda x: x[:, 1:].mean(1),
    "the largest over positions": lambda x: x.max(1),
    "the sum over positions": lambda x: x.sum(1),
}
OF_IMAGES: dict[str, Callable[[Array], Array]] = {
    "the mean over the image": lambda x: x.mean((2, 3)),
    "the largest over the image": lambda x: x.max((2, 3)),
    "the sum over the image": lambda x: x.sum((2, 3)),
}


def readouts(context: Context) -> Iterator[Hypothesis]:
    """A vector for each example, from sources [B, T, C] and images [B, C, H, W]."""
    if context.torch.ndim != 2 or context.stage != "forward":
        return
    B, C = context.torch.shape
    for name, x in reversed(list(context.sources.items())):
        if x.ndim == 3 and (x.shape[0], x.shape[2]) == (B, C) and x.shape[1] > 1:
            for words, function in OF_SEQUENCES.items():
                yield f"{words} of {name}", function(x)
            yield from _counted(context, name, x)
        elif x.ndim == 4 and x.shape[:2] == (B, C):
            for words, function in OF_IMAGES.items():
                yield f"{words} of {name}", function(x)


def _counted(context: Context, name: str, x: Array) -> Iterator[Hypothesis]:
    """Means over the positions that an array of the batch marks, and their last one."""
    for array in context.batch:
        if array.shape != x.shape[:2] or set(np.unique(array).tolist()) != {0, 1}:
            continue
        seen = array.astype(x.dtype)[..., None]
        counts = np.maximum(seen.sum(1), 1)
        yield f"the mean over positions that are no padding of {name}", (x * seen).sum(1) / counts
        last = x.shape[1] - 1 - np.argmax(array[:, ::-1], axis=1)
        yield f"the last position that is no padding of {name}", x[np.arange(len(x)), last]
