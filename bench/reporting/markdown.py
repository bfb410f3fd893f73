"""Tables and listings of README and docs, rendered from records and sources."""

import re
import sys
from collections.abc import Callable

from bench.harness.machine import measured_on
from bench.harness.records import ROOT, showing
from bench.planning import command
from bench.reporting.figures import digest, draw, files
from bench.reporting.phrasebook import phrases
from bench.reporting.source_diff import twins
from bench.studies import registry
from twingrad.files import write_bytes

PAGES = (
    "README.md",
    "docs/equality.md",
    "docs/decisions.md",
    "docs/training.md",
    "docs/benchmark.md",
    "docs/defaults.md",
    "docs/plan.md",
    "docs/distributed.md",
    "docs/porting.md",
    "docs/diagnoses.md",
    "docs/security.md",
    "docs/tests.md",
    "docs/phrasebook.md",
)
_BLOCK = re.compile(r"(<!-- from (?P<name>[\w.:-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(check: bool = False) -> int:
    """Render every page and picture, or only compare them; 1 where ``check`` finds a difference."""
    stale = []
    for page in PAGES:
        path = ROOT / page
        text = path.read_text()
        rendered = fill(text)
        if rendered != text:
            stale.append(page)
            if not check:
                write_bytes(path, rendered.encode())
    for path, (name, ink) in files(ROOT / "docs").items():
        if not check:
            draw(name, ink, path)
        elif not path.exists() or digest(name) not in path.read_text():
            stale.append(str(path.relative_to(ROOT)))
    if check and stale:
        print(
            f"stale: {', '.join(stale)} differ from the records; run python -m bench.reporting",
            file=sys.stderr,
        )
        return 1
    return 0


def fill(text: str) -> str:
    """A page with every block between its markers rendered again; raises ``ValueError``."""
    blocks = {**registry.blocks(), **BLOCKS}

    def filled(match: re.Match[str]) -> str:
        name, _, argument = match["name"].partition(":")
        if name not in blocks:
            raise ValueError(f"unknown block {name!r}: choose from {', '.join(blocks)}")
        with showing(argument):
            return f"{match[1]}{blocks[name](argument)}\n{match[3]}"

    return _BLOCK.sub(filled, text)


# Blocks that show no one study's record; those that do come from the registry.
BLOCKS: dict[str, Callable[[str], str]] = {
    "machine": measured_on,
    "twins": twins,
    "example": command.example,
    "phrases": phrases,
}
