"""Cross-entropy and its gradients: by divisor, ignored targets, and parts left out."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from twingrad.diagnosis.hypotheses.context import LOW_PRECISIONS, Context, Hypothesis, rounded
from twingrad.foreign import Array


@dataclass(frozen=True, kw_only=True)
class Head:
    """Logits and targets; features and table of the logits where the head is a table [V, C].

    Arrays are flat over positions: logits [N, V], targets [N], features [N, C]. ``shifted`` says
    that each position's target is the next one's.
    """

    logits: Array
    targets: Array
    inputs: Array
    shape: tuple[int, ...]
    features: Array | None = None
    table: Array | None = None
    shifted: bool = False

    @property
    def counts(self) -> Array:
        """Which targets are not ignored, as negative ones are."""
        return self.targets >= 0

    @property
    def count(self) -> int:
        """Number of targets that are not ignored, at least 1."""
        return max(int(self.counts.sum()), 1)

    def picked(self, targets: Array, logits: Array | None = None) -> Array:
        """Each position's cross-entropy, whether it counts or not."""
        logits = self.logits if logits is None else logits
        top = logits.max(-1, keepdims=True)
        logs = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
        picked: Array = np.take_along_axis(logs, targets[:, None] % logs.shape[-1], -1)[:, 0]
        return -picked

    @property
    def nowhere(self) -> Array:
        """Each position's cross-entropy where an ignored target is a one-hot of zeros."""
        top = self.logits.max(-1)
        whole: Array = top + np.log(np.exp(self.logits - top[:, None]).sum(-1))
        return np.where(self.counts, self.picked(np.maximum(self.targets, 0)), whole)

    def derived(self, targets: Array, counts: Array) -> Array:
        """The mean's gradient at the logits, [N, V]: softmax less one at the target."""
        exp = np.exp(self.logits - self.logits.max(-1, keepdims=True))
        d = exp / exp.sum(-1, keepdims=True)
        d[np.arange(len(d)), targets] -= 1
        derivative: Array = d * counts[:, None] / self.count
        return derivative

    @property
    def pull(self) -> Array:
        """The target's part of the mean's gradient: one over the count at each target."""
        ones = np.zeros_like(self.logits)
        ones[np.arange(len(ones)), np.maximum(self.targets, 0)] = self.counts / self.count
        return ones


def heads(context: Context) -> Iterator[Head]:
    """The model's logits; else for each table that could be a head, the logits it gives."""
    if not context.batch:
        return
    targets, inputs = context.batch[-1], context.batch[0]
    if targets.dtype.kind not in "iu":
        return
    inputs = inputs if inputs.shape == targets.shape else targets
    head_of = partial(Head, targets=targets.ravel(), inputs=inputs.ravel(), shape=targets.shape)
    called = context.call.outputs if context.what == "loss" and context.call else []
    logits = next((x for x in called if x.ndim and x.shape[:-1] == targets.shape), None)
    if logits is not None:
        yield head_of(logits=logits.reshape(-1, logits.shape[-1]))
        yield from _of_next(logits, targets, inputs)
        return
    x = context.features
    if x is None or x.shape[:-1] != targets.shape:
        return
    features = x.reshape(-1, x.shape[-1])
    for table in context.everything.values():
        if table.ndim == 2 and table.shape[1] == x.shape[-1] and len(table) > targets.max():
            yield head_of(logits=features @ table.T, features=features, table=table)


def _of_next(logits: Array, targets: Array, inputs: Array) -> Iterator[Head]:
    """Each position's target is the next, as models have it that shift labels themselves."""
    if targets.ndim != 2 or targets.shape[1] < 2:
        return
    later, width = targets[:, 1:], logits.shape[-1]
    yield Head(
        logits=logits[:, :-1].reshape(-1, width),
        targets=later.ravel(),
        inputs=inputs[:, :-1].ravel(),
        shape=later.shape,
        shifted=True,
    )


def losses(context: Context) -> Iterator[Hypothesis]:
    """Cross-entropy, by divisor and ignored targets."""
    for head in heads(context) if context.what == "loss" else ():
        which = ", each position's target the next" if head.shifted else ""
        for name, value in _sums(head, head.targets):
            yield name + which, np.asarray(value)
        for name, value in () if head.shifted else _sums(head, head.inputs):
            yield f"{name} of the inputs as targets", np.asarray(value)
        yield from _low(head)


def _sums(head: Head, targets: Array) -> Iterator[tuple[str, float]]:
    counts, n = head.counts, head.count
    first = head.picked(np.maximum(targets, 0))
    counted, every = first * counts, first.sum()
    last = head.picked(np.where(targets < 0, -1, targets))
    yield "the mean over targets that count", counted.sum() / n
    yield "a sum", counted.sum()
    yield "the sum divided by all positions", counted.sum() / counts.size
    yield "a mean in which ignored targets count as token 0", every / counts.size
    yield "a mean over targets that count, with ignored ones added as token 0", every / n
    yield (
        "a mean over targets that count, with ignored ones added as the last token",
        last.sum() / n,
    )
    if targets is head.targets:
        whole = head.nowhere.sum()
        yield "a mean in which ignored targets count as no token", whole / counts.size
        yield "a mean over targets that count, with ignored ones added as no token", whole / n
    if len(head.shape) == 2:
        yield from _by_rows(head, counted, first)
    if head.table is not None:
        yield from _in_chunks(head, counted)


