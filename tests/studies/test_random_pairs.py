"""Random pairs: drawn by number, one model written twice, or with a change at a known place."""

import json
from dataclasses import replace

import pytest

from bench.harness import frameworks
from bench.studies import random_pairs
from bench.studies.random_models import drawing
from bench.studies.random_models.specification import KINDS, image_sizes

ALL = [drawing.specification(number) for number in range(random_pairs.PAIRS)]
ROW = {
    "number": 3, "kind": "haiku", "model": "haiku, tokens: mlp", "planted": None, "place": None,
    "right": True, "said": "",
}  # fmt: skip


def test_a_number_gives_the_same_model_each_time_and_no_two_are_alike():
    assert ALL[:20] == [drawing.specification(number) for number in range(20)]
    assert len({replace(spec, number=0) for spec in ALL}) == len(ALL)


def test_kinds_layers_floors_and_layouts_are_all_drawn():
    assert {spec.kind for spec in ALL} == set(KINDS)
    blocks = [block for spec in ALL for block in spec.blocks]
    assert len({block.kind for block in blocks}) == 5
    assert {block.norm for block in blocks} == {"layer", "rms", "none"}
    assert {(s.torch.low_norm, s.jax.low_norm) for s in ALL} == {
        (a, b) for a in (False, True) for b in (False, True)
    }
    assert {(s.jax.fused, s.jax.flat) for s in ALL} == {(0, 0), (0, 1), (1, 0)}


def test_images_are_never_smaller_than_two():
    assert min(size for s in ALL if s.input == "images" for size in image_sizes(s)) >= 2


def test_a_change_is_one_and_at_a_place_of_the_model():
    for spec in ALL:
        change = drawing.change(spec)
        differing = [a != b for a, b in zip(spec.blocks, change.spec.blocks, strict=True)]
        assert change.spec != spec
        if change.place.startswith("blocks."):
            assert differing.index(True) == int(change.place.split(".")[1])
        else:
            assert change.place in ("model", "loss")
        assert sum(differing) == change.place.startswith("blocks.")


def test_a_record_of_the_same_sources_is_continued_and_another_begun_anew(tmp_path):
    path = tmp_path / "record.json"
    new = random_pairs.begun(path)
    assert new["rows"] == []
    path.write_text(json.dumps({**new, "rows": [ROW]}))
    assert random_pairs.begun(path)["rows"] == [ROW]
    path.write_text(json.dumps({"sources": "others", "rows": [ROW]}))
    assert random_pairs.begun(path)["rows"] == []
    path.write_text("no record")
    with pytest.raises(ValueError, match="name another file"):
        random_pairs.begun(path)


def test_the_table_counts_right_pairs_and_located_changes():
    rows = [
        ROW,
        {**ROW, "number": 8, "right": False},
        {**ROW, "planted": "another mask", "place": "blocks.0"},
    ]
    text = random_pairs.markdown(random_pairs.Record({}, {"rows": rows}))
    assert "| Haiku | 1 | 2 | 1 | 1 |" in text
    assert "| all | 1 | 2 | 1 | 1 |" in text


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="a pair needs both frameworks"
)
@pytest.mark.parametrize("number", range(len(KINDS)))
def test_of_each_kind_a_pair_is_equal_and_a_change_in_it_located(number):
    for planted in (False, True):
        row = random_pairs.diagnosed(number, planted)
        assert row["right"], row


def _parts(spec):
    """What a model has, by the way in which its JAX version is written."""
    names = ("input", "readout", "loss", "positions", "tied", "final_norm", "ignored", "summed")
    found = {(name, getattr(spec, name)) for name in names}
    found |= {(name, getattr(b, name)) for b in spec.blocks for name in ("kind", "norm")}
    return {(spec.kind, *part) for part in found}


def _covering():
    """Few models that have all parts between them."""
    left, chosen = set().union(*map(_parts, ALL)), []
    while left:
        chosen.append(max(ALL, key=lambda spec: len(_parts(spec) & left)).number)
        left -= _parts(ALL[chosen[-1]])
    return chosen


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="a pair needs both frameworks"
)
@pytest.mark.parametrize("number", _covering())
def test_both_versions_compute_the_same_whatever_parts_they_have(number):
    from bench.studies.random_models import building
    from twingrad.arithmetic import arithmetic
    from twingrad.exact import ExactRun
    from twingrad.live import LivePair

    with arithmetic("float64"):
        run = ExactRun.once(LivePair.build(building.pair(ALL[number]), "float64", lift=True))
        assert run.plain.loss == pytest.approx(float(run.seen.loss), rel=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="a pair needs both frameworks"
)
@pytest.mark.parametrize("number", [56, 134])
def test_tables_of_float32_are_known_where_layouts_were_settled_by_running_before(number):
    """JAX keeps what it has traced: the run for the layouts is the one that hears of them."""
    row = random_pairs.diagnosed(number, False)
    assert row["right"], row


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="a pair needs both frameworks"
)
@pytest.mark.parametrize("number", [43, 52])
def test_a_maximum_that_xla_computes_twice_makes_no_gradient_that_is_no_number(number):
    """Both have max pooling, of numbers that XLA's fused loops round in two ways."""
    row = random_pairs.diagnosed(number, False)
    assert row["right"], row
