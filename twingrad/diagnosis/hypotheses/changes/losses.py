"""Losses with another reduction, direction, smoothing or treatment of ignored targets."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from twingrad.diagnosis.hypotheses.changes.alternative import (
    Alternative,
    Alternatives,
    first,
    using,
)
from twingrad.torch_replay import Compute, Operation

Reduce = Callable[[Tensor], Tensor]


def _target(op: Operation) -> Tensor:
    target: Tensor = op.argument("target", 1)
    return target


def _with(op: Operation, **kwargs: object) -> Tensor:
    """The loss with other settings, named; what was given by position stays."""
    result: Tensor = op.function(*op.args[:2], **{**_settings(op), **kwargs})
    return result


def _settings(op: Operation) -> dict[str, object]:
    """Settings without the old ones, which are spelt out otherwise."""
    return {k: v for k, v in op.kwargs.items() if k not in ("input", "size_average", "reduce")}


def _reductions(each: Tensor) -> dict[str, Reduce]:
    """Ways to add up a loss of every element."""
    ways: dict[str, Reduce] = {"the mean over all elements": torch.mean, "the sum": torch.sum}
    if each.ndim > 1:
        ways["the sum divided by the batch"] = lambda x: x.sum() / x.shape[0]
    if each.ndim > 2:
        ways["the sum over the last axis, then the mean"] = lambda x: x.sum(-1).mean()
    return ways


def elementwise(op: Operation) -> Iterator[Alternative]:
    """A loss of every element, added up otherwise; and swapped or broadcast arguments."""
    reduction = op.kwargs.get("reduction", "mean")
    own = {
        "mean": "the mean over all elements",
        "sum": "the sum",
        "batchmean": "the sum divided by the batch (batchmean)",
    }.get(reduction, reduction)
    each = _with(op, reduction="none")
    for words, reduce in _reductions(each).items():
        if words != own and reduction != "none":
            yield Alternative(
                f"{op.name}, {own}",
                words,
                using(reduce, lambda op, reduce: reduce(_with(op, reduction="none"))),
            )
    if op.name in ("smooth_l1_loss", "huber_loss"):
        yield from _robust(op)
    if op.name == "kl_div":
        yield from _divergence(op)
    if op.name in ("mse_loss", "l1_loss"):
        yield Alternative(op.name, "half of it", lambda op: op.plain() / 2)
        for other in {"mse_loss", "l1_loss", "smooth_l1_loss"} - {op.name}:
            yield Alternative(
                op.name,
                other,
                using(
                    other, lambda op, other: getattr(F, other)(*op.args[:2], reduction=reduction)
                ),
            )
    if first(op).ndim == 1 or 1 in first(op).shape:
        yield Alternative(
            f"{op.name} of element by element",
            "all pairs, as (N, 1) and (N,) broadcast to (N, N)",
            lambda op: op.function(
                first(op).reshape(-1, 1).expand(-1, _target(op).numel()),
                _target(op).reshape(1, -1).expand(first(op).numel(), -1),
                **_settings(op),
            ),
        )
    yield from _binary(op)


def _robust(op: Operation) -> Iterator[Alternative]:
    """Smooth L1 by beta is the Huber loss by delta, divided by it."""
    smooth = op.name == "smooth_l1_loss"
    bound = op.argument("beta", 5, 1.0) if smooth else op.argument("delta", 3, 1.0)
    reduction = op.kwargs.get("reduction", "mean")
    names = (f"smooth L1 with beta {bound:g}", f"the Huber loss with delta {bound:g}")
    own, other = names if smooth else names[::-1]

    def swapped(op: Operation) -> Tensor:
        if smooth:
            return F.huber_loss(first(op), _target(op), reduction=reduction, delta=bound)
        return F.smooth_l1_loss(first(op), _target(op), reduction=reduction, beta=bound)

    yield Alternative(own, other, swapped)
    for value in (1.0, 0.1, 0.5, 2.0):
        if value != bound:
            yield Alternative(
                own,
                f"a bound of {value:g}",
                using(value, lambda op, value: _with(op, **{"beta" if smooth else "delta": value})),
            )


def _divergence(op: Operation) -> Iterator[Alternative]:
    """The other direction, and a target that is a logarithm or not."""
    log_target = bool(op.kwargs.get("log_target", False))
    reduction = op.kwargs.get("reduction", "mean")
    reduces: dict[str, Reduce] = {
        "mean": torch.mean,
        "sum": torch.sum,
        "batchmean": lambda x: x.sum() / x.shape[0],
        "none": torch.clone,
    }
    reduce = reduces[reduction]

    def reversed_(op: Operation) -> Tensor:
        logs, target = first(op), _target(op)
        others = target if log_target else target.log()
        return reduce(logs.exp() * (logs - others))

    yield Alternative(
        "KL(target || prediction)", "the other direction, KL(prediction || target)", reversed_
    )
    yield Alternative(
        "KL(target || prediction)",
        "the cross-entropy alone, without the target's entropy",
        lambda op: reduce(-(_target(op).exp() if log_target else _target(op)) * first(op)),
    )


def _binary(op: Operation) -> Iterator[Alternative]:
    """Binary cross-entropy: targets turned round, weights of positives left out."""
    if not op.name.startswith("binary_cross_entropy"):
        return
    if op.kwargs.get("pos_weight") is not None:
        yield Alternative(
            "positives weighed (pos_weight)",
            "no weight",
            lambda op: op.function(*op.args, **{**op.kwargs, "pos_weight": None}),
        )
    yield Alternative(
        "targets as they are",
        "0 and 1 swapped",
        lambda op: op.function(first(op), 1 - _target(op), **op.kwargs),
    )


def cross_entropy(op: Operation) -> Iterator[Alternative]:
    """Reduction, ignored targets and smoothing of a cross-entropy."""
    target, smoothing = _target(op), float(op.kwargs.get("label_smoothing", 0.0))
    ignored = op.kwargs.get("ignore_index", -100)
    reduction = op.kwargs.get("reduction", "mean")
    if target.is_floating_point():
        return
    left_out = int((target == ignored).sum())
    own = f"the {reduction} of the cross-entropy"
    if left_out:
        own += f" over the {target.numel() - left_out} targets that are not ignored ({ignored})"
    for words, reduce in _entropies(op, left_out, ignored).items():
        if not (words == "the sum" and reduction == "sum"):
            yield Alternative(own, words, reduce)
    classes = first(op).shape[1 if first(op).ndim > 1 else 0]
    if smoothing:
        smooth = f"label smoothing {smoothing:g} over all {classes} classes"
        for share, words in (
            (smoothing * classes / (classes - 1), f"over the {classes - 1} others"),
            (0.0, "no label smoothing"),
        ):
            yield Alternative(
                smooth,
                words if share == 0 else f"smoothing {words} alone",
                using(share, lambda op, share: _with(op, label_smoothing=share)),
            )
        if left_out:
            yield Alternative(
                f"{own}, {smooth}",
                f"all {target.numel()} divided by, ignored ones counted by an empty one-hot",
                lambda op: _empty(op, ignored, smoothing),
            )
    else:
        for share in (0.1, 0.05, 0.2):
            yield Alternative(
                "no label smoothing",
                f"label smoothing {share:g}",
                using(share, lambda op, share: _with(op, label_smoothing=share)),
            )
    if op.kwargs.get("weight") is not None:
        yield from _weighted(op)
    if op.name == "cross_entropy" and not smoothing:
        yield from _other_softmax(op)


def _other_softmax(op: Operation) -> Iterator[Alternative]:
    """A softmax over positions, where it should be over classes.

    Positions may lie in one axis with the batch, of which they are any share.
    """
    x = first(op)
    own = f"a softmax over the {x.shape[1 if x.ndim > 1 else 0]} classes"

    def compute(op: Operation, over: Reduce) -> Tensor:
        kwargs = {k: v for k, v in _settings(op).items() if k != "label_smoothing"}
        return F.nll_loss(over(first(op)), _target(op), **kwargs)  # type: ignore[arg-type]

    if x.ndim == 2:
        for n in range(2, len(x) + 1):
            if len(x) % n == 0:
                words = f"one over {n} positions (along another axis)"
                yield Alternative(own, words, using(_by_positions(n), compute))
    for axis in range(2, x.ndim):
        words = f"one over the {x.shape[axis]} positions of axis {axis}"
        yield Alternative(own, words, using(_by_axis(axis), compute))


def _by_positions(n: int) -> Reduce:
    return lambda x: x.reshape(-1, n, x.shape[-1]).log_softmax(1).reshape(x.shape)


def _by_axis(axis: int) -> Reduce:
    return lambda x: x.log_softmax(axis)


def _entropies(op: Operation, left_out: int, ignored: int) -> dict[str, Compute]:
    """Names of reductions, and what each gives for the operation."""

    def total(op: Operation) -> Tensor:
        return _with(op, reduction="sum")

    target = _target(op)
    ways: dict[str, Compute] = {"the sum": total}
    if left_out:
        ways[f"the sum divided by all {target.numel()} targets, ignored ones too"] = lambda op: (
            total(op) / target.numel()
        )
        ways["ignored targets counted as class 0"] = lambda op: _counted(op, ignored, 0)
        ways["ignored targets counted as the last class"] = lambda op: _counted(op, ignored, -1)
    if target.ndim > 1:
        ways[f"the sum divided by the batch of {target.shape[0]}"] = lambda op: (
            total(op) / target.shape[0]
        )
        ways["the mean of every sequence's own mean"] = lambda op: _row_means(op, ignored)
    ways["the mean in bits (log 2)"] = lambda op: op.plain() / math.log(2)
    ways["its exponential (perplexity)"] = lambda op: op.plain().exp()
    return ways


def _counted(op: Operation, ignored: int, as_class: int) -> Tensor:
    x, target = first(op), _target(op)
    classes = x.shape[1 if x.ndim > 1 else 0]
    filled = torch.where(target == ignored, as_class % classes, target)
    result: Tensor = op.function(x, filled, **_settings(op))
    return result


def _row_means(op: Operation, ignored: int) -> Tensor:
    each, counts = _with(op, reduction="none"), (_target(op) != ignored)
    rows = each.flatten(1).sum(1) / counts.flatten(1).sum(1)
    return rows.mean()


def _empty(op: Operation, ignored: int, smoothing: float) -> Tensor:
    """The mean over all targets, where an ignored one's distribution is the smoothed part alone."""
    x, target = first(op), _target(op)
    logs = x.log_softmax(1)
    classes = x.shape[1]
    kept = torch.where(target == ignored, 0, target)
    picked = -logs.gather(1, kept.unsqueeze(1)).squeeze(1) * (target != ignored)
    each = (1 - smoothing) * picked - smoothing / classes * logs.sum(1)
    return each.mean()


