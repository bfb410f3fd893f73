"""The study of ports after public reports: what counts as right, and its tables."""

import json

import pytest

from bench.studies import ports
from bench.studies.ports import Answer, Expected, Port

BUG = Expected(
    status=1, stage="forward", where=r"0|conv", cause=("pad",), not_cause=("bfloat16",), also=()
)


def answer(*findings, status=1, notes=(), message="") -> Answer:
    keys = ("stage", "where", "cause", "evidence", "size")
    objects = [dict(zip(keys, (*finding, "", None), strict=True)) for finding in findings]
    return {"status": status, "findings": objects, "notes": list(notes), "message": message}


def judged(expected, said):
    row = ports.judge(Port("case", "pair_x", expected), said)
    return row["right"], row["named"]


def test_every_file_has_an_expectation_and_every_case_a_right_port():
    by_case = {}
    for port in ports.read():
        assert port.path.is_file()
        assert port.expected.status in (0, 1, 2)
        assert port.expected.status != 1 or (port.expected.where and port.expected.cause)
        by_case.setdefault(port.case, []).append(port)
    assert len(by_case) >= 69
    for case, files in by_case.items():
        assert any(port.expected.status == 0 for port in files), case
        assert any(port.expected.status != 0 for port in files), case


def test_the_first_answers_are_of_files_that_are_there_each_as_it_was_judged():
    first = json.loads((ports.PORTS / ports.FIRST_ANSWERS).read_text())["ports"]
    by_name = {port.name: port for port in ports.read()}
    assert len({row["name"].split("/")[0] for row in first}) >= 14
    for row in first:
        assert {**ports.judge(by_name[row["name"]], row), "name": row["name"]} == row


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (answer(("forward", "conv", "it pads (2, 3)")), (True, True)),
        (answer(("forward", "conv", None)), (True, False)),
        (answer(("forward", "conv", "it pads in bfloat16")), (True, False)),
        (answer(("forward", "conv1", "it pads")), (False, False)),
        (answer(("backward", "conv", "it pads")), (False, False)),
        (answer(("forward", "norm", None), ("forward", "conv", "it pads")), (False, False)),
        (answer(("forward", "conv", "pads"), ("forward", "b", "in bfloat16")), (True, False)),
        (answer(status=0), (False, False)),
        (answer(("forward", "conv", "it pads"), status=2), (False, False)),
    ],
)
def test_a_wrong_port_is_right_where_its_place_comes_first_and_named_by_its_words(said, expected):
    assert judged(BUG, said) == expected


def test_a_second_cause_may_come_with_any_finding():
    both = Expected(status=1, stage="forward", where="norm", cause=("1 \\+",), also=("GELU",))
    first = ("forward", "norm", "times 1 + weight")
    assert judged(both, answer(first, ("forward", "mlp", "GELU by erf"))) == (True, True)
    assert judged(both, answer(first)) == (True, False)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        (answer(status=0), False),
        (answer(status=0, notes=[{"where": "norm", "note": "computes in float32"}]), True),
        (answer(("forward", "norm", "float32")), False),
    ],
)
def test_a_right_port_needs_its_status_and_its_notes(said, right):
    assert judged(Expected(status=0, notes=("float32",)), said) == (right, None)


def test_a_refusal_is_right_where_it_says_the_words():
    refused = Expected(status=2, message=("index out of range", r"pair_x\.py"))
    assert judged(refused, answer(status=2, message="pair_x.py: index out of range")) == (
        True,
        None,
    )
    assert judged(refused, answer(status=2, message="index out of range")) == (False, None)
    assert judged(refused, answer(status=1)) == (False, None)


def test_rates_count_right_ports_wrong_ports_and_causes_apart():
    rows = [
        {**answer(status=0), "name": "a/pair_ok", "right": True, "named": None},
        {**answer(), "name": "a/pair_bug", "right": True, "named": False},
        {**answer(), "name": "b/pair_bug", "right": False, "named": False},
        {**answer(), "name": "c/pair_bug", "right": True, "named": True},
        {**answer(status=2), "name": "d/pair_bug_raises", "right": True, "named": None},
    ]
    assert [(rate["right"], rate["of"]) for rate in ports.rates(rows)] == [(1, 1), (3, 4), (1, 3)]


def test_a_file_without_an_expectation_is_named(tmp_path, monkeypatch):
    case = tmp_path / "case"
    case.mkdir()
    (case / "pair_ok.py").write_text("")
    (case / "expected.toml").write_text("[pair_bug]\nstatus = 1\n")
    monkeypatch.setattr(ports, "PORTS", tmp_path)
    with pytest.raises(ValueError, match=r"must name the files \['pair_ok'\], not \['pair_bug'\]"):
        ports.read()
