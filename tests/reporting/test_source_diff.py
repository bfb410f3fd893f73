"""Both sources stand on the page in whole, side by side."""

import ast
from collections import Counter

import pytest

from bench.reporting import markdown, source_diff
from tests.helpers.page import SIDES, read, text_of
from twingrad.anchors import slug


def _code(page, file):
    """Lines of a file by side: the text, and whether it is marked."""
    found = {name: [] for name in SIDES.values()}
    for block in page.one("details", id=slug(file)).all("div", **{"class": "code"}):
        side = block.attributes["aria-label"].partition(":")[0]
        lines = [line for line in block.one("code").content if line.attributes["class"] == "l"]
        found[side] += [(line.text.removesuffix("\n"), line.tag == "mark") for line in lines]
    return found


FILES = sorted(
    path.name
    for path in (markdown.ROOT / "torch_impl").glob("*.py")
    if (markdown.ROOT / "jax_impl" / path.name).exists() and path.stem != "__init__"
)


@pytest.mark.parametrize("file", FILES)
def test_every_line_of_both_sides_stands_in_its_room(page, file):
    code = _code(page, file)
    for folder, name in SIDES.items():
        lines = (markdown.ROOT / folder / file).read_text().splitlines()
        shown = [line for line, _ in code[name] if line]
        assert Counter(shown) == Counter(line for line in lines if line)


@pytest.mark.parametrize("file", FILES)
def test_lines_without_a_mark_are_the_same_on_both_sides(page, file):
    code = _code(page, file)
    same = {
        name: [line for line, marked in lines if not marked and line]
        for name, lines in code.items()
    }
    assert same["PyTorch"] == same["JAX"]
    assert any(marked for _, marked in code["JAX"])


def test_every_definition_of_gpt2_has_its_own_lines_in_one_place(page):
    file = page.one("details", id="gpt2.py")
    assert "open" in file.attributes
    titles = [text_of(title) for title in file.all("h4")]
    for folder, name in SIDES.items():
        source = (markdown.ROOT / folder / "gpt2.py").read_text()
        code = [
            _plain(block.one("code").text)
            for block in file.all("div", **{"class": "code"})
            if block.attributes["aria-label"].startswith(f"{name}:")
        ]
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                segment = _plain(ast.get_source_segment(source, node))
                assert sum(segment in block for block in code) == 1, node.name
            if isinstance(node, ast.ClassDef):
                assert node.name in titles


def _plain(code):
    return "\n".join(line for line in code.splitlines() if line.strip())


def test_a_line_is_marked_where_its_twin_is_another_and_so_are_itstext_of():
    torch = "def f(x):\n    y = torch.exp(x)\n    return y\n"
    jax = "def f(x):\n    y = jnp.exp(x)\n    return y\n"
    (part,) = source_diff.parts(torch, jax)
    shown = read(str(part.code(0)))
    assert [line.tag for line in shown.content] == ["span", "mark", "span"]
    assert [word.text for word in shown.all("b")] == ["torch"]


def test_lines_that_open_alike_stand_next_to_each_other():
    torch = "def f(x):\n    a = one(x)\n    b = two(x)\n"
    jax = "def f(x):\n    new(x)\n    b = second(x)\n"
    (part,) = source_diff.parts(torch, jax)
    beside = {ours.opening: theirs.opening for ours, theirs in part.rows if ours and theirs}
    assert beside["b"] == "b"


def test_a_definition_without_a_twin_stands_alone():
    found = source_diff.parts("def f(): ...\ndef g(): ...\n", "def h(): ...\ndef g(): ...\n")
    assert [(part.name, part.has(0), part.has(1)) for part in found] == [
        ("f", True, False),
        ("h", False, True),
        ("g", True, True),
    ]


def test_methods_stand_beside_those_that_the_other_framework_calls_otherwise():
    torch = "class A:\n    x = 1\n\n    def forward(self): ...\n"
    jax = "class A:\n    x = 1\n\n    # Called.\n    def __call__(self): ...\n"
    first, second = source_diff.parts(torch, jax)
    assert (first.name, second.name) == ("A", "A.forward")
    assert "# Called." in [theirs.text.strip() for _, theirs in second.rows if theirs]


@pytest.mark.parametrize(
    ("ours", "theirs"), [("", ""), ("abc", ""), ("abc", "xbz"), ("aab", "ba"), ("abcd", "dcba")]
)
def test_nothing_is_lost_or_moved_in_step(ours, theirs):
    rows = source_diff.in_step(ours, theirs, (str, str.upper))
    assert "".join(a for a, _ in rows if a) == ours
    assert "".join(b for _, b in rows if b) == theirs
