"""What the documentation shows is what happens."""

import re
from pathlib import Path

import pytest

from bench.harness import frameworks

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def _blocks(name: str) -> str:
    """All Python of a page, as one program whose lines are the page's."""
    text = (DOCS / name).read_text(encoding="utf-8")
    program = [""] * (text.count("\n") + 1)
    for block in FENCE.finditer(text):
        first = text[: block.start(1)].count("\n")
        lines = block[1].splitlines()
        program[first : first + len(lines)] = lines
    return "\n".join(program)


@pytest.mark.skipif(
    not all(frameworks.installed(name) for name in frameworks.NAMES),
    reason="it needs both frameworks",
)
def test_the_code_of_porting_runs_and_finds_what_it_says():
    names: dict = {"__name__": "porting"}
    exec(compile(_blocks("porting.md"), str(DOCS / "porting.md"), "exec"), names)
    names["test_the_port_is_the_model"]()
