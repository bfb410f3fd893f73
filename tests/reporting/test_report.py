"""The page of ``twingrad report``: all of both sources, and every figure from a record."""

import ast
import copy
import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from bench.cli.main import main
from bench.harness import frameworks, terminal
from bench.harness import records as harness_records
from bench.reporting import charts, html, markdown, source_diff, words
from bench.speed import derivation, record, tables
from bench.speed.results import SpeedRecord

SIDES = {"torch_impl": "PyTorch", "jax_impl": "JAX"}
VOID = {"meta", "br", "wbr"}
RECORDS = {
    "verdict": "compare-cpu",
    "defaults": "defaults-cpu",
    "layers": "compare-cpu",
    "training": "training-cpu",
    "planted": "mutants-cpu",
    "diagnosed": "diagnosis-cpu",
    "speed": "speed-small-cpu",
}


@dataclass
class Element:
    """A tag with its attributes, its children, and the text in between, in order."""

    tag: str
    attributes: dict[str, str]
    content: list = field(default_factory=list)

    @property
    def text(self):
        parts = (c if isinstance(c, str) else c.text for c in self.content)
        return "".join(parts).replace("\N{NO-BREAK SPACE}", " ")

    def all(self, tag=None, **attributes):
        """Every element below that has ``tag`` and, where given, these attributes."""
        for child in self.content:
            if isinstance(child, Element):
                if tag in (None, child.tag) and attributes.items() <= child.attributes.items():
                    yield child
                yield from child.all(tag, **attributes)

    def one(self, tag=None, **attributes):
        found = list(self.all(tag, **attributes))
        assert len(found) == 1, (tag, attributes, len(found))
        return found[0]


