"""Run ``twingrad phrases``: list, find, print and try the phrases, and write them as JSON."""

import re
import textwrap
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

from rich.console import Console
from rich.text import Text

from twingrad.cli.options import option
from twingrad.environment import require_frameworks
from twingrad.files import require_writable, write_json
from twingrad.phrases import book, sources
from twingrad.phrases.phrase import Family, Phrase
from twingrad.terminal import NAMES

_GAP = "   "
# Columns of a note: longer lines are hard to read.
_NOTE_WIDTH = 96
Entry = tuple[Family, Phrase]


@dataclass(frozen=True, kw_only=True)
class PhrasesOptions:
    """Options of ``phrases``."""

    word: tuple[str, ...] = option(
        (),
        positional=True,
        help="words to look for in titles and code: gather, torch.topk, per-example gradients; "
        "without one, all titles are listed",
    )
    run: bool = option(
        False, help="run both halves here, and say how far apart they are: needs both frameworks"
    )
    json: Path | None = option(None, metavar="FILE", help="the phrases that were found, as JSON")


def run(options: PhrasesOptions, console: Console) -> int:
    """List or print the phrases; 1 if one that was run differs by more than its bound, else 0."""
    require_writable(options.json)
    if options.run:
        require_frameworks()
    if options.word:
        found = book.find(options.word)
        printed = found.named or found.in_code
        also = found.in_code if found.named else []
    else:
        printed, also = list(book.entries()), []
    differing = 0
    if not options.word and not options.run:
        _list(console)
    for entry in printed if options.word or options.run else []:
        if options.word:
            _show(console, *entry)
        if options.run:
            differing += _try(console, *entry)
    if also:
        titles = "; ".join(phrase.title for _, phrase in also)
        _print(console, f"Also in the code of: {titles}.")
    if options.json:
        write_json(options.json, {"phrases": [as_object(*entry) for entry in printed]})
    return 1 if differing else 0


def as_object(family: Family, phrase: Phrase) -> dict[str, object]:
    """A phrase as JSON has it."""
    return {
        "family": family.title,
        "name": phrase.name,
        "title": phrase.title,
        "words": phrase.words,
        "torch": sources.source("torch", family, phrase),
        "jax": sources.source("jax", family, phrase),
        "differs": phrase.differs,
        "costs": phrase.costs,
        "inputs": {name: str(numbers) for name, numbers in phrase.inputs.items()},
        "gradient": list(phrase.gradient),
        "bound": phrase.bound,
    }


def _list(console: Console) -> None:
    count = sum(len(family.phrases) for family in book.FAMILIES)
    _print(console, f"{count} phrases. `twingrad phrases WORD` prints those that have the word.")
    for family in book.FAMILIES:
        console.print()
        console.print(Text(family.title, style="bold"))
        for phrase in family.phrases:
            _print(console, phrase.title, indent="  ")


def _show(console: Console, family: Family, phrase: Phrase) -> None:
    console.print(Text(f"{phrase.title}", style="bold"))
    console.print(Text(f"{family.title}: {phrase.name}", style="dim"))
    console.print()
    codes = [sources.source(name, family, phrase).splitlines() for name in sources.FRAMEWORKS]
    heads = [NAMES[name] for name in sources.FRAMEWORKS]
    widths = [max(map(len, [head, *code])) for head, code in zip(heads, codes, strict=True)]
    if sum(widths) + len(_GAP) <= console.width:
        rows = [tuple(heads), tuple("─" * width for width in widths), *zip_longest(*codes)]
        for left, right in rows:
            line = f"{left or '':<{widths[0]}}{_GAP}{right or ''}".rstrip()
            console.print(Text(line), soft_wrap=True)
    else:
        for head, code in zip(heads, codes, strict=True):
            console.print(Text(f"# {head}", style="bold"))
            for line in [*code, ""]:
                console.print(Text(line), soft_wrap=True)
    console.print()
    if phrase.inputs:
        _print(console, inputs_sentence(phrase))
    _print(console, f"Differs: {plain(phrase.differs)}")
    _print(console, f"Costs: {plain(phrase.costs)}")
    console.print()


def _try(console: Console, family: Family, phrase: Phrase) -> bool:
    """Run both halves and print their distance; whether it is over the bound."""
    from twingrad.phrases import trial

    missing = [package for package in phrase.needs if not find_spec(package)]
    if missing:
        _print(console, f"not run: {phrase.title}: install {', '.join(missing)}")
        return False
    left = trial.run_torch(phrase, trial.code("torch", family, phrase))
    right = trial.run_jax(phrase, trial.code("jax", family, phrase))
    farthest = max(trial.distances(left, right), key=lambda one: one.relative)
    differs = not farthest.relative <= phrase.bound
    _print(
        console,
        f"{'differs' if differs else 'equal'}: {phrase.title}: {farthest.what} "
        f"{farthest.relative:.1g} apart, relative; allowed {phrase.bound:.1g}",
    )
    return differs


def inputs_sentence(phrase: Phrase) -> str:
    """The shapes of the arguments on which a phrase is run, and what is compared."""
    inputs = ", ".join(f"{name} {numbers}" for name, numbers in phrase.inputs.items())
    compared = f"; gradients with respect to {' and '.join(phrase.gradient)}"
    return f"Run on {inputs}{compared if phrase.gradient else ''}."


def plain(note: str) -> str:
    """A note without the links of a page."""
    return re.sub(r"\[([^]]*)\]\(\w+\.md[^)]*\)", r"\1", note)


def _print(console: Console, text: str, indent: str = "") -> None:
    width = min(console.width, _NOTE_WIDTH)
    for line in textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
        break_long_words=False,
    ):
        console.print(Text(line), soft_wrap=True)
