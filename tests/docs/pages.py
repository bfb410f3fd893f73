"""The pages of the documentation, read as a reader meets them: blocks, columns and commands.

A page marks its commands by a comment that is not shown, above a block of ``sh`` or above a
paragraph that has commands in its text. One line marks every command there; of several lines, each
marks the next command::

    <!-- command: run -->
    <!-- command: run, status 1 -->
    <!-- command:
    run, needs both
    small: twingrad train --steps 4
    gpu: it needs a GPU
    -->

The README's first calls, ``compare`` and ``test``, install what they need, and the CI finds them by
these marks. A block of Python that the reader saves has ``<!-- file: my_pair.py -->`` above it. A
listing of what a command prints has ``<!-- output: screen of twingrad ... -->``: *screen* compares
whole lines in the terminal; in a pipe *alike* compares all but numbers and spaces, and *rows* the
names, counts and verdicts of a table.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.tutorial.pages import FRAMEWORKS, blocks, column, pasted

__all__ = ["FRAMEWORKS", "blocks", "column", "pasted"]
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# The order in which a reader meets the pages, and what is done on them.
ORDER = (
    "README.md",
    "docs/README.md",
    "docs/tutorial.md",
    "docs/tutorial-1-models.md",
    "docs/tutorial-2-tensors.md",
    "docs/tutorial-3-gradients.md",
    "docs/tutorial-4-networks.md",
    "docs/tutorial-5-gpt2.md",
    "docs/tutorial-6-training.md",
    "docs/phrasebook.md",
    "docs/porting.md",
    "docs/training.md",
    "docs/distributed.md",
    "docs/benchmark.md",
    "docs/gpu.md",
    "docs/plan.md",
    "docs/equality.md",
    "docs/diagnoses.md",
    "docs/defaults.md",
    "docs/decisions.md",
    "docs/security.md",
    "docs/tests.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
)
# Run as it stands; run as the marker says; not run, and why.
RUN = ("run", "small", "compare", "test")
NOT_RUN = ("gpu", "network", "hosts", "peer", "long")
_SOME_TESTS = "tests/shared/test_schedule.py"
_SPAN = re.compile(r"`([^`]+)`", re.DOTALL)
# A span of these words is a command, and no name of a program or a package.
_COMMAND = re.compile(
    r"(\w+=\S+ )*(twingrad|pytest|pip|python3? -m|diff|bash|\.venv/bin/\w+) \S", re.ASCII
)
_MARKER = re.compile(r"<!-- command:(.*?)-->", re.DOTALL)
_FILE = re.compile(r"<!-- file: (\S+) -->")
_OUTPUT = re.compile(r"<!-- output: (screen|alike|rows) of (.*?) -->", re.DOTALL)
_NEEDS = re.compile(r"needs (torch|jax|both)")
_STATUS = re.compile(r"status (\d+)")


@dataclass(frozen=True)
class Marker:
    """How a command of a page is tried: ``text`` is what is run instead, or why it is not run."""

    kind: str
    needs: str
    status: int
    text: str


@dataclass(frozen=True)
class Command:
    """A command that a page tells its reader to type, in a block or within a sentence."""

    page: str
    line: int
    text: str
    marker: Marker | None
    is_span: bool = False

    @property
    def is_file(self) -> bool:
        """Whether it saves a block of the page in a file."""
        return self.text.startswith("cat > ")

    @property
    def tried(self) -> str:
        """What is run in its place, or "" where it is not run."""
        if self.marker is None or self.marker.kind in NOT_RUN:
            return ""
        if self.marker.kind == "test":
            return f"{self.text} {_SOME_TESTS}"
        return self.marker.text if self.marker.kind == "small" else self.text

    def holds_with(self, installed: tuple[str, ...]) -> bool:
        """Whether the command does what it says with these frameworks."""
        needs = "" if self.marker is None else self.marker.needs
        return set(FRAMEWORKS if needs == "both" else (needs,) if needs else ()) <= set(installed)

    @cached_property
    def calls(self) -> list[list[str]]:
        """The words of each call of ``twingrad`` in it, without the first one."""
        if self.is_file:
            return []
        words = shlex.split(self.text.replace("\\\n", " "), comments=True)
        calls: list[list[str]] = []
        inside = False
        for word in words:
            if word in ("&&", "||", "|", ";", ">", ">>"):
                inside = False
            elif inside:
                calls[-1].append(word)
            elif word.rpartition("/")[2] == "twingrad":
                inside = True
                calls.append([])
        return [call for call in calls if call]


@dataclass(frozen=True)
class Listing:
    """What a page shows of a command's output, and how it is held against it."""

    page: str
    line: int
    how: str
    command: str
    text: str

    def missing_from(self, printed: list[str]) -> list[str]:
        """The lines of the listing that ``printed`` does not have."""
        form = {"screen": str.rstrip, "alike": _without_numbers, "rows": _row}[self.how]
        found = {form(row) for row in printed}
        return [row for row in self.text.splitlines() if form(row) and form(row) not in found]


