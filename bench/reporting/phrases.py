"""The phrasebook on the report page: every phrase with both halves of its code, coloured."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from markupsafe import Markup

from bench.reporting import source_diff
from twingrad.phrases import book, sources
from twingrad.phrases.command import inputs_sentence
from twingrad.phrases.phrase import Family, Phrase


@dataclass(frozen=True)
class Shown:
    """A phrase as the page shows it; ``code`` is PyTorch's and JAX's."""

    name: str
    title: str
    words: str
    code: tuple[Markup, Markup]
    differs: str
    costs: str
    inputs: str


@dataclass(frozen=True)
class ShownFamily:
    """A family of phrases."""

    name: str
    title: str
    phrases: list[Shown]


@cache  # its sources are part of the program
def families() -> list[ShownFamily]:
    """All families in the order of the phrasebook."""
    return [
        ShownFamily(family.name, family.title, list(_phrases(family))) for family in book.FAMILIES
    ]


def _phrases(family: Family) -> Iterator[Shown]:
    for phrase in family.phrases:
        torch_code, jax_code = (_code(side, family, phrase) for side in sources.FRAMEWORKS)
        yield Shown(
            name=phrase.name,
            title=phrase.title,
            words=phrase.words,
            code=(torch_code, jax_code),
            differs=_without_links(phrase.differs),
            costs=_without_links(phrase.costs),
            inputs=inputs_sentence(phrase) if phrase.inputs else "",
        )


def _without_links(note: str) -> str:
    """A note without the addresses of its links, which lead to other pages of the docs."""
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", note)


def _code(framework: str, family: Family, phrase: Phrase) -> Markup:
    source = sources.source(framework, family, phrase, common_imports=False)
    return source_diff.coloured(source)
