"""Batches of a long text for training and validation: shuffled, sharded, prefetched, resumable.

Grain computes the batch at any position of the endless stream, so resuming from a checkpoint is one
assignment, and no batch is drawn twice or left out.
"""

import sys
from collections.abc import Iterator, Mapping
from types import ModuleType

import numpy as np
from jaxtyping import Int32

from shared.config import IGNORED
from shared.corpus import Tokens
from shared.files import Json, JsonObject

# Threads that read ahead, and how many batches, so that no step waits for the disk.
_THREADS, _AHEAD = 2, 8


class Windows:
    """Windows that overlap by one token: ``tokens[i*T : i*T + T + 1]``, int32 [T+1], is number i.

    Each token is an input once and a target once. Raises ``ValueError`` if ``tokens``, called
    ``part`` in the message, are shorter than one window.
    """

    def __init__(self, tokens: Tokens, length: int, part: str = "data") -> None:
        if length < 1:
            raise ValueError(f"length is {length}: expected 1 or more")
        if len(tokens) <= length:
            raise ValueError(
                f"the {part} has {len(tokens)} tokens, under one window of {length + 1}: "
                f"give more text, or a context_length of {max(len(tokens) - 1, 1)} or less"
            )
        self._tokens, self._length = tokens, length

    def __len__(self) -> int:
        return (len(self._tokens) - 1) // self._length

    def __getitem__(self, i: int) -> Int32[np.ndarray, "W"]:
        if not 0 <= i < len(self):
            raise IndexError(f"window {i}: expected 0 to {len(self) - 1}")
        start = i * self._length
        return np.asarray(self._tokens[start : start + self._length + 1]).astype(np.int32)


class Loader:
    """An endless iterator over ``(inputs, targets)``, int32 [A, B, T] each, of ``tokens``.

    A is ``micro_batches``, T is ``length`` and A * B the ``batch_size`` of all processes over their
    number. ``shard`` is this process's rank and their number: of each micro-batch it holds the rows
    that come after those of the ranks before it. The windows' order depends on ``seed`` and changes
    with each epoch; without ``shuffle`` it is that of the text. Raises ``ValueError``.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        length: int,
        batch_size: int,
        seed: int,
        micro_batches: int = 1,
        shard: tuple[int, int] = (0, 1),
        shuffle: bool = True,
    ) -> None:
        rank, count = shard
        if not 0 <= rank < count:
            raise ValueError(f"shard is {shard}: expected a rank from 0 and their number")
        if micro_batches < 1:
            raise ValueError(f"micro_batches is {micro_batches}: expected 1 or more")
        if batch_size < 1 or batch_size % (micro_batches * count):
            raise ValueError(
                f"batch_size {batch_size} is not divisible by {micro_batches} micro-batches times "
                f"{count} processes: choose a multiple of {micro_batches * count}"
            )
        if not 0 <= seed < 1 << 32:
            raise ValueError(f"seed is {seed}: expected a whole number from 0 to {(1 << 32) - 1}")
        windows = Windows(tokens, length, "training part")
        self._windows = len(windows)
        self._order = {
            "seed": seed,
            "length": length,
            "batch_size": batch_size,
            "tokens": len(tokens),
            "shuffle": shuffle,
        }
        grain = _grain()
        dataset = grain.MapDataset.source(windows)
        if shuffle:
            # Grain adds the epoch to the seed: neighbouring seeds would share their epochs.
            mixed = int(np.random.SeedSequence(seed).generate_state(1)[0])
            dataset = dataset.shuffle(seed=mixed)
        # Each rank takes a run of rows; the runs of all ranks, in their order, are a micro-batch.
        # An endless stream has no remainder to drop, but Grain then counts in whole numbers.
        rows = batch_size // (micro_batches * count)
        runs = dataset.repeat().batch(rows, drop_remainder=True)[rank::count]
        dataset = runs.batch(micro_batches, drop_remainder=True)
        ahead = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_AHEAD)
        self._batches = iter(dataset.to_iter_dataset(ahead))

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self

    def __next__(self) -> tuple[Int32[np.ndarray, "A B T"], Int32[np.ndarray, "A B T"]]:
        rows = next(self._batches)
        return np.ascontiguousarray(rows[..., :-1]), np.ascontiguousarray(rows[..., 1:])

    @property
    def epoch(self) -> float:
        """Number of passes over the text so far; 0.5 is half a pass."""
        return self._handed_out() * self._order["batch_size"] / self._windows

    def state(self) -> JsonObject:
        """Position of the loader, as plain JSON: batches handed out, and settings of their order.

        It is valid for any number of processes and micro-batches.
        """
        return {"batches": self._handed_out(), **self._order}

    def restore(self, state: Mapping[str, Json]) -> None:
        """Continue with the batch that follows ``state``.

        Raises ``ValueError`` naming the field in which the order of the data differs.
        """
        for name, asked in self._order.items():
            if name not in state:
                raise ValueError(
                    f"the loader's state has no {name!r}: expected that of a checkpoint"
                )
            if state[name] != asked:
                raise ValueError(
                    f"the loader's state has {name} {state[name]!r}, asked {asked!r}: resume with "
                    "the data and settings that the run began with"
                )
        batches = state.get("batches")
        if not isinstance(batches, int) or isinstance(batches, bool) or not 0 <= batches < 1 << 48:
            raise ValueError(
                f"the loader's state has batches {batches!r}: expected a whole number, 0 or more"
            )
        self._batches.set_state({"next_index": batches})

    def _handed_out(self) -> int:
        return int(self._batches.get_state()["next_index"])


def validation_batches(
    tokens: Tokens, *, length: int, batch_size: int, limit: int | None = None
) -> Iterator[tuple[Int32[np.ndarray, "B T"], Int32[np.ndarray, "B T"]]]:
    """``(inputs, targets)``, int32 [B, T] each, of ``tokens`` in order, once.

    At most ``limit`` batches, of windows that are spread evenly over the text. The last batch is
    filled up with rows whose targets are ``IGNORED``. Raises ``ValueError``.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected 1 or more")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: expected 1 or more batches")
    windows = Windows(tokens, length, "validation part")
    count = len(windows) if limit is None else min(len(windows), limit * batch_size)
    # Not a generator itself, which would raise at its first batch only.
    return _in_order(windows, np.arange(count) * len(windows) // count, length, batch_size)


def _in_order(
    windows: Windows, chosen: np.ndarray, length: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(chosen), batch_size):
        inputs = np.zeros((batch_size, length), np.int32)
        targets = np.full((batch_size, length), IGNORED, np.int32)
        for row, i in enumerate(chosen[start : start + batch_size]):
            window = windows[int(i)]
            inputs[row], targets[row] = window[:-1], window[1:]
        yield inputs, targets


def _grain() -> ModuleType:
    """Grain, loaded at its first use and without JAX.

    Grain loads JAX where that is installed, for its trees and its profiler: seconds that a program
    in PyTorch need not spend. Without JAX it uses trees of its own, so JAX is hidden from it here.
    A later import of JAX works as usual.
    """
    if "grain" not in sys.modules:
        from absl import logging

        hidden, verbosity = "jax" not in sys.modules, logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)  # it warns of the missing profiler
        if hidden:
            sys.modules["jax"] = None  # type: ignore[assignment]
        try:
            import grain
        finally:
            logging.set_verbosity(verbosity)
            if hidden:
                del sys.modules["jax"]
        return grain
    return sys.modules["grain"]
