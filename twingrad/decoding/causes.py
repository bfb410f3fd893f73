"""Why decoding with a cache parts from the model's own forward pass.

Each cause is tried: the call that parts is made again with one thing put right, and the cause is
named if the numbers are then those of the forward pass.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from twingrad import numerics
from twingrad.decoding.displaced import STEPS_OFF
from twingrad.decoding.parting import Parted, one
from twingrad.decoding.rotation import family, turn, turned
from twingrad.decoding.runner import Path, Runner, entry, time_axes, with_entry
from twingrad.decoding.sessions import Session
from twingrad.foreign import Array, Tree

Leaves = dict[Path, Array]
SAME = 1e-9  # relative: how near an entry of a cache must be to one that it is taken for


def cause(on: Session, tokens: Array, dtype: str, parted: Parted) -> str | None:
    """Why a side parts from its own forward pass, in words; None where nothing explains it.

    Raises ``ValueError`` where its functions do not take what a trial gives them.
    """
    return on(_Trial(tokens, dtype, parted).cause)


@dataclass
class _Trial:
    """Calls of one side's functions around the one that parts."""

    tokens: Array
    dtype: str
    parted: Parted

    def __post_init__(self) -> None:
        self.rows, self.length = self.tokens.shape
        self.at = self.parted.position
        self.axes: dict[Path, int] = {}

    def cause(self, runner: Runner) -> str | None:
        """The first cause that explains the numbers."""
        self.runner = runner
        self.axes = time_axes(runner, self.rows, self.length)
        if not runner.leaves(runner.cache(self.rows, self.length)):
            return None  # what the model keeps in itself cannot be put right from here
        tries = self._of_a_prefill if not self.parted.stretch.number else self._of_a_step
        return next((text for text in tries() if text), None)

    def _is_right(self, call: Callable[[], tuple[Array, Tree]]) -> bool:
        """Whether a call such as the one that parted gives the forward pass's logits there."""
        stretch = self.parted.stretch
        after = stretch.first + stretch.logits.shape[1] - 1 - self.at
        return self._ends_right(call, 0 if stretch.number else after)

    def _ends_right(self, call: Callable[[], tuple[Array, Tree]], after: int = 0) -> bool:
        """Whether the logits of a call are the forward pass's, where ``after`` come after them."""
        try:
            logits = call()[0]
        except Exception:  # whatever somebody's code raises for what it was not made for
            return False
        place = logits.shape[1] - 1 - after
        return place >= 0 and one(logits[:, place], self.parted.reference, self.dtype).ok

    def _of_a_prefill(self) -> Iterator[str | None]:
        stretch, runner = self.parted.stretch, self.runner
        until = stretch.first + stretch.logits.shape[1]
        prompt = self.tokens[:, :until]
        short = partial(runner.step, prompt, runner.cache(self.rows, until), 0)
        if self._is_right(short):
            yield self._sees_empty_slots(f"a prompt of {until} tokens", until)
        ended = self.tokens[:, : self.at + 1]
        if self._ends_right(partial(runner.step, ended, runner.cache(self.rows, self.at + 1), 0)):
            yield (
                f"the mask lets position {self.at} see later ones: of a prompt that ends there, in "
                "a cache without empty slots, it is right"
            )
        runner.step(prompt, runner.cache(self.rows, self.length), 0)
        yield self._shifted(
            dict(runner.integers),
            np.arange(until),
            lambda shift: runner.step(prompt, runner.cache(self.rows, self.length), 0, shift),
        )

    def _of_a_step(self) -> Iterator[str | None]:
        cache = self._cache(self.at)
        good = self._good_cache()
        if good is not None:
            if self.axes:
                # Where steps turn keys and queries alike, they are right among themselves.
                yield from self._of_the_entry(cache, turned_alone=True)
                yield from self._of_what_was_left(*good)
            yield self._of_what_stayed()
            return
        yield from self._of_the_position(cache)
        if self.axes:
            short = self._cache(self.at, self.at + 1)
            if self._is_right(partial(self._step, short)):
                yield self._sees_empty_slots(f"a step at position {self.at}", self.at + 1)
            yield from self._of_the_entry(cache)

    # What the step is given, and what it leaves.

    def _cache(self, count: int, length: int | None = None, alone: bool = False) -> Tree:
        """A cache after ``count`` tokens, of a prompt or one by one."""
        cache = self.runner.cache(self.rows, length or self.length)
        if not alone:
            return self.runner.step(self.tokens[:, :count], cache, 0)[1] if count else cache
        for position in range(count):
            cache = self.runner.step(self.tokens[:, position : position + 1], cache, position)[1]
        return cache

    def _step(
        self, cache: Tree, position: int | None = None, shift: Mapping[str, int] | None = None,
        leaves: Mapping[Path, Array] | None = None,
    ) -> tuple[Array, Tree]:  # fmt: skip
        """The step that parted, with a copy of ``cache``."""
        given = self.runner.filled(cache, leaves or {})
        token = self.tokens[:, self.at : self.at + 1]
        where = self.at if position is None else position
        return self.runner.step(token, given, where, shift or {})

    def _good_cache(self) -> tuple[Tree, Leaves, Leaves] | None:
        """A cache from which the step is right, and its numbers and those of the one that it had.

        The tokens before are given it at once or one by one: the other way round than in the run
        that parts, or only the last of them apart.
        """
        if not self.at:
            return None
        was = self._cache_of_the_run(self.at)
        for alone in (False, True):
            cache = self._cache(self.at, alone=alone)
            if self._is_right(partial(self._step, cache)):
                return cache, self.runner.leaves(cache), self.runner.leaves(was)
        return None

    def _cache_of_the_run(self, until: int) -> Tree:
        """The cache that the run which parts has before it comes to a position."""
        stretch = self.parted.stretch
        prompt = 0 if stretch.alone else self.at - (stretch.number - 1)
        cache = self._cache(min(prompt, until))
        for position in range(prompt, until):
            cache = self.runner.step(self.tokens[:, position : position + 1], cache, position)[1]
        return cache

    # Causes.

    def _of_the_position(self, cache: Tree) -> Iterator[str | None]:
        for off in STEPS_OFF:
            if self._is_right(partial(self._step, cache, self.at - off)):
                yield (
                    f"the position is off by {off:+d} in the cached step: given {self.at - off} in "
                    f"place of {self.at}, it is right"
                )
        self._step(cache)
        yield self._shifted(
            dict(self.runner.integers), np.asarray(self.at),
            lambda shift: self._step(cache, shift=shift),
        )  # fmt: skip

    def _shifted(
        self, integers: Mapping[str, list[Array]], positions: Array,
        call: Callable[[Mapping[str, int]], tuple[Array, Tree]],
    ) -> str | None:  # fmt: skip
        """A module that is given positions which are off by as much everywhere."""
        for path, (first, *_) in ((p, found) for p, found in integers.items() if found):
            try:
                off = np.unique(first - positions)
            except ValueError:  # integers of another shape, such as classes
                continue
            if len(off) == 1 and off[0] and self._is_right(partial(call, {path: -int(off[0])})):
                return (
                    f"the position is off by {int(off[0]):+d} in the cached step: {path} is given "
                    f"{int(first.ravel()[-1])} at position {int(positions.ravel()[-1])}"
                )
        return None

    def _sees_empty_slots(self, what: str, length: int) -> str:
        return (
            f"the mask lets {what} see empty slots of the cache: in a cache of {length} positions, "
            "which has none, it is right"
        )

    def _of_the_entry(self, cache: Tree, turned_alone: bool = False) -> Iterator[str | None]:
        """The step's own keys and values: not there, at another index, or turned."""
        before = self.runner.leaves(cache)
        after = self.runner.leaves(self._step(cache)[1])
        right = self.runner.leaves(self._cache(self.at + 1))
        changed = self._changed(before, after)
        if turned_alone:
            yield from self._of_a_turn(cache, before, after, right)
        elif not changed:
            put = self._with({path: entry(right[path], *self._place(path)) for path in self.axes},
                             before)  # fmt: skip
            if self._is_right(partial(self._step, cache, leaves=put)):
                yield (
                    f"the cache is not updated: the step at position {self.at} attends to a cache "
                    "without its own keys and values, and leaves it as it was"
                )
        elif len(changed) == 1 and changed != [self.at] and self.at < self.length:
            (slot,) = changed
            source = before if slot < self.at else after
            moved = {p: entry(source[p], axis, slot) for p, axis in self.axes.items()}
            put = self._with(moved, before)
            if self._is_right(partial(self._step, cache, leaves=put)):
                yield self._written(f"the step at position {self.at}", slot, self.at)
        else:
            yield from self._of_a_turn(cache, before, after, right)

    def _of_a_turn(
        self, cache: Tree, before: Leaves, after: Leaves, right: Leaves
    ) -> Iterator[str | None]:
        """Rotary positions of the step: all keys before it, turned as far, make it right."""
        for path in self.axes:
            place = self._place(path)
            found = turned(entry(right[path], *place), entry(after[path], *place))
            if found is None:
                continue
            for keys in family(path, self.axes):
                put = {p: turn(before[p], self.axes[p], self.at, found) for p in keys}
                if self._is_right(partial(self._step, cache, leaves=put)):
                    off = self._off(path, found.angles)
                    as_at = f"as at position {self.at + off}" if off else "by other angles"
                    yield (
                        "the rotary position is off in the cached step: it turns queries and keys "
                        f"{as_at}, at position {self.at}"
                    )

    def _off(self, path: Path, angles: Array) -> int | None:
        """How many positions such angles are, by what a prompt that begins one later has."""
        two = self.tokens[:, :2]
        caches = [
            self.runner.leaves(
                self.runner.step(two, self.runner.cache(self.rows, self.length), start)[1]
            )[path]
            for start in (0, 1)
        ]
        axis = self.axes[path]
        found = turned(entry(caches[0], axis, 0), entry(caches[1], axis, 1))
        if found is None:
            return None
        for off in STEPS_OFF:
            apart = np.exp(1j * angles) - np.exp(1j * off * found.angles)
            if np.abs(apart).max() <= SAME:
                return off
        return None

    def _of_what_was_left(self, good: Tree, right: Leaves, was: Leaves) -> Iterator[str | None]:
        """The call before left another cache than the one from which the step is right."""
        empty = self.runner.leaves(self.runner.cache(self.rows, self.length))
        wrong = [slot for slot in self._changed(right, was) if slot < self.at]
        if not wrong or not was.keys() >= self.axes.keys():
            return
        stretch = self.parted.stretch
        who = "the prefill" if stretch.number == 1 and not stretch.alone else (
            f"the step at position {wrong[0]}"
        )  # fmt: skip
        fixed = dict(was)
        for slot in wrong:
            fixed |= self._with({p: entry(right[p], a, slot) for p, a in self.axes.items()}, fixed,
                                slot)  # fmt: skip
        if not self._is_right(partial(self._step, good, leaves=fixed)):
            return
        first = wrong[0]
        if self._alike(was, first, empty, first):
            places = [n for n in range(self.length) if self._alike(was, n, right, first)]
            if not places:
                yield f"the cache is not updated: {who} leaves index {first} empty"
            else:
                yield self._written(who, places[0], first)
            return
        owners = [n for n in range(self.at) if self._alike(was, first, right, n)]
        if owners:
            yield self._written(f"the step at position {owners[0]}", first, owners[0])
            return
        for path, axis in self.axes.items():
            found = turned(entry(right[path], axis, first), entry(was[path], axis, first))
            off = None if found is None else self._off(path, found.angles)
            if off:
                yield (
                    f"the rotary position of keys is off: {who} turns the key of position {first} "
                    f"as at position {first + off}"
                )

    def _of_what_stayed(self) -> str | None:
        """The step before left the cache as it was given."""
        if self.parted.stretch.number == 1:
            return None
        before, after = (
            self.runner.leaves(self._cache_of_the_run(n)) for n in (self.at - 1, self.at)
        )
        if not all(np.array_equal(x, after[p]) for p, x in before.items() if p in after):
            return None
        return f"the cache is not updated: the step at position {self.at - 1} leaves it as it was"

    def _written(self, who: str, slot: int, expected: int) -> str:
        return f"{who} writes its keys and values to index {slot} of the cache, not {expected}"

    # Numbers of caches.

    def _place(self, path: Path) -> tuple[int, int]:
        return self.axes[path], self.at

    def _with(self, entries: Leaves, leaves: Leaves, slot: int | None = None) -> Leaves:
        """``leaves`` with entries at one position, that of the step if no other is given."""
        where = self.at if slot is None else slot
        return {p: with_entry(leaves[p], self.axes[p], where, x) for p, x in entries.items()}

    def _changed(self, before: Leaves, after: Leaves) -> list[int]:
        """The positions at which two caches differ."""
        return [n for n in range(self.length) if not self._alike(before, n, after, n)]

    def _alike(self, one: Leaves, slot: int, other: Leaves, other_slot: int) -> bool:
        """Whether all arrays of one cache have at ``slot`` what the other's have."""
        for path, axis in self.axes.items():
            if path not in one or path not in other:
                return False
            x, y = entry(one[path], axis, slot), entry(other[path], axis, other_slot)
            if not numerics.distance(x, y).l2 <= SAME * numerics.size(y).l2:
                return False
        return True