def _by_rows(head: Head, counted: Array, first: Array) -> Iterator[tuple[str, float]]:
    B, T = head.shape
    counts, n = head.counts.reshape(B, T), head.count
    yield "the sum divided by B", counted.sum() / B
    yield "the sum divided by B (T - 1)", counted.sum() / max(B * (T - 1), 1)
    later, rows = max(int(counts[:, 1:].sum()), 1), counted.reshape(B, T)
    yield (
        "the sum divided by the targets that count behind the first position",
        counted.sum() / later,
    )
    yield "the sum without the last position", rows[:, :-1].sum() / n
    yield (
        "the mean without the last position",
        rows[:, :-1].sum() / max(int(counts[:, :-1].sum()), 1),
    )
    moved = np.roll(counts, 1, -1)
    for losses in (first, head.nowhere):
        yield (
            "a mean in which the mask of ignored targets stands one place on",
            (losses.reshape(B, T) * moved).sum() / n,
        )


def _in_chunks(head: Head, counted: Array) -> Iterator[tuple[str, float]]:
    """Where the loss is taken a few positions at a time."""
    N, n = len(counted), head.count
    for left in range(1, N // 2):
        yield f"the mean without the last {left} of {N} positions", counted[:-left].sum() / n
    for more in range(1, N):
        filled = counted.sum() + more * np.log(head.logits.shape[-1])
        yield f"the mean with {more} positions of zeros filled in and counted", filled / n
    for chunk in range(1, N):
        cuts = range(0, N, chunk)
        sums = np.add.reduceat(counted, cuts)
        counts = np.maximum(np.add.reduceat(head.counts.astype(int), cuts), 1)
        yield f"the mean of the means of chunks of {chunk}", float((sums / counts).mean())


def _low(head: Head) -> Iterator[Hypothesis]:
    """In a lower precision: that of logits, or of the cross-entropy itself."""
    targets, counts = np.maximum(head.targets, 0), head.counts
    for name in LOW_PRECISIONS:
        logits = rounded(head.logits, name).astype(np.float64)
        value = (head.picked(targets, logits) * counts).sum() / head.count
        yield f"the mean of logits rounded to {name}", np.asarray(value)


def gradients(context: Context) -> Iterator[Hypothesis]:
    """The loss's gradient at its features, and at the head's table."""
    for head in heads(context):
        if head.table is None or head.features is None:
            return
        d = head.derived(np.maximum(head.targets, 0), head.counts)
        if context.what == "out" and context.torch.size == head.features.size:
            yield from _at_features(head, head.table, d, context.torch.shape)
        elif context.what == "parameter" and context.torch.shape == head.table.shape:
            yield from _at_table(head, head.features, d, context)


def _at_features(
    head: Head, table: Array, d: Array, shape: tuple[int, ...]
) -> Iterator[Hypothesis]:
    dx = d @ table
    yield "the mean's gradient", dx.reshape(shape)
    yield "the gradient of the sum, not of the mean", (head.count * dx).reshape(shape)
    pulled = head.derived(np.maximum(head.targets, 0), np.ones_like(head.counts))
    yield (
        "a gradient in which ignored targets pull as token 0",
        (pulled @ table).reshape(shape),
    )
    yield f"a gradient {UNPULLED}", (dx + head.pull @ table).reshape(shape)
    for chunk in range(1, len(dx)):
        cut = [dx[i : i + chunk] for i in range(0, len(dx), chunk)]
        for filled in (False, True):
            rest = np.zeros((-len(dx) % chunk if filled else 0, dx.shape[1]))
            turned = np.concatenate([*cut, rest][::-1] if not filled else _turned(cut, rest))
            name = f"the mean's gradient with its chunks of {chunk} positions in reverse"
            yield name, turned[: len(dx)].reshape(shape)


def _turned(cut: list[Array], rest: Array) -> list[Array]:
    """The last chunk first, filled up to a whole one."""
    return [cut[-1], rest, *cut[-2::-1]]


def _at_table(head: Head, features: Array, d: Array, context: Context) -> Iterator[Hypothesis]:
    """The gradient of the head's table, and of a tied lookup in it."""
    lookup = np.zeros_like(context.torch) if context.lookup is None else context.lookup
    whole = d.T @ features
    yield "both uses' gradient" if lookup.any() else "the mean's gradient", lookup + whole
    yield LOOKUP, lookup
    yield (
        "a gradient whose head's part is that of the sum, not of the mean",
        (lookup + head.count * whole),
    )
    pulled = head.derived(np.maximum(head.targets, 0), np.ones_like(head.counts))
    yield "a gradient in which ignored targets pull as token 0", lookup + pulled.T @ features
    yield (
        f"a gradient whose head's part is one {UNPULLED}",
        lookup + (d + head.pull).T @ features,
    )
    for last in range(1, len(d)):
        part = d[-last:].T @ features[-last:]
        yield f"a gradient with the head's part of the last {last} positions alone", lookup + part


UNPULLED = "of the softmax alone, without the one at the target"
LOOKUP = "the lookup's part of the tied gradient alone"
