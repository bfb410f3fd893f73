"""What a recorded side decodes: kept, checked, and judged as the live one would be."""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest

from bench.harness import frameworks

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)


from tests.helpers import decoders
from twingrad import comparison
from twingrad.arithmetic import arithmetic
from twingrad.decoding import check
from twingrad.decoding.decoded import Decoded, DecodingRecord, runs
from twingrad.decoding.recording import recorded
from twingrad.decoding.runs import Decoding
from twingrad.decoding.sessions import on_side
from twingrad.diagnosis import pairs
from twingrad.live import LivePair
from twingrad.record import against, codec, files, recorder
from twingrad.record.content import Content
from twingrad.record.recorded import Record

SIDES = ("torch", "jax")
WRONG = {"torch": ["torch_bug"], "jax": ["jax_bug"], "both": ["torch_bug", "jax_bug"]}


def record(pair, side, folder, **options):
    files.write(folder, recorder.record(pair, side, **options), 1.0)
    return against.recorded(folder)


def like_torch(pair, folder):
    """PyTorch's numbers by the names of JAX's, as ``record --like`` takes them."""
    return against.numbers(pair, record(pair, "torch", folder), folder)


def both_ways(pair, side, folder):
    """Findings of decoding in one process, and with ``side`` recorded; all numbers are the same."""
    like = like_torch(pair, folder / "like") if side == "jax" else None
    apart = against.against(pair, record(pair, side, folder / "rec", like=like), folder / "rec")
    return [decoded(given) for given in (pair, apart)]


def decoded(pair):
    with arithmetic("float64"):
        return list(check.findings(Decoding.of(LivePair.build(pair, "float64", lift=True))))