def _weighted(op: Operation) -> Iterator[Alternative]:
    """Class weights: what they are divided by, or left out."""

    def by_count(op: Operation) -> Tensor:
        return _with(op, reduction="sum") / int((_target(op) >= 0).sum())

    yield Alternative(
        "the sum of weighted losses divided by the sum of weights", "by their number", by_count
    )
    yield Alternative("class weights", "no weights", lambda op: _with(op, weight=None))


def ctc(op: Operation) -> Iterator[Alternative]:
    """CTC: what each sequence's loss is divided by before the mean."""
    reduction = op.kwargs.get("reduction", op.args[5] if len(op.args) > 5 else "mean")
    lengths = torch.as_tensor(op.argument("target_lengths", 3))

    def each(op: Operation) -> Tensor:
        args = list(op.args[:5])
        kwargs = {k: v for k, v in op.kwargs.items() if k != "reduction"}
        result: Tensor = op.function(*args, **kwargs, reduction="none")
        return result

    own = {
        "mean": "each loss divided by the length of its target, then the mean",
        "sum": "the sum of the losses",
        "none": "every loss",
    }[reduction]
    ways: dict[str, Reduce] = {
        "the mean of the losses, not divided by any length": torch.mean,
        "the sum of the losses": torch.sum,
        "each loss divided by the length of its target, then the mean": lambda x: (
            x / lengths.clamp(min=1)
        ).mean(),
        "the sum of the losses divided by the sum of the target lengths": lambda x: (
            x.sum() / lengths.sum()
        ),
        "each loss divided by its input length, then the mean": lambda x: (
            x / torch.as_tensor(op.argument("input_lengths", 2))
        ).mean(),
    }
    for words, reduce in ways.items():
        if words != own:
            yield Alternative(own, words, using(reduce, lambda op, reduce: reduce(each(op))))


FAMILY: dict[str, Alternatives] = {
    **dict.fromkeys(
        ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "binary_cross_entropy",
         "binary_cross_entropy_with_logits", "poisson_nll_loss", "soft_margin_loss"],
        elementwise,
    ),
    **dict.fromkeys(["cross_entropy", "nll_loss"], cross_entropy),
    "ctc_loss": ctc,
}  # fmt: skip
