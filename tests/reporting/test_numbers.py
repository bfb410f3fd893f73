"""Every number on the page is that of a record."""

import re

import pytest

from bench.harness import frameworks, machine, terminal
from bench.harness import records as harness_records
from bench.speed import record, tables
from tests.helpers.page import text_of
from twingrad.anchors import slug


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


def test_every_gate_shows_the_errors_that_it_measures_and_no_number_twice(page, comparison):
    table = next(t for t in page.one("section", id="verdict").all("table"))
    rows = [row for row in table.all("tr") if "data-dtype" in row.attributes]
    gates = [gate for program in comparison["programs"] for gate in program["gates"]]
    assert len(rows) == len(gates)
    shown = {}
    for row in rows:
        gate, dtype, _, _, torch, jax, apart, _, _ = (cell.text for cell in row.all("td"))
        shown.setdefault((gate, dtype), set()).add((bool(torch), bool(jax), bool(apart)))
    assert shown["trajectory", "float64"] == {(False, False, True)}
    assert shown["central-differences", "float64"] == {(True, False, False)}
    assert shown["forward, backward", "float32"] == {(True, True, False)}
    # GPT-2's two results have no third; the small programs have the gradient by hand as well.
    assert shown["forward, backward", "float64"] == {(False, False, True), (True, True, True)}


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
    room = page.one("details", id="gpt2.py")
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
    text = text_of(every)
    for row in found["mutants"]:
        assert " ".join(row["about"].split()) in text
        assert f"{terminal.units(row['factor'])}×" in text
    assert len(list(every.one("tbody").all("tr"))) == len({row["name"] for row in found["mutants"]})


def test_the_table_of_diagnoses_has_every_bug_on_every_side(page):
    rows = harness_records.load("diagnosis-cpu")["bugs"]
    _, every = page.one("section", id="diagnosed").all("tbody")
    shown = [text_of(row) for row in every.all("tr")]
    assert len(shown) == len(rows)
    for row, line in zip(rows, shown, strict=True):
        assert line.startswith(row["about"])
        assert line.endswith("yes" if row["located"] and row["named"] else "ed")


@pytest.mark.slow
def test_beside_a_definition_stands_what_it_takes_on_either_side(page):
    for row in harness_records.load("definitions-cpu")["rows"]:
        room = page.one("details", id=slug(f"{row['room']}.py"))
        (own,) = (
            part
            for part in room.all("div", **{"class": "definition"})
            if text_of(part.one("h4")) == row["definition"]
        )
        name = f"Times of {row['definition']}, {row['room']}.py"
        (cells,) = (
            [text_of(cell) for cell in line.all("td")]
            for line in own.one("div", **{"aria-label": name}).all("tr")
            if row["way"] in [text_of(head) for head in line.all("th")]
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


def test_what_a_default_costs_and_what_the_advice_leaves_of_it_stand_beside_it(page):
    rows = harness_records.load("defaults-cpu")["rows"]
    shown = list(page.one("section", id="defaults").one("tbody").all("tr"))
    for row, line in zip(rows, shown, strict=True):
        figures = [cell.text for cell in line.all("td", **{"class": "r"})]
        assert figures == [f"{row['size']:.2g}", f"{row['left']:.2g}"]
        assert line.one("th").text == row["topic"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (107.4, "Measured in 107 s on "),
        (1298.07, "Measured in 22 minutes on "),
        (None, "Measured on "),
    ],
)
def test_where_a_record_was_measured_says_how_long_it_took(monkeypatch, seconds, said):
    environment = harness_records.load("compare-cpu").environment
    body = {} if seconds is None else {"seconds": seconds}
    record = harness_records.Record(environment, body)
    monkeypatch.setattr(machine, "load", lambda name: record)
    assert machine.measured_on("a-record").startswith(said)
