"""The phrasebook as a page of Markdown: an index, and every phrase with both halves of its code."""

import re

from twingrad.phrases import book, sources
from twingrad.phrases.command import inputs_sentence
from twingrad.phrases.phrase import Family, Phrase


def phrases(argument: str) -> str:
    """The families of the page with their phrases, or, for ``index``, a list of links to them."""
    return _index() if argument == "index" else "\n\n".join(map(_family, book.FAMILIES))


def _index() -> str:
    count = sum(len(family.phrases) for family in book.FAMILIES)
    lines = [f"{count} phrases in {len(book.FAMILIES)} families:", ""]
    for family in book.FAMILIES:
        links = ", ".join(_link(phrase.title) for phrase in family.phrases)
        lines.append(f"- {_link(family.title)}: {links}.")
    return "\n".join(lines)


def _link(title: str) -> str:
    return f"[{title}](#{anchor(title)})"


def anchor(title: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _family(family: Family) -> str:
    return "\n\n".join([f"## {family.title}", *(_phrase(family, one) for one in family.phrases)])


def _phrase(family: Family, phrase: Phrase) -> str:
    cells = []
    for framework in sources.FRAMEWORKS:
        code = sources.source(framework, family, phrase, common_imports=False)
        cells.append(f"<td>\n\n```python\n{code}\n```\n\n</td>")
    table = "<table>\n<tr><th>PyTorch</th><th>JAX</th></tr>\n<tr>\n" + "\n".join(cells)
    notes = [f"**Differs.** {phrase.differs}", f"**Costs.** {phrase.costs}"]
    if phrase.inputs:
        notes.append(f"<sub>{inputs_sentence(phrase)}</sub>")
    return "\n\n".join([f"### {phrase.title}", f"{table}\n</tr>\n</table>", *notes])
