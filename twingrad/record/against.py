"""A pair whose one side is a record: the two put together, and what has to agree."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from twingrad.arithmetic import arithmetic
from twingrad.decoding.runs import tokens_of
from twingrad.foreign import Array
from twingrad.live import LivePair
from twingrad.pair import Pair
from twingrad.record.content import Content
from twingrad.record.files import read
from twingrad.record.recorded import Record
from twingrad.sides import TITLES, Framework


def other_side(side: Framework) -> Framework:
    """The framework that ``side`` is judged with."""
    return "jax" if side == "torch" else "torch"


def recorded(folder: Path) -> Record:
    """The record in ``folder``. Raises ``ValueError`` where there is none, or it is damaged."""
    return Record(read(folder))


def against(pair: Pair, record: Record, folder: Path) -> Pair:
    """``pair`` with ``record`` in place of the recorded side.

    Raises ``ValueError`` where the pair lacks the other side, or says otherwise than the record how
    models are run, on which batch, and whether and what they decode.
    """
    content = record.content
    side, here = content.side, other_side(content.side)
    if getattr(pair, here) is None:
        raise ValueError(
            f"{folder} is a record of {TITLES[side]}, and the pair has no {here}: give "
            f"{TITLES[here]}'s model as Pair({here}=...)"
        )
    for name in ("train", "copy"):
        if getattr(pair, name) != getattr(content, name):
            raise ValueError(
                f"{name} is {getattr(pair, name)} in the pair and {getattr(content, name)} in "
                f"{folder}: say the same, or record it again"
            )
    if (getattr(pair, f"{here}_loss") is not None) != content.has_loss:
        has = "a loss" if content.has_loss else "no loss of its own"
        raise ValueError(
            f"{TITLES[side]} was recorded with {has} in {folder}: give both sides a loss, or "
            "neither"
        )
    _require_batch(pair, content, folder)
    _require_decoding(pair, content, folder)
    if side == "torch":
        jax_batch = pair.jax_batch or pair.batch
        return replace(
            pair, torch=record, torch_loss=None, torch_optimizer=None, torch_decode=None,
            batch=content.batch, jax_batch=jax_batch, tokens=content.tokens,
        )  # fmt: skip
    return replace(
        pair, jax=record, jax_loss=None, jax_optimizer=None, jax_decode=None,
        jax_batch=content.batch, tokens=content.tokens,
    )  # fmt: skip


def numbers(pair: Pair, record: Record, folder: Path) -> dict[str, Array]:
    """The numbers of ``record`` as the live side of ``pair`` has them, by its own names.

    Raises ``ValueError`` where parameters have no partner, and as ``against`` does.
    """
    whole = against(pair, record, folder)
    if not pair.copy:
        raise ValueError(
            f"copy is False in the pair, which keeps its own numbers: leave out --like {folder}"
        )
    with arithmetic("float64"):
        try:
            live = LivePair.build(whole, "float64", lift=True)
        except ValueError:
            live = LivePair.build(whole, "float64")
        if record.framework == "jax":
            return {name: x.copy() for name, x in live.torch.views().items()}
        return {path: np.asarray(x) for path, x in live.jax.tensors.items()}


def _require_batch(pair: Pair, content: Content, folder: Path) -> None:
    """Raise ``ValueError`` unless the pair's batch is the recorded one, as far as it can be told.

    Where the pair has only the batch of the side that is judged, it has to hold the same numbers,
    in whatever layout.
    """
    side = content.side
    both = pair.torch is not None and pair.jax is not None
    knows = both or pair.jax_batch is not None
    its_own = pair.batch if side == "torch" else pair.jax_batch or pair.batch
    if len(its_own) != len(content.batch):
        raise ValueError(
            f"the batch has {len(its_own)} arrays in the pair and {len(content.batch)} in "
            f"{folder}: give the batch that was recorded, or record it again"
        )
    for number, (x, y) in enumerate(zip(its_own, content.batch, strict=True)):
        if not (np.array_equal(x, y) if knows else _holds_the_same(x, y)):
            raise ValueError(
                f"array {number} of the batch, of shape {x.shape}, holds other numbers than in "
                f"{folder}, where its shape is {y.shape}: give the batch that was recorded, or "
                "record it again"
            )


def _require_decoding(pair: Pair, content: Content, folder: Path) -> None:
    """Raise ``ValueError`` unless both sides decode, and the same tokens, or neither does."""
    here = other_side(content.side)
    decodes = getattr(pair, f"{here}_decode") is not None
    if decodes and content.tokens is None:
        raise ValueError(
            f"the pair has {here}_decode, and {folder} holds no decoding: record it again from a "
            f"file with {content.side}_decode, or leave {here}_decode out"
        )
    if content.tokens is not None and not decodes:
        raise ValueError(
            f"{folder} holds what {TITLES[content.side]} decodes, and the pair has no "
            f"{here}_decode: give it, or record it again from a file without {content.side}_decode"
        )
    if content.tokens is not None and not np.array_equal(tokens_of(pair), content.tokens):
        raise ValueError(
            f"the pair decodes other tokens than were decoded for {folder}: give both files the "
            "same Pair(tokens=...), or record it again"
        )


def _holds_the_same(x: Array, y: Array) -> bool:
    """Whether two arrays have the same numbers in some order."""
    return x.size == y.size and np.array_equal(np.sort(x, axis=None), np.sort(y, axis=None))
