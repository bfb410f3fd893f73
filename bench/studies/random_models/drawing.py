"""Draws models at random, and changes that are planted in one of their two versions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from bench.studies.random_models.specification import (
    ACTIVATIONS,
    KINDS,
    Block,
    BlockKind,
    Input,
    Norm,
    Readout,
    Specification,
    Style,
    image_sizes,
)

SEED = 2026
T = TypeVar("T")


@dataclass(frozen=True)
class Change:
    """What differs in JAX's version: its specification, the place by PyTorch's name, and words."""

    spec: Specification
    place: str
    words: str


class Draw:
    """Random choices, the same for a number each time."""

    def __init__(self, *seed: int):
        self.random = np.random.default_rng((SEED, *seed))

    def one(self, choices: Sequence[T]) -> T:
        """One of ``choices``."""
        return choices[int(self.random.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        """True in this share of the draws."""
        return bool(self.random.random() < share)

    def number(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``."""
        return int(self.random.integers(low, high + 1))


def specification(number: int) -> Specification:
    """The model with this number; the kinds of JAX take turns."""
    draw = Draw(number)
    kind = KINDS[number % len(KINDS)]
    inputs: tuple[Input, ...] = ("tokens", "tokens", "vectors", "vectors", "images")
    source = draw.one(inputs)
    torch, jax = _styles(draw)
    spec = Specification(
        number=number,
        kind=kind,
        input=source,
        batch=draw.one((2, 4)),
        length=draw.one((8, 11)) if source == "images" else draw.one((5, 8)),
        width=draw.one((3, 4)) if source == "images" else draw.one((8, 12, 24)),
        vocabulary=draw.one((19, 37)),
        outputs=draw.one((3, 6)),
        blocks=(),
        torch=torch,
        jax=jax,
    )
    return _images(spec, draw) if source == "images" else _sequences(spec, draw)


def _styles(draw: Draw) -> tuple[Style, Style]:
    """How the two versions are written: precision floors on both sides, on one, or on none."""
    floors: dict[str, tuple[bool, bool]] = {}
    for name in ("low_norm", "low_softmax", "low_activation", "low_tables"):
        floors[name] = draw.one([(False, False), (False, False), (True, True), (True, False),
                                 (False, True)])  # fmt: skip
    torch = Style(modules=draw.chance(0.5), **{name: pair[0] for name, pair in floors.items()})
    jax = Style(
        renamed=draw.chance(0.5),
        fused=draw.chance(0.4),
        flat=draw.chance(0.2),
        **{name: pair[1] for name, pair in floors.items()},
    )
    return torch, replace(jax, fused=jax.fused and not jax.flat)


def _sequences(spec: Specification, draw: Draw) -> Specification:
    kinds: tuple[BlockKind, ...] = ("mlp", "gated", "attention", "attention", "recurrent")
    blocks = tuple(_block(draw, draw.one(kinds), spec.width) for _ in range(draw.number(1, 3)))
    every = spec.input == "tokens" and draw.chance(0.6)
    classes = every or draw.chance(0.5)
    tied = every and draw.chance(0.5)
    return replace(
        spec,
        blocks=blocks,
        positions=spec.input == "tokens" and draw.chance(0.5),
        tied=tied,
        final_norm=draw.chance(0.7),
        readout="every" if every else draw.one(("mean", "last")),
        loss="cross-entropy" if classes else "mean square",
        outputs=spec.vocabulary if every else spec.outputs,
        ignored=every and draw.chance(0.5),
    )


def _images(spec: Specification, draw: Draw) -> Specification:
    blocks: list[Block] = []
    channels = spec.width
    for _ in range(draw.number(1, 3)):
        made = _convolution(draw, channels)
        if image_sizes(replace(spec, blocks=(*blocks, made)))[-1] < 2:
            made = replace(made, stride=1, pool="none")
        blocks.append(made)
        channels = made.hidden
    return replace(
        spec,
        blocks=tuple(blocks),
        final_norm=False,
        readout="mean",
        loss=draw.one(("cross-entropy", "mean square")),
        jax=replace(spec.jax, fused=False, flat=False),
    )