def require_same(here, there):
    """Findings of one stage, place, position and cause, and of one size but for rounding."""
    assert [(f.stage, f.where, f.cause) for f in here] == [
        (f.stage, f.where, f.cause) for f in there
    ]
    for one, other in zip(here, there, strict=True):
        assert other.size == pytest.approx(one.size, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("side", SIDES)
def test_a_right_pair_is_equal_from_a_record_of_either_side(tmp_path, side):
    pair = decoders.pair()
    found = record(pair, side, tmp_path / "rec")
    apart = against.against(pair, found, tmp_path / "rec")
    assert pairs.diagnose(apart).ok
    outcomes, notes = comparison.compare(apart, ("float64",))
    assert [gate.name for gate in outcomes[0].gates if gate.ok] == [
        "float64", "second batch", "decoding",
    ]  # fmt: skip
    assert notes == []
    run = found.content.runs["float64 lifted"]
    assert np.array_equal(found.content.tokens, decoders.TOKENS)
    assert run.decoding.decoded.forward.shape == (*decoders.TOKENS.shape, decoders.V)
    assert found.content.runs["float32"].decoding is None
    assert getattr(apart, f"{side}_decode") is None


class Gone:
    """A side that is not here: its model, which nothing may ask for, cannot be run."""

    recorded = True


def from_decoding_alone(pair):
    """Findings in one process, and from what a record has of either side's decoding."""
    with arithmetic("float64"):
        live = LivePair.build(pair, "float64", lift=True)
        whole = Decoding.of(live)
        found = {"": list(check.findings(whole))}
        for side in SIDES:
            kept = recorded(partial(on_side, live, side), side, decoders.TOKENS, "float64")
            tensors = codec.Tensors()
            kept = codec.decode(DecodingRecord, codec.encode(kept, tensors), tensors.by_name)
            apart = replace(
                whole,
                live=replace(live, **{side: Gone()}),
                sides={**whole.sides, side: kept.decoded},
                records={side: kept},
            )
            found[side] = list(check.findings(apart))
    return found


@pytest.mark.slow("*index", "*position", "*later", "*-prompt*", "both-*", "torch-*", "jax-mask")
@pytest.mark.parametrize("bug", ["index", "lost", "mask", "later", "position", "prompt lost"])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_causes_are_those_of_one_process_whichever_side_is_recorded(wrong, bug):
    found = from_decoding_alone(decoders.pair(**dict.fromkeys(wrong, bug)))
    assert len(found[""]) == 1
    assert found[""][0].cause.startswith("in both: ") == (len(wrong) == 2)
    assert found["torch"] == found["jax"] == found[""]


@pytest.mark.slow("*-jax", "jax_bug-torch")
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("wrong", ["torch_bug", "jax_bug"])
def test_a_bug_is_found_from_a_whole_record_with_its_cause(tmp_path, wrong, side):
    here, there = both_ways(decoders.pair(**{wrong: "lost"}), side, tmp_path)
    assert here[0].cause is not None
    require_same(here, there)


def _off_by_one(model, tokens, cache, position):
    """A step whose table of positions is read without a module, at the next one."""
    wpe, off = model.wpe, int(tokens.shape[1] == 1)
    model.wpe = lambda positions: wpe.embedding[...][positions + off]
    try:
        return model.step(tokens, cache, position)
    finally:
        model.wpe = wpe


OFF = replace(decoders.DECODE, step=_off_by_one)


def test_a_position_that_no_module_is_given_is_known_by_the_other_side():
    found = from_decoding_alone(decoders.pair(jax_decode=OFF))
    assert "PyTorch's gives these numbers where its embedding" in found[""][0].cause
    assert found["torch"] == found["jax"] == found[""]


@pytest.mark.slow
def test_decoding_that_raises_is_refused_where_it_is_judged():
    def broken(model, tokens, cache, position):
        raise RuntimeError("no step today")

    wrong = decoders.pair(jax_decode=replace(decoders.DECODE, step=broken))
    with arithmetic("float64"):
        live = LivePair.build(wrong, "float64")
        kept = recorded(partial(on_side, live, "jax"), "jax", decoders.TOKENS, "float64")
    content = content_of(True)
    run = replace(content.runs["float64 lifted"], decoding=kept)
    found = Record(replace(content, runs={"float64 lifted": run}))
    with pytest.raises(ValueError, match=r"jax_decode raised RuntimeError: no step today"):
        decoded(against.against(decoders.pair(), found, "rec"))


@cache
def content_of(decodes: bool) -> Content:
    if decodes:
        return recorder.record(decoders.pair(), "jax")
    content = content_of(True)
    bare = {name: replace(run, decoding=None) for name, run in content.runs.items()}
    return replace(content, tokens=None, runs=bare)


@pytest.mark.parametrize(
    ("decodes", "changes", "words"),
    [
        (False, {}, "the pair has torch_decode, and rec holds no decoding"),
        (True, {"jax_decode": None, "torch_decode": None}, "the pair has no torch_decode: give it"),
        (True, {"tokens": decoders.TOKENS[:, 1:]}, "other tokens than were decoded for rec"),
        (True, {"tokens": decoders.TOKENS[:, :2]}, "3 tokens or more"),
    ],
)
def test_a_pair_that_decodes_otherwise_than_the_record_is_refused(decodes, changes, words):
    with pytest.raises(ValueError, match=words):
        against.against(decoders.pair(**changes), Record(content_of(decodes)), "rec")


def test_tokens_that_cannot_be_decoded_are_not_recorded():
    with pytest.raises(ValueError, match="3 tokens or more"):
        recorder.record(decoders.pair(tokens=decoders.TOKENS[:, :2]), "torch")


def _forged(name):
    content = content_of(True)
    run = content.runs["float64 lifted"]
    kept = run.decoding

    def of_run(**changes):
        return replace(content, runs={"float64 lifted": replace(run, **changes)})

    def of_stretch(place, **changes):
        stretches = list(kept.decoded.stretches)
        stretches[place] = replace(stretches[place], **changes)
        found = Decoded(forward=kept.decoded.forward, stretches=stretches)
        return of_run(decoding=replace(kept, decoded=found))

    forward = kept.decoded.forward
    prompt = kept.decoded.stretches[0]
    return {
        "no decoding": lambda: of_run(decoding=None),
        "no tokens": lambda: replace(content, tokens=None),
        "tokens of one axis": lambda: replace(content, tokens=content.tokens[0]),
        "other tokens": lambda: replace(content, tokens=content.tokens[:, 1:]),
        "tokens of numbers": lambda: replace(content, tokens=content.tokens + 0.5),
        "neither": lambda: of_run(decoding=replace(kept, decoded=None)),
        "both": lambda: of_run(decoding=replace(kept, error="it failed")),
        "forward": lambda: of_run(
            decoding=replace(kept, decoded=replace(kept.decoded, forward=forward[..., :-1]))
        ),
        "truth values": lambda: of_run(
            decoding=replace(kept, decoded=replace(kept.decoded, forward=forward > 0))
        ),
        "a call too few": lambda: of_run(
            decoding=replace(
                kept, decoded=replace(kept.decoded, stretches=kept.decoded.stretches[:-1])
            )
        ),
        "number": lambda: of_stretch(1, number=7),
        "start": lambda: of_stretch(1, start=-1),
        "first": lambda: of_stretch(0, first=2),
        "alone": lambda: of_stretch(0, alone=True),
        "logits": lambda: of_stretch(0, logits=prompt.logits[:, :2]),
        "no logits": lambda: of_stretch(0, logits=prompt.logits[:, :0]),
        "axes of logits": lambda: of_stretch(0, logits=prompt.logits[0]),
        "displaced": lambda: of_run(
            decoding=replace(kept, displaced=[replace(kept.displaced[0], position=99)])
        ),
        "sketch": lambda: of_run(
            decoding=replace(kept, displaced=[replace(kept.displaced[0], sketch=forward)])
        ),
    }[name]()


FORGERIES = ("no decoding", "no tokens", "tokens of one axis", "other tokens", "tokens of numbers",
             "neither", "both", "forward", "truth values", "a call too few", "number", "start",
             "first", "alone", "logits", "no logits", "axes of logits", "displaced",
             "sketch")  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_decoding_that_does_not_fit_is_refused_when_it_is_read(tmp_path, name):
    files.write(tmp_path / "rec", _forged(name), 1.0)
    with pytest.raises(ValueError, match="damaged or was changed by hand"):
        files.read(tmp_path / "rec")


@pytest.mark.parametrize("length", [3, 16, 17, 40])
def test_the_calls_of_a_text_are_its_last_steps_and_its_first(length):
    prompted, alone = runs(length)
    assert sum(call.count for call in prompted) == length
    assert prompted[0].number == prompted[0].start == 0
    assert len(prompted) - 1 <= 16 >= len(alone)
    assert [call.start for call in alone] == list(range(len(alone)))
