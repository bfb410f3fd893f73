"""All families of the phrasebook in the order of the page, and the search in them."""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from twingrad.phrases import sources
from twingrad.phrases.notes import (
    compiling,
    control,
    creating,
    custom,
    debugging,
    derivatives,
    feeding,
    losses,
    modes,
    modules,
    optimizing,
    parallel,
    precision,
    randomness,
    saving,
    selecting,
    shapes,
    writing,
)
from twingrad.phrases.phrase import Family, Phrase
from twingrad.suggestions import did_you_mean

FAMILIES: tuple[Family, ...] = (
    creating.FAMILY,
    writing.FAMILY,
    shapes.FAMILY,
    selecting.FAMILY,
    randomness.FAMILY,
    control.FAMILY,
    derivatives.FAMILY,
    custom.FAMILY,
    modules.FAMILY,
    modes.FAMILY,
    losses.FAMILY,
    optimizing.FAMILY,
    precision.FAMILY,
    compiling.FAMILY,
    debugging.FAMILY,
    saving.FAMILY,
    feeding.FAMILY,
    parallel.FAMILY,
)


def entries() -> Iterator[tuple[Family, Phrase]]:
    """Every phrase with its family."""
    for family in FAMILIES:
        for phrase in family.phrases:
            yield family, phrase


# Words of a question that are in nearly all code, and so say nothing about which phrase is meant.
_MODULES = frozenset(
    ("torch", "jax", "jnp", "np", "numpy", "nn", "nnx", "lax", "f", "functional", "flax", "optax")
)


@dataclass(frozen=True)
class Found:
    """Phrases that have all words of a question: in title and search words, or in code alone."""

    named: list[tuple[Family, Phrase]]
    in_code: list[tuple[Family, Phrase]]


def find(question: Sequence[str]) -> Found:
    """The phrases that a question is about, such as ``("torch.gather",)`` or ``("top", "k")``.

    Case counts for nothing, and a word of three letters or more stands for all that begin with it.
    Those that have the words in their titles come first.
    Raises ``ValueError`` that names a word that no phrase has, and the nearest that one has.
    """
    words = _asked(question)
    names = [(entry, _words(entry)) for entry in entries()]
    named = [entry for entry, has in names if all(_begins(word, has) for word in words)]
    named.sort(key=lambda entry: -sum(word in _title_words(entry) for word in words))
    # Code is only read where it is asked for: a word may stand in either half of it.
    codes = [(entry, _words(entry) | _identifiers(entry)) for entry in entries()]
    in_code = [
        entry
        for entry, has in codes
        if entry not in named and all(_begins(word, has) for word in words)
    ]
    if not named and not in_code:
        known = set().union(*(has for _, has in codes))
        _refuse(question, [word for word in words if not _begins(word, known)], known)
    return Found(named, in_code)


def _asked(question: Sequence[str]) -> list[str]:
    words = [word for text in question for word in _parts(text)]
    telling = [word for word in words if word not in _MODULES]
    if not words:
        raise ValueError(f"{' '.join(question)!r} has no word to look for: name one, as in gather")
    return telling or words


def _parts(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _title_words(entry: tuple[Family, Phrase]) -> set[str]:
    return {*_parts(entry[1].title), entry[1].name}


def _words(entry: tuple[Family, Phrase]) -> set[str]:
    _, phrase = entry
    return {*_parts(f"{phrase.title} {phrase.words} {phrase.name}"), *phrase.name.split("_")}


def _identifiers(entry: tuple[Family, Phrase]) -> set[str]:
    return _all_identifiers()[entry[1].name]


@functools.cache
def _all_identifiers() -> dict[str, set[str]]:
    """The words in the code of each phrase, by its name."""
    return {
        phrase.name: {
            word
            for framework in sources.FRAMEWORKS
            for word in _parts(sources.source(framework, family, phrase))
        }
        for family, phrase in entries()
    }


def _begins(word: str, known: set[str]) -> bool:
    """Whether a known word is ``word``, or begins with it and an underscore or a few letters."""
    if word in known:
        return True
    return len(word) > 2 and any(other.startswith(word) for other in known)


def _refuse(question: Sequence[str], unknown: Sequence[str], known: set[str]) -> NoReturn:
    asked = " ".join(question)
    if not unknown:
        raise ValueError(f"no phrase has all words of {asked!r}: ask for one of them alone")
    question_back = did_you_mean(unknown[0], known)
    raise ValueError(
        f"no phrase has {unknown[0]!r}:{question_back} twingrad phrases without a word lists all"
    )