def _without_numbers(row: str) -> str:
    return " ".join(re.sub(r"[\d.,]+(e[+-]\d+)?", "#", row).split())


def _row(row: str) -> tuple[str, ...]:
    """The words that name a table's row, its first count and its verdict; empty without one."""
    words = row.split()
    counts = [place for place, word in enumerate(words) if word.replace(",", "").isdigit()]
    if not counts or not words[-1].isalpha():
        return ()
    return (*words[: counts[0] + 1], words[-1])


def listings(page: str) -> list[Listing]:
    """Every listing of a page that is held against a command's output."""
    found = []
    for line, text, marker in _parts((ROOT / page).read_text(encoding="utf-8")):
        if marker and (output := _OUTPUT.fullmatch(marker)):
            body = text.partition("\n")[2].removesuffix("```")
            found.append(Listing(page, line, output[1], " ".join(output[2].split()), body))
    return found


def commands(page: str) -> list[Command]:
    """Every command of a page, in order, each with its marker; a block to be saved is one too."""
    found: list[Command] = []
    for line, text, comment in _parts((ROOT / page).read_text(encoding="utf-8")):
        if comment and (file := _FILE.fullmatch(comment)):
            body = text.removeprefix("```python\n").removesuffix("```")
            saving = f"cat > {file[1]} <<'END'\n{body}END"
            found.append(Command(page, line, saving, Marker("run", "", 0, "")))
            continue
        marked = _MARKER.fullmatch(comment or "")
        marker = marked[1].strip() if marked else None
        typed = list(_typed(text))
        marks = _marks(marker, len(typed), f"{page}, line {line}")
        is_span = not text.startswith("```")
        found += [
            Command(page, line, one, mark, is_span) for one, mark in zip(typed, marks, strict=True)
        ]
    return found


def _parts(text: str) -> Iterator[tuple[int, str, str | None]]:
    """The parts of a page between blank lines and around blocks: line, text, marker above it."""
    marker, line = None, 1
    inside, part = "", list[str]()
    for number, row in enumerate([*text.splitlines(), ""], 1):
        if inside == "fence":
            part.append(row)
            inside = "" if row == "```" else inside
            ends = not inside
        elif inside == "comment":
            part.append(row)
            inside = "" if row.endswith("-->") else inside
            ends = not inside
        elif row.startswith(("```", "<!--")):
            if part:
                yield line, "\n".join(part), marker
                marker = None
            inside = "fence" if row.startswith("```") else "comment"
            part, line = [row], number
            inside = "" if inside == "comment" and row.endswith("-->") else inside
            ends = not inside
        else:
            ends = not row.strip()
            line = line if part else number
            part += [] if ends else [row]
        if ends and part:
            whole = "\n".join(part)
            if any(kind.fullmatch(whole) for kind in (_MARKER, _FILE, _OUTPUT)):
                marker = whole
            elif not whole.startswith("<!--"):
                yield line, whole, marker
                marker = None
            part = []


def _typed(text: str) -> Iterator[str]:
    """The commands of a block of ``sh``, joined where a line goes on, or those of a paragraph."""
    if text.startswith("```"):
        if text.startswith("```sh\n"):
            joined = text.removeprefix("```sh\n").removesuffix("```").replace("\\\n", " ")
            yield from (row for row in map(_bare, joined.splitlines()) if row)
        return
    for span in _SPAN.finditer(text):
        words = " ".join(span[1].split())
        if _COMMAND.match(words):
            yield words


def _bare(row: str) -> str:
    """A line of a block without the comment at its end."""
    return re.sub(r"(^|\s+)#.*$", "", row).strip()


def _marks(marker: str | None, count: int, place: str) -> list[Marker | None]:
    """One marker for each of ``count`` commands."""
    if marker is None:
        return [None] * count
    rows = [mark(row.strip(), place) for row in marker.splitlines()]
    if len(rows) == 1:
        rows *= count
    if len(rows) != count or not count:
        raise ValueError(f"{place}: {len(rows)} markers for {count} commands")
    return list(rows)


def mark(row: str, place: str) -> Marker:
    """A row of a marker; raises ``ValueError`` that names the place."""
    head, _, text = row.partition(": ")
    kind, *rest = [word.strip() for word in head.split(",")]
    needs, status = "both" if kind == "compare" else "", 0
    for word in rest:
        if found := _NEEDS.fullmatch(word):
            needs = found[1]
        elif found := _STATUS.fullmatch(word):
            status = int(found[1])
        else:
            raise ValueError(f"{place}: {word!r} says nothing of a command")
    if kind not in (*RUN, *NOT_RUN):
        raise ValueError(f"{place}: a command is {', '.join((*RUN, *NOT_RUN))}, not {kind!r}")
    if not text and kind in ("small", *NOT_RUN):
        raise ValueError(f"{place}: {kind} needs a text")
    return Marker(kind, needs, status, text)