class Reader(HTMLParser):
    """A page as a tree; a tag that is not closed in order is an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]
        self.feed(text)
        self.close()
        assert len(self.open) == 1, self.open[-1].tag

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        element = Element(tag, dict(attrs))
        self.open[-1].content.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].content.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        self.open[-1].content.append(data)


def read(text):
    return Reader(text).open[0]


@pytest.fixture(scope="module")
def text():
    return html.make()


@pytest.fixture(scope="module")
def page(text):
    return read(text)


@pytest.fixture(scope="module")
def comparison():
    return harness_records.load("compare-cpu").as_object()


@pytest.fixture
def records(tmp_path, monkeypatch):
    """An empty folder in the place of the committed records."""
    monkeypatch.setattr(harness_records, "RESULTS", tmp_path)
    return tmp_path


def _sections(page):
    return [section.attributes["id"] for section in page.all("section")]


def _words(element):
    return " ".join(element.text.split())


# The page as such.


def test_the_page_needs_nothing_from_elsewhere(page, text):
    for element in page.all():
        assert element.tag not in {"script", "link", "img", "iframe", "object", "embed", "base"}
        for name in ("href", "src", "srcset", "data", "action", "style", "onclick", "xlink:href"):
            assert element.attributes.get(name, "#").startswith("#"), element
    style = page.one("style").text
    assert "url(" not in style
    assert "@import" not in style
    assert len(text.encode()) < 5e6


def test_ids_are_unique_and_what_points_at_one_finds_it(page):
    ids = Counter(e.attributes["id"] for e in page.all() if "id" in e.attributes)
    assert set(ids.values()) == {1}
    for element in page.all():
        named = element.attributes.get("aria-labelledby", "").split()
        if element.tag == "a":
            named.append(element.attributes["href"][1:])
        assert set(named) <= set(ids), element


def test_headings_are_in_order(page):
    levels = [int(e.tag[1]) for e in page.all() if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))


def test_every_section_is_in_the_navigation_and_named_by_its_heading(page):
    links = [a.attributes["href"][1:] for a in page.one("nav").all("a")]
    assert links == _sections(page)
    for section in page.all("section"):
        assert section.attributes["aria-labelledby"] == section.one("h2").attributes["id"]


def test_what_scrolls_can_be_reached_by_the_keyboard_and_has_a_name(page):
    scrolling = [
        e for e in page.all() if {"wide", "code"} & set(e.attributes.get("class", "").split())
    ]
    assert len(scrolling) > 50
    for element in scrolling:
        assert element.attributes["tabindex"] == "0"
        assert element.attributes["aria-label"]
        assert element.attributes["role"] == "group"


def test_every_table_has_a_caption_and_rows_as_wide_as_its_head(page):
    for table in page.all("table"):
        assert _words(table.one("caption"))
        widths = [_width(row) for row in table.all("tr")]
        spans = [cell for cell in table.all("th") if "rowspan" in cell.attributes]
        if spans:  # a head of two lines, of which the first cell is one
            widths[1] += len(spans)
        assert len(set(widths)) == 1, _words(table.one("caption"))


def _width(row):
    cells = [c for c in row.content if isinstance(c, Element)]
    return sum(int(cell.attributes.get("colspan", 1)) for cell in cells)


def test_the_page_is_the_same_every_time(text):
    assert html.make() == text


def _colours():
    style = (markdown.ROOT / "bench" / "templates" / "report.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    )
    return {"light": light, "dark": light | dark}


def _luminance(colour):
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_stand_out_from_what_is_behind_them(scheme):
    colours = _colours()[scheme]
    code = ("keyword", "string", "number", "comment", "name", "builtin")
    behind = {
        "text": ("page", "panel", "differs", "word", "heat"),
        **dict.fromkeys(("muted", "link", "good", "bad", "torch", "jax"), ("page", "panel")),
        **dict.fromkeys(code, ("panel", "differs", "word")),
    }
    for letters, grounds in behind.items():
        for ground in grounds:
            low, high = sorted(_luminance(colours[name]) for name in (letters, ground))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (letters, ground)


# The sources.


def _code(page, room):
    """Lines of a room by side: the text, and whether it is marked."""
    found = {name: [] for name in SIDES.values()}
    for block in page.one("details", id=words.slug(room)).all("div", **{"class": "code"}):
        side = block.attributes["aria-label"].partition(":")[0]
        lines = [line for line in block.one("code").content if line.attributes["class"] == "l"]
        found[side] += [(line.text.removesuffix("\n"), line.tag == "mark") for line in lines]
    return found


ROOMS = sorted(
    path.name
    for path in (markdown.ROOT / "torch_impl").glob("*.py")
    if (markdown.ROOT / "jax_impl" / path.name).exists() and path.stem != "__init__"
)


@pytest.mark.parametrize("room", ROOMS)
def test_every_line_of_both_sides_stands_in_its_room(page, room):
    code = _code(page, room)
    for folder, name in SIDES.items():
        lines = (markdown.ROOT / folder / room).read_text().splitlines()
        shown = [line for line, _ in code[name] if line]
        assert Counter(shown) == Counter(line for line in lines if line)


@pytest.mark.parametrize("room", ROOMS)
def test_lines_without_a_mark_are_the_same_on_both_sides(page, room):
    code = _code(page, room)
    same = {
        name: [line for line, marked in lines if not marked and line]
        for name, lines in code.items()
    }
    assert same["PyTorch"] == same["JAX"]
    assert any(marked for _, marked in code["JAX"])


def test_every_definition_of_gpt2_has_its_own_lines_in_one_place(page):
    room = page.one("details", id="gpt2-py")
    assert "open" in room.attributes
    titles = [_words(title) for title in room.all("h4")]
    for folder, name in SIDES.items():
        source = (markdown.ROOT / folder / "gpt2.py").read_text()
        code = [
            _plain(block.one("code").text)
            for block in room.all("div", **{"class": "code"})
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


def test_a_line_is_marked_where_its_twin_is_another_and_so_are_its_words():
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


# The figures.


def _judged(comparison):
    return [
        (program, gate, tensor)
        for program in comparison["programs"]
        for gate in program["gates"]
        for tensor in gate["tensors"]
    ]


def test_the_verdicts_figures_are_the_records(page, comparison):
    facts = {
        fact.one("dt").text: fact.one("dd").text
        for fact in page.one("section", id="verdict").one("dl").all("div")
    }
    judged = _judged(comparison)
    gates = [gate for program in comparison["programs"] for gate in program["gates"]]
    assert facts["tensors judged"] == f"{len(judged):,}"
    assert facts["gates that hold"] == f"{sum(g['ok'] for g in gates)} of {len(gates)}"
    assert facts["worst tensor, of its limit"] == f"{max(t['factor'] for *_, t in judged):.0%}"
    programs = {(p["program"], p["preset"]) for p in comparison["programs"]}
    assert facts["programs"] == str(len(programs))


@pytest.mark.parametrize(
    ("definition", "pattern"),
    [
        ("CausalSelfAttention", r"h\.\d+\.attn[.:]?.*"),
        ("MLP", r"h\.\d+\.mlp[.:]?.*"),
        ("Block", r"h\.\d+(:output|\.ln_[12].*)?"),
        ("GPT2", r"(wte|wpe|ln_f|logits)\b.*"),
        ("loss_fn", r"loss"),
    ],
)
def test_beside_a_definition_stand_the_largest_errors_of_its_tensors(
    page, comparison, definition, pattern
):
    room = page.one("details", id="gpt2-py")
    place = next(
        d for d in room.all("div", **{"class": "definition"}) if d.one("h4").text == definition
    )
    errors, *_ = place.all("tbody")  # and below, where it was measured, its time
    shown = {tuple(cell.text for cell in row.all("td")) for row in errors.all("tr")}
    expected = {}
    for program, gate, tensor in _judged(comparison):
        passes = program["preset"] == "124m" and gate["gate"] == program["dtype"]
        if passes and re.fullmatch(pattern, tensor["name"]):
            expected.setdefault((program["dtype"], tensor["kind"]), []).append(tensor)
    assert {row[:2] for row in shown} == set(expected)
    for dtype, kind, name, torch, jax, limit, _ in shown:
        worst = max(expected[dtype, kind], key=lambda t: max(t["torch_error_u"], t["jax_error_u"]))
        assert name == worst["name"]
        figures = [worst[key] for key in ("torch_error_u", "jax_error_u", "limit_u")]
        assert [torch, jax, limit] == [f"{terminal.units(figure)} u" for figure in figures]


def test_the_map_has_every_tensor_of_every_layer(page, comparison):
    section = page.one("section", id="layers")
    cells = {
        cell.attributes["title"].partition(": PyTorch")[0]: [s.text for s in cell.all("span")]
        for table in section.all("table", **{"class": "heat"})
        for cell in table.all("td")
    }
    expected = {
        tensor["name"]: [terminal.units(tensor[f"{side}_error_u"]) for side in ("torch", "jax")]
        for program, gate, tensor in _judged(comparison)
        if (program["preset"], program["dtype"], gate["gate"]) == ("124m", "float32", "float32")
    }
    within = {name: errors for name, errors in expected.items() if name.startswith("h.")}
    assert cells == within
    outside = {row.one("th").text for row in section.all("tr") if len(list(row.all("th"))) == 1}
    assert set(expected) - set(within) <= outside


def test_the_table_of_planted_bugs_has_every_one(page):
    found = harness_records.load("mutants-cpu")
    section = page.one("section", id="planted")
    counts, every = section.all("table")
    numbers = [int(cell.text) for cell in counts.all("td", **{"class": "r"})]
    assert sum(numbers) == sum(row["caught"] for row in found["mutants"])
    text = _words(every)
    for row in found["mutants"]:
        assert " ".join(row["about"].split()) in text
        assert f"{terminal.units(row['factor'])}×" in text
    assert len(list(every.one("tbody").all("tr"))) == len({row["name"] for row in found["mutants"]})


def test_the_table_of_diagnoses_has_every_bug_on_every_side(page):
    rows = harness_records.load("diagnosis-cpu")["bugs"]
    _, every = page.one("section", id="diagnosed").all("tbody")
    shown = [_words(row) for row in every.all("tr")]
    assert len(shown) == len(rows)
    for row, line in zip(rows, shown, strict=True):
        assert line.startswith(row["about"])
        assert line.endswith("yes" if row["located"] and row["named"] else "ed")


def test_beside_a_definition_stands_what_it_takes_on_either_side(page):
    for row in harness_records.load("definitions-cpu")["rows"]:
        room = page.one("details", id=words.slug(f"{row['room']}.py"))
        (own,) = (
            part
            for part in room.all("div", **{"class": "definition"})
            if _words(part.one("h4")) == row["definition"]
        )
        name = f"Times of {row['definition']}, {row['room']}.py"
        (cells,) = (
            [_words(cell) for cell in line.all("td")]
            for line in own.one("div", **{"aria-label": name}).all("tr")
            if row["way"] in [_words(head) for head in line.all("th")]
        )
        assert [cell.partition(" (")[0] for cell in cells] == [
            terminal.seconds(row[side]["median_s"]) for side in frameworks.NAMES
        ]


def test_the_curves_have_every_step(page):
    found = harness_records.load("training-cpu")
    section = page.one("section", id="training")
    for name, run in found["runs"].items():
        plot = next(
            svg
            for svg in section.all("svg")
            if svg.attributes["aria-labelledby"].startswith(f"training-{name}-1-")
        )
        for side, figures in run["frameworks"].items():
            line = plot.one("path", **{"class": f"line {side}"}).attributes["d"]
            assert len(line.split("L")) == len(figures["loss"])
        assert f"{run['apart']:.1e}" in section.text


@pytest.mark.parametrize(
    "name", [path.stem for path in harness_records.RESULTS.glob("speed-*.json")]
)
def test_every_contestant_is_in_a_table_and_whoever_was_timed_in_a_plot(page, name):
    section = page.one("section", id="speed")
    for rows in tables.groups(record.load(name)):
        if rows[0].workload == "growth":
            continue
        label = f"Table: {tables.title(rows[0])}, {name}.json"
        table = section.one("div", **{"aria-label": label})
        assert [th.text.removesuffix(" *") for th in table.one("tbody").all("th")] == [
            row.contestant for row in rows
        ]
        for row in rows:
            if row.timing:
                median = terminal.seconds(row.timing.median_s)
                assert median in table.text
                assert median in [text.text for text in section.all("text")]


def test_every_record_that_is_used_has_its_machine(page):
    section = page.one("section", id="environment")
    names = [row.one("th").text for row in section.one("tbody").all("tr")]
    speeds = {path.name for path in harness_records.RESULTS.glob("speed-*.json")}
    assert {"compare-cpu.json", "training-cpu.json", "mutants-cpu.json"} | speeds <= set(names)
    for name in names:
        environment = harness_records.load(name.removesuffix(".json")).environment
        assert environment["commit"]["id"][:10] in section.text


# Scales.


@pytest.mark.parametrize("values", [[0.0, 1.0], [3.2, 5.5], [0.00012, 0.00013], [7.0, 7.0], [0.0]])
@pytest.mark.parametrize("zero", [False, True])
def test_an_even_scale_holds_its_values_and_has_few_round_ticks(values, zero):
    scale = charts.even(values, 0, 100, zero=zero)
    assert scale.low <= min(values) <= max(values) <= scale.high
    assert 2 <= len(scale.ticks) <= 9
    assert (scale.at(scale.low), scale.at(scale.high)) == (0, 100)
    assert not zero or scale.low <= 0


@pytest.mark.parametrize("values", [[1.0], [1e-7, 3e-5], [0.02, 900.0]])
def test_a_logarithmic_scale_goes_from_one_power_of_ten_to_another(values):
    scale = charts.decades(values, 300, 0)
    assert scale.low <= min(values) <= max(values) <= scale.high
    assert (scale.at(scale.low), scale.at(scale.high)) == (300, 0)
    assert list(scale.ticks) == sorted(scale.ticks)


# Other records.


def _small(comparison):
    """The comparison of SimpleNet alone."""
    programs = [p for p in comparison["programs"] if p["program"] == "simple-net"]
    return {**comparison, "programs": programs}


def test_a_comparison_that_is_given_takes_the_place_of_the_record(comparison):
    given = copy.deepcopy(_small(comparison))
    given["environment"]["hardware"]["processor"] = "another machine"
    page = read(html.make(given))
    assert "layers" not in _sections(page)
    assert "gpt2 124m" not in page.text
    assert "another machine" in page.one("section", id="environment").text
    assert "compare-cpu.json" not in page.text


def test_a_failed_comparison_says_so_and_where(comparison, records):
    given = copy.deepcopy(_small(comparison))
    program = given["programs"][0]
    gate = program["gates"][0]
    gate["tensors"][2] |= {"ok": False, "factor": 1.7e6}
    given["ok"] = program["ok"] = gate["ok"] = False
    program["first_divergence"] = {"forward": gate["tensors"][2]["name"], "backward": None}
    verdict = read(html.make(given)).one("section", id="verdict")
    assert "Not equal" in verdict.text
    assert "1.7e+06×" in verdict.text
    assert f"forward at {gate['tensors'][2]['name']}" in _words(verdict)
    assert "DIFFERS" in verdict.text


def test_what_a_record_says_is_text_and_never_a_tag(comparison, records):
    evil = "<script>alert('x')</script>&amp;\"<b onclick=x>"
    given = copy.deepcopy(_small(comparison))
    given["programs"][0]["program"] = given["programs"][0]["gates"][0]["gate"] = evil
    for program in given["programs"]:
        program["gates"][0]["tensors"][0]["name"] = evil
    given["environment"]["versions"] = {evil: evil}
    mutants = json.loads((markdown.ROOT / "bench/results/mutants-cpu.json").read_text())
    mutants["mutants"][0] |= {"name": evil, "about": evil, "gate": evil, "first": evil}
    (records / "mutants-cpu.json").write_text(json.dumps(mutants))
    text = html.make(given)
    assert "<script" not in text
    assert "<b onclick" not in text
    assert evil in read(text).text


def test_without_records_only_the_sources_are_left(records):
    assert _sections(read(html.make())) == ["sources"]


@pytest.mark.parametrize("name", sorted(set(RECORDS.values())))
def test_a_record_brings_its_own_section_and_its_machine(records, name):
    shutil.copy(markdown.ROOT / "bench" / "results" / f"{name}.json", records)
    own = [section for section, needed in RECORDS.items() if needed == name]
    expected = {"sources", "environment", *own}
    assert set(_sections(read(html.make()))) == expected


def test_defaults_that_differ_have_a_section_when_there_is_a_record(records, comparison):
    row = {
        "topic": "`LayerNorm` epsilon",
        "torch": "1e-5",
        "jax": "1e-6",
        "effect": "logits move",
        "how": "by a run",
    }
    content = {"environment": comparison["environment"], "rows": [row]}
    (records / "defaults-cpu.json").write_text(json.dumps(content))
    section = read(html.make()).one("section", id="defaults")
    assert [_words(cell) for cell in section.one("tbody").one("tr").content if cell != "\n"] == [
        "LayerNorm epsilon",
        *list(row.values())[1:],
    ]
    assert section.one("th", scope="row").one("code").text == "LayerNorm"


def test_what_a_default_costs_and_what_the_advice_leaves_of_it_stand_beside_it(page):
    rows = harness_records.load("defaults-cpu")["rows"]
    shown = list(page.one("section", id="defaults").one("tbody").all("tr"))
    for row, line in zip(rows, shown, strict=True):
        figures = [cell.text for cell in line.all("td", **{"class": "r"})]
        assert figures == [f"{row['size']:.2g}", f"{row['left']:.2g}"]
        assert line.one("th").text == row["topic"]


def test_growth_and_ladders_have_their_tables(records):
    found = json.loads((markdown.ROOT / "bench/results/speed-small-cpu.json").read_text())
    rows = [row for row in found["results"] if row["workload"] == "train"][:2]
    found["results"] = [{**row, "tier": "ladder", "variant": "ladder"} for row in rows]
    for length in (64, 128, 256, 512):
        grown = {"workload": "growth", "variant": f"length {length}", "length": length}
        able = rows if length < 512 else rows[:1]  # the other one had no memory for it
        found["results"] += [{**row, **grown, "median_s": length / 100} for row in able]
    measured = SpeedRecord.from_json(found)
    measured = replace(measured, growth=tuple(derivation.growth(measured.results)))
    (records / "speed-growth-cpu.json").write_text(json.dumps(measured.to_json()))
    section = read(html.make()).one("section", id="speed")
    titles = [_words(title) for title in section.all("h3")]
    assert titles[0].startswith("train, ladder")
    assert any(title.startswith("Growth with length") for title in titles)
    table = section.one("div", **{"aria-label": "Table: growth with length in tokens"}).one("table")
    last = [[_words(c) for c in row.content if isinstance(c, Element)] for row in table.all("tr")]
    head, long, short = (row[-4:] for row in last)
    assert head == ["256", "512", "exponent", "R²"]
    assert long == ["2.56 s", "5.12 s", "1.00", "1.000"]
    assert short == ["2.56 s", "", "1.00", "1.000"]
    assert len(list(section.all("svg"))) == 2


# The file.


def test_what_is_written_is_the_page(tmp_path, text):
    html.write(tmp_path / "report.html", None)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_is_the_callers_mistake(tmp_path):
    with pytest.raises(ValueError, match="cannot write"):
        html.write(tmp_path / "nowhere" / "report.html")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("compare-cpu", {"programs": []}),
        ("compare-cpu", {"environment": {}, "ok": True, "programs": [{"program": "gpt2"}]}),
        ("mutants-cpu", {"environment": {}, "clean_ok": True, "mutants": [[]]}),
        ("training-cpu", {"environment": {}, "runs": {"default": {"frameworks": "ab"}}}),
        ("defaults-cpu", {"environment": {}, "rows": [{"topic": 3}]}),
    ],
)
def test_a_record_of_another_form_is_refused(tmp_path, monkeypatch, capsys, name, content):
    monkeypatch.setattr(harness_records, "RESULTS", tmp_path)
    monkeypatch.setattr(source_diff, "rooms", lambda outcomes, times: [])  # which no record changes
    (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert main(["report", "--html", str(tmp_path / "page.html")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not what its command writes" in line
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, "\xff"])
def test_a_record_that_is_no_object_is_refused_by_its_path(tmp_path, monkeypatch, content):
    monkeypatch.setattr(harness_records, "RESULTS", tmp_path)
    (tmp_path / "compare-cpu.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"compare-cpu\.json is not"):
        markdown.fill("<!-- from compare:compare-cpu -->\n<!-- end -->")


# The command line.


def test_the_command_writes_the_page_and_says_where(tmp_path, capsys):
    path = tmp_path / "page.html"
    assert main(["report", "--html", str(path)]) == 0
    assert path.read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert str(path) in capsys.readouterr().out


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path, capsys):
    assert main(["report", "--html", str(tmp_path / "nowhere" / "page.html")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "does not exist" in line


@pytest.mark.skipif(
    not all(frameworks.installed(name) for name in frameworks.NAMES),
    reason="a comparison has two sides",
)
def test_compare_writes_a_page_of_what_it_found(tmp_path, capsys):
    path = tmp_path / "page.html"
    call = ["compare", "sigmoid-bce", "--dtype", "float64", "--html", str(path)]
    assert main(call) == 0
    text = path.read_text(encoding="utf-8")
    assert "sigmoid-bce" in text
    capsys.readouterr()
