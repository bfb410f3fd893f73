"""Each side of a port recorded where its framework is alone, and judged where the other is.

What is found is what is found with both frameworks in one process.
"""

import json
import warnings
from typing import NamedTuple

import pytest

from bench.harness import frameworks
from tests.helpers.apart import ROOT, calls_without, one_side
from twingrad.diagnosis import pairs
from twingrad.pair import load
from twingrad.result import Findings

pytestmark = [pytest.mark.slow, pytest.mark.one_setup]
if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)

# A forward pass, attention, a gradient, state, updates, images, a scan, a loss, and right ones.
CASES = (
    "gru-reset/pair_bug",
    "attention-scale/pair_bug",
    "padding-idx/pair_bug",
    "batchnorm-momentum/pair_bug",
    "clip-epsilon/pair_bug",
    "conv-same-stride2/pair_bug",
    "scanned-layers/pair_bug",
    "huber-scale/pair_bug",
    "batchnorm-momentum-linen/pair_ok",
    "mha-packed/pair_ok",
    "lstm-gate-order/pair_ok",
    "layernorm-unbiased/pair_ok",
)


class Answer(NamedTuple):
    """A diagnosis as a process wrote it: stage, place and size of its first finding, its cause."""

    status: int
    stage: str
    where: str
    size: float
    cause: str | None
    notes: list[str]


class Found(NamedTuple):
    """The diagnoses of one case: in JAX alone, and in PyTorch alone from two records of JAX.

    ``like`` is from the one whose parameters are PyTorch's, ``own`` from the one with JAX's.
    """

    together: Findings
    in_jax: Answer
    like: Answer
    own: Answer


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, Found]:
    folders = {}
    for case in CASES:
        folder = folders[case] = tmp_path_factory.mktemp(case.replace("/", "-"))
        text = (ROOT / "tests" / "ports" / f"{case}.py").read_text(encoding="utf-8")
        for side in ("torch", "jax"):
            (folder / f"of_{side}.py").write_text(one_side(text, side), encoding="utf-8")

    def record(side, out, *more):
        return ["record", f"of_{side}.py", "--side", side, "--out", out, *more]

    def judge(side, record):
        return ["diagnose", f"of_{side}.py", "--against", record, "--json", f"{record}.json"]

    def run(without, calls):
        done = calls_without(without, [(f, call) for f in folders.values() for call in calls])
        return [done[n : n + len(calls)] for n in range(0, len(done), len(calls))]

    recorded = run("jax", [record("torch", "of_torch")])
    jax_calls = [
        judge("jax", "of_torch"),
        record("jax", "of_jax"),
        record("jax", "like", "--like", "of_torch"),
    ]
    in_jax = run("torch", jax_calls)
    in_torch = run("jax", [judge("torch", "of_jax"), judge("torch", "like")])
    for case, done in zip(CASES, zip(recorded, in_jax, in_torch, strict=True), strict=True):
        ((status, said),), (_, *others), _ = done
        assert (status, [s for s, _ in others]) == (0, [0, 0]), (case, said, others)
    return {
        case: Found(
            together=_together(ROOT / "tests" / "ports" / f"{case}.py"),
            in_jax=_answer(folders[case] / "of_torch.json", there[0]),
            own=_answer(folders[case] / "of_jax.json", here[0]),
            like=_answer(folders[case] / "like.json", here[1]),
        )
        for case, there, here in zip(CASES, in_jax, in_torch, strict=True)
    }


def _together(path) -> Findings:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a port may use what its library deprecates
        return pairs.diagnose(load(path))


def _answer(path, done) -> Answer:
    status, said = done
    assert status in (0, 1), said
    report = json.loads(path.read_text())
    notes = [note["note"] for note in report["notes"]]
    first = (report["findings"] or [{"stage": "", "where": "", "size": 0.0, "cause": None}])[0]
    return Answer(status, first["stage"], first["where"], first["size"], first["cause"], notes)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", ["in_jax", "like", "own"])
def test_the_same_is_found_as_in_one_process(found, case, way):
    together, answer = found[case].together, getattr(found[case], way)
    assert answer.status == int(case.endswith("pair_bug")) == int(not together.ok)
    if not together.ok:
        assert (answer.stage, answer.where) == (together[0].stage, together[0].where)
    if not together.ok and way != "own":  # JAX's own parameters are others
        assert answer.size == pytest.approx(together[0].size, rel=1e-6)


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith("pair_bug")])
@pytest.mark.parametrize("way", ["in_jax", "like", "own"])
def test_every_cause_is_found_too(found, case, way):
    assert getattr(found[case], way).cause == found[case].together[0].cause
    assert pairs.NOT_TRIED not in getattr(found[case], way).notes