def _convolution(draw: Draw, channels: int) -> Block:
    groups = draw.one((1, 1, channels))
    hidden = channels * draw.one((1, 2)) if groups > 1 else draw.one((6, 8, 12))
    norm: Norm = draw.one(("layer", "none"))  # over groups of channels
    same = hidden == channels
    return Block(
        kind="convolution",
        width=channels,
        hidden=hidden,
        norm=norm,
        norm_groups=draw.one([n for n in (1, 2, 3, hidden) if hidden % n == 0]),
        epsilon=draw.one((1e-5, 1e-6, 1e-3)),
        bias=draw.chance(0.5),
        residual=same and draw.chance(0.5),
        activation=draw.one(ACTIVATIONS),
        window=draw.one((1, 3, 5)),
        stride=1 if same else draw.one((1, 2)),
        groups=groups,
        pool="none" if same else draw.one(("none", "max", "mean")),
    )


def _block(draw: Draw, kind: BlockKind, width: int) -> Block:
    heads = draw.one([n for n in (1, 2, 3, 4) if width % n == 0])
    size = draw.one((4, 6))
    hidden = heads * size if kind == "attention" else draw.one((8, 20))
    norm: Norm = draw.one(("layer", "layer", "rms", "rms", "none"))
    return Block(
        kind=kind,
        width=width,
        hidden=hidden,
        norm=norm,
        norm_first=draw.chance(0.7),
        epsilon=draw.one((1e-5, 1e-6, 1e-8, 1e-3)),
        bias=draw.chance(0.6),
        residual=draw.chance(0.8),
        activation=draw.one(ACTIVATIONS),
        heads=heads,
        kv_heads=draw.one([n for n in range(1, heads + 1) if heads % n == 0]),
        causal=draw.chance(0.5),
        rotary=draw.one(("none", "halves", "pairs")),
        base=draw.one((100.0, 10000.0, 500000.0)),
        scaled=draw.chance(0.9),
    )


def change(spec: Specification) -> Change:
    """A change of JAX's version that alters its numbers, at a place drawn at random."""
    draw = Draw(spec.number, 1)
    options: list[Change] = []
    for number, block in enumerate(spec.blocks):
        for words, part, changed in _changed(block, spec.length, draw):
            blocks = (*spec.blocks[:number], changed, *spec.blocks[number + 1 :])
            place = f"blocks.{number}{part}"
            options.append(Change(replace(spec, blocks=blocks), place, words))
    if spec.readout != "every" and spec.input != "images":
        other: Readout = "last" if spec.readout == "mean" else "mean"
        options.append(Change(replace(spec, readout=other), "model", f"the {other} is read out"))
    options.append(Change(replace(spec, summed=True), "loss", "the loss is a sum"))
    return draw.one(options)


def _changed(block: Block, length: int, draw: Draw) -> list[tuple[str, str, Block]]:
    """Every change of a block: what it is, the part of the block, and the block."""
    made: list[tuple[str, str, Block]] = []

    def add(words: str, part: str = "", **fields: object) -> None:
        made.append((words, part, replace(block, **fields)))  # type: ignore[arg-type]

    if block.norm != "none":
        add(
            "another epsilon",
            ".norm",
            epsilon=block.epsilon * 100 if block.epsilon > 1e-7 else 1e-3,
        )
    if block.residual:
        add("no residual", residual=False)
    if block.kind in ("mlp", "gated", "convolution"):
        add("another activation", activation=draw.one(others(ACTIVATIONS, block.activation)))
    if block.kind == "gated":
        add("gate and up exchanged", exchanged=True)
    if block.kind == "attention":
        add("another mask", causal=not block.causal)
        add("scores not scaled" if block.scaled else "scores scaled", scaled=not block.scaled)
        if block.rotary != "none":
            other = "pairs" if block.rotary == "halves" else "halves"
            add("another rotary style", rotary=other)
            add("another rotary base", base=50.0)
        if 1 < block.kv_heads < block.heads:
            add("key and value heads tiled", tiled=True)
    if block.kind == "recurrent":
        add("gates in another order", gate_order=(0, 1, 3, 2))
    if block.pool != "none":
        add("another pooling", pool="mean" if block.pool == "max" else "max")
    return made


def others(choices: Sequence[T], but: T) -> list[T]:
    """All choices but one."""
    return [choice for choice in choices if choice != but]
