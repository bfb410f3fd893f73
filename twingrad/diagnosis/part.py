"""A part of a pair's models to look at: the calls up to a module, or modules by their names."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from twingrad.calls import Key
from twingrad.diagnosis.engine import place_name
from twingrad.diagnosis.finding import Note, PartObject
from twingrad.diagnosis.places import Place
from twingrad.exact import ExactRun
from twingrad.live import LOSS, ROOT

MOST_NAMES = 3


@dataclass(frozen=True, kw_only=True)
class Part:
    """Calls of modules that both models have.

    ``entered`` are the calls that had begun where the part ends: what their callers computed for
    them belongs to it too.
    """

    until: str | None
    only: str | None
    calls: frozenset[Key]
    entered: frozenset[Key]
    modules: tuple[str, ...]

    def of(self, places: Sequence[Place]) -> list[Place]:
        """The places that lie in the part."""
        return [place for place in places if self._has(place)]

    def _has(self, place: Place) -> bool:
        divergence = place.divergence
        is_handed_on = divergence.what == "in" and divergence.stage == "forward"
        return divergence.owner in self.calls or (
            is_handed_on and divergence.before in self.entered
        )

    def has_note(self, note: Note) -> bool:
        """Whether a note is about a module or a tensor of the part, or about the model."""
        return note.where == "model" or any(
            f"{note.where}.".startswith(f"{module}.") for module in self.modules
        )

    def as_object(self) -> PartObject:
        """The part as the JSON contract has it."""
        return {"until": self.until, "only": self.only, "modules": list(self.modules)}


def chosen(run: ExactRun, until: str | None, only: str | None) -> Part | None:
    """The part that the two arguments name; None where neither is given.

    ``until`` is a module's name in either framework, ``only`` a regular expression that is searched
    for in the names of both. Raises ``ValueError`` with the nearest names where there is none, and
    for what is no regular expression.
    """
    if until is None and only is None:
        return None
    names: dict[Key, set[str]] = {ROOT: {"model"}, LOSS: {"loss"}}
    for jax_key, torch_key in run.live.names(run.seen).items():
        names.setdefault(torch_key, {torch_key.path}).update({jax_key.path} - {""})
    entered, left = _until(run, until, names) if until else (frozenset(), frozenset(names))
    calls = left & _matching(only, names) if only else left
    if not calls:
        raise ValueError(f"until {until!r} and only {only!r} have no module in common")
    in_order = [ROOT, *(key for way, key in run.seen.events if way == "enter"), LOSS]
    return Part(
        until=until,
        only=only,
        calls=calls,
        entered=frozenset() if only else entered,
        modules=tuple(dict.fromkeys(place_name(key) for key in in_order if key in calls)),
    )


def _until(
    run: ExactRun, until: str, names: dict[Key, set[str]]
) -> tuple[frozenset[Key], frozenset[Key]]:
    """Calls that had begun, and those that had ended, when the first call of ``until`` ended."""
    found = [key for key, own in names.items() if until in own]
    if not found:
        raise ValueError(f"until {until!r}: no module that both models call has that name"
                         f"{_nearest(until, names)}")  # fmt: skip
    last = min(found, key=lambda key: key.number)
    entered: set[Key] = set()
    left: set[Key] = set()
    for way, key in run.seen.events:
        (entered if way == "enter" else left).add(key)
        if (way, key) == ("leave", last):
            break
    ended = left & names.keys() | ({ROOT} if last in (ROOT, LOSS) else set())
    return frozenset(entered), frozenset(ended | ({LOSS} if last == LOSS else set()))


def _matching(only: str, names: dict[Key, set[str]]) -> frozenset[Key]:
    try:
        pattern = re.compile(only)
    except re.error as error:
        raise ValueError(f"only {only!r}: no regular expression, {error}") from None
    found = frozenset(key for key, own in names.items() if any(map(pattern.search, own)))
    if not found:
        raise ValueError(
            f"only {only!r}: found in no name of a module that both models call"
            f"{_nearest(only, names)}"
        )
    return found


def _nearest(word: str, names: dict[Key, set[str]]) -> str:
    every: Collection[str] = dict.fromkeys(name for own in names.values() for name in sorted(own))
    near = difflib.get_close_matches(word, list(every), MOST_NAMES, 0.3)
    return f"; the nearest are {', '.join(near or list(every)[:MOST_NAMES])}"