def _decode_pair() -> str:
    """The pair of docs/porting.md that decodes, whose port sees one position too many."""
    text = (ROOT / "docs" / "porting.md").read_text(encoding="utf-8")
    return text.partition("<!-- file: decode_pair.py -->\n```python\n")[2].partition("```")[0]


def test_decoding_is_judged_from_a_record_of_either_side(tmp_path):
    text = _decode_pair()
    (tmp_path / "both.py").write_text(text)
    for side in ("torch", "jax"):
        (tmp_path / f"of_{side}.py").write_text(one_side(text, side))
    (finding,) = _together(tmp_path / "both.py")
    assert finding.where == "prefill of 3, position 0 (JAX)"

    def record(side, out, *more):
        return tmp_path, ["record", f"of_{side}.py", "--side", side, "--out", out, *more]

    def judge(side, record):
        call = ["diagnose", f"of_{side}.py", "--against", record, "--json", f"{record}.json"]
        return tmp_path, call

    recorded = calls_without("jax", [record("torch", "of_torch")])
    like = record("jax", "of_jax", "--like", "of_torch")
    in_jax = calls_without("torch", [judge("jax", "of_torch"), like])
    in_torch = calls_without("jax", [judge("torch", "of_jax")])
    assert [status for status, _ in (*recorded, *in_jax, *in_torch)] == [0, 1, 0, 1]
    for side, done in (("torch", in_jax[0]), ("jax", in_torch[0])):
        answer = _answer(tmp_path / f"of_{side}.json", done)
        assert (answer.stage, answer.where) == ("decoding", finding.where)
        assert answer.cause == finding.cause
        assert answer.size == pytest.approx(finding.size, rel=1e-6)


BOTH = """
import numpy as np
from twingrad import Pair

def make_torch():
    import torch
    return torch.nn.Linear(4, 2)

def make_jax():
    from flax import nnx
    return nnx.Linear(4, 2, rngs=nnx.Rngs(0))

def loss(model, x):
    return (model(x) ** 2).mean()

options = dict(torch_loss=loss, jax_loss=loss, batch=[np.linspace(-1, 1, 24).reshape(6, 4)])
pair = Pair(torch=make_torch, jax=make_jax, **options)
"""


def test_a_file_that_imports_within_its_functions_serves_in_either_environment(tmp_path):
    (tmp_path / "pair.py").write_text(BOTH)
    (tmp_path / "top.py").write_text(BOTH + "\nimport torch\n")

    def record(side, file="pair.py"):
        out = f"of_{side}" if file == "pair.py" else "other"
        return tmp_path, ["record", file, "--side", side, "--out", out]

    def compare(record, *more):
        return tmp_path, ["compare", "pair.py", "--against", record, *more]

    in_jax = calls_without("torch", [record("jax"), record("torch"), record("jax", "top.py")])
    in_torch = calls_without("jax", [compare("of_jax", "--json", "c.json"), record("torch")])
    assert [status for status, _ in in_jax] == [0, 2, 2]
    assert [status for status, _ in in_torch] == [0, 0]
    assert in_jax[1][1].startswith("twingrad: torch is not installed")
    assert "import each framework only within the functions" in in_jax[2][1]
    assert json.loads((tmp_path / "c.json").read_text())["ok"]
    back = calls_without("torch", [compare("of_torch"), compare("of_jax")])
    assert [status for status, _ in back] == [0, 2]
    assert "torch is not installed" in back[1][1]


def test_the_starters_of_the_two_sides_are_a_pair(tmp_path):
    def begin(side):
        return [
            (tmp_path, ["init-pair", f"my_{side}.py", "--side", side]),
            (tmp_path, ["record", f"my_{side}.py", "--side", side, "--out", f"of_{side}"]),
        ]

    assert [s for s, _ in calls_without("jax", begin("torch"))] == [0, 0]
    judged = (tmp_path, ["diagnose", "my_jax.py", "--against", "of_torch", "--strict"])
    assert [s for s, _ in calls_without("torch", [*begin("jax"), judged])] == [0, 0, 0]
    judged = (tmp_path, ["diagnose", "my_torch.py", "--against", "of_jax", "--strict"])
    assert [s for s, _ in calls_without("jax", [judged])] == [0]
