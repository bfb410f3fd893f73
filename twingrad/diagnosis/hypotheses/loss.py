"""Cross-entropy and its gradients: what they are divided by, who counts, and which part is lost."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from twingrad.diagnosis.hypotheses.context import LOW_PRECISIONS, Guess, Scene, rounded


@dataclass(frozen=True, kw_only=True)
class Head:
    """Logits and targets, and what the logits were made of where the head is a table [V, C].

    Arrays are flat over positions: logits [N, V], targets [N], features [N, C].
    """

    logits: np.ndarray
    targets: np.ndarray
    inputs: np.ndarray
    shape: tuple[int, ...]
    features: np.ndarray | None = None
    table: np.ndarray | None = None

    @property
    def counts(self) -> np.ndarray:
        """Which targets count: a negative one stands for none."""
        return self.targets >= 0

    @property
    def count(self) -> int:
        """How many do, 1 at least."""
        return max(int(self.counts.sum()), 1)

    def picked(self, targets: np.ndarray, logits: np.ndarray | None = None) -> np.ndarray:
        """Each position's cross-entropy, whether it counts or not."""
        logits = self.logits if logits is None else logits
        top = logits.max(-1, keepdims=True)
        logs = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
        return -np.take_along_axis(logs, targets[:, None] % logs.shape[-1], -1)[:, 0]

    def derived(self, targets: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The mean's gradient at the logits, [N, V]: softmax less one at the target."""
        exp = np.exp(self.logits - self.logits.max(-1, keepdims=True))
        d = exp / exp.sum(-1, keepdims=True)
        d[np.arange(len(d)), targets] -= 1
        return d * counts[:, None] / self.count

    @property
    def pull(self) -> np.ndarray:
        """What of it is the target's: the mean's one, where one counts."""
        ones = np.zeros_like(self.logits)
        ones[np.arange(len(ones)), np.maximum(self.targets, 0)] = self.counts / self.count
        return ones


def heads(scene: Scene) -> Iterator[Head]:
    """Of the model's output, or of what any table that could be a head makes of its features."""
    if not scene.batch:
        return
    targets, inputs = scene.batch[-1], scene.batch[0]
    if targets.dtype.kind not in "iu":
        return
    inputs = inputs if inputs.shape == targets.shape else targets
    made = partial(Head, targets=targets.ravel(), inputs=inputs.ravel(), shape=targets.shape)
    called = scene.call.outputs if scene.what == "loss" and scene.call else []
    if called and called[0].shape[:-1] == targets.shape:
        yield made(logits=called[0].reshape(-1, called[0].shape[-1]))
        return
    x = scene.features
    if x is None or x.shape[:-1] != targets.shape:
        return
    features = x.reshape(-1, x.shape[-1])
    for table in scene.everything.values():
        if table.ndim == 2 and table.shape[1] == x.shape[-1] and len(table) > targets.max():
            yield made(logits=features @ table.T, features=features, table=table)


def losses(scene: Scene) -> Iterator[Guess]:
    """Cross-entropy, by what it is divided by and who counts."""
    for found in heads(scene) if scene.what == "loss" else ():
        for name, value in _sums(found, found.targets):
            yield name, np.asarray(value)
        for name, value in _sums(found, found.inputs):
            yield f"{name} of the inputs as targets", np.asarray(value)
        yield from _low(found)


def _sums(found: Head, targets: np.ndarray) -> Iterator[tuple[str, float]]:
    counts, n = found.counts, found.count
    first = found.picked(np.maximum(targets, 0))
    own, every = first * counts, first.sum()
    last = found.picked(np.where(targets < 0, -1, targets))
    yield "the mean over targets that count", own.sum() / n
    yield "a sum", own.sum()
    yield "the sum divided by all positions", own.sum() / counts.size
    yield "a mean in which ignored targets count as token 0", every / counts.size
    yield "a mean over targets that count, with ignored ones added as token 0", every / n
    yield (
        "a mean over targets that count, with ignored ones added as the last token",
        last.sum() / n,
    )
    if len(found.shape) == 2:
        yield from _by_rows(found, own, first)
    if found.table is not None:
        yield from _in_chunks(found, own)


def _by_rows(found: Head, own: np.ndarray, first: np.ndarray) -> Iterator[tuple[str, float]]:
    B, T = found.shape
    counts, n = found.counts.reshape(B, T), found.count
    yield "the sum divided by B", own.sum() / B
    yield "the sum divided by B (T - 1)", own.sum() / max(B * (T - 1), 1)
    later, rows = max(int(counts[:, 1:].sum()), 1), own.reshape(B, T)
    yield "the sum divided by the targets that count behind the first position", own.sum() / later
    yield "the sum without the last position", rows[:, :-1].sum() / n
    yield (
        "the mean without the last position",
        rows[:, :-1].sum() / max(int(counts[:, :-1].sum()), 1),
    )
    moved = np.roll(counts, 1, -1)
    yield (
        "a mean in which the mask of ignored targets stands one place on",
        (first.reshape(B, T) * moved).sum() / n,
    )


def _in_chunks(found: Head, own: np.ndarray) -> Iterator[tuple[str, float]]:
    """Where the loss is taken a few positions at a time."""
    N, n = len(own), found.count
    for left in range(1, N // 2):
        yield f"the mean without the last {left} of {N} positions", own[:-left].sum() / n
    for more in range(1, N):
        filled = own.sum() + more * np.log(found.logits.shape[-1])
        yield f"the mean with {more} positions of zeros filled in and counted", filled / n
    for chunk in range(1, N):
        cuts = range(0, N, chunk)
        sums = np.add.reduceat(own, cuts)
        counts = np.maximum(np.add.reduceat(found.counts.astype(int), cuts), 1)
        yield f"the mean of the means of chunks of {chunk}", float((sums / counts).mean())


def _low(found: Head) -> Iterator[Guess]:
    """In a lower precision: that of logits, or of the cross-entropy itself."""
    targets, counts = np.maximum(found.targets, 0), found.counts
    for name in LOW_PRECISIONS:
        logits = rounded(found.logits, name).astype(np.float64)
        value = (found.picked(targets, logits) * counts).sum() / found.count
        yield f"the mean of logits rounded to {name}", np.asarray(value)


def gradients(scene: Scene) -> Iterator[Guess]:
    """The loss's gradient at what it was given, and at the head's table."""
    for found in heads(scene):
        if found.table is None or found.features is None:
            return
        d = found.derived(np.maximum(found.targets, 0), found.counts)
        if scene.what == "out":
            yield from _at_features(found, d, scene.torch.shape)
        elif scene.what == "parameter" and scene.torch.shape == found.table.shape:
            yield from _at_table(found, d, scene)


def _at_features(found: Head, d: np.ndarray, shape: tuple[int, ...]) -> Iterator[Guess]:
    assert found.table is not None
    dx = d @ found.table
    yield "the mean's gradient", dx.reshape(shape)
    yield "the gradient of the sum, not of the mean", (found.count * dx).reshape(shape)
    pulled = found.derived(np.maximum(found.targets, 0), np.ones_like(found.counts))
    yield (
        "a gradient in which ignored targets pull as token 0",
        (pulled @ found.table).reshape(shape),
    )
    yield f"a gradient {UNPULLED}", (dx + found.pull @ found.table).reshape(shape)
    for chunk in range(1, len(dx)):
        cut = [dx[i : i + chunk] for i in range(0, len(dx), chunk)]
        for filled in (False, True):
            rest = np.zeros((-len(dx) % chunk if filled else 0, dx.shape[1]))
            turned = np.concatenate([*cut, rest][::-1] if not filled else _turned(cut, rest))
            name = f"the mean's gradient with its chunks of {chunk} positions in reverse"
            yield name, turned[: len(dx)].reshape(shape)


def _turned(cut: list[np.ndarray], rest: np.ndarray) -> list[np.ndarray]:
    """The last chunk first, filled up to a whole one."""
    return [cut[-1], rest, *cut[-2::-1]]


def _at_table(found: Head, d: np.ndarray, scene: Scene) -> Iterator[Guess]:
    """The head's part, and beside it a tied lookup's, which is told by the name of its guess."""
    assert found.features is not None
    lookup = scene.elsewhere.get(LOOKUP, np.zeros_like(scene.torch))
    whole = d.T @ found.features
    yield "both uses' gradient" if lookup.any() else "the mean's gradient", lookup + whole
    yield LOOKUP, lookup
    yield (
        "a gradient whose head's part is that of the sum, not of the mean",
        (lookup + found.count * whole),
    )
    pulled = found.derived(np.maximum(found.targets, 0), np.ones_like(found.counts))
    yield "a gradient in which ignored targets pull as token 0", lookup + pulled.T @ found.features
    yield (
        f"a gradient whose head's part is one {UNPULLED}",
        lookup + (d + found.pull).T @ found.features,
    )
    for last in range(1, len(d)):
        part = d[-last:].T @ found.features[-last:]
        yield f"a gradient with the head's part of the last {last} positions alone", lookup + part


UNPULLED = "of the softmax alone, without the one at the target"
LOOKUP = "the lookup's part of the tied gradient alone"
