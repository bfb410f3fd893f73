"""Records of one side of a pair, bent and signed anew, are refused in one sentence."""

import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given

from tests.helpers.damage import bent
from tests.helpers.fuzz import examples, laid, tried
from twingrad.calls import Call, Key, Pass
from twingrad.decoding.decoded import Decoded, DecodingRecord, Displaced, Stretch, runs
from twingrad.diagnosis.hypotheses.rules import Rule
from twingrad.partners import Leaf
from twingrad.record import files
from twingrad.record.codec import Tensors, encode
from twingrad.record.content import VERSION, Content, Run, Steps

ROWS, LENGTH, VOCABULARY = 1, 3, 2
WEIGHT, X = np.ones((2, 2)), np.ones((3, 2))


def _decoding() -> DecodingRecord:
    forward = np.zeros((ROWS, LENGTH, VOCABULARY))
    stretches = [
        Stretch(
            number=call.number, start=call.start, first=call.start, alone=call.alone,
            logits=forward[:, : call.count],
        )
        for run in runs(LENGTH) for call in run
    ]  # fmt: skip
    decoded = Decoded(forward=forward, stretches=stretches)
    steps = [Displaced(position=1, off=-1, sketch=np.zeros(6))]
    return DecodingRecord(decoded=decoded, cause="it is off", displaced=steps)


def _content() -> Content:
    key = Key("layer", 0)
    call = Call(
        key=key, kind="Linear", inputs=[X], integers=[], outputs=[X], input_gradients=[X],
        output_gradients=[X],
    )  # fmt: skip
    seen = Pass(
        loss=0.5,
        calls={key: call},
        events=[("enter", key), ("leave", key)],
        gradients={"layer.weight": WEIGHT},
    )
    steps = Steps(gradients=[{"layer.weight": WEIGHT}], parameters=[], rule=Rule(rates=(0.1,)))
    run = Run(
        leaves=[Leaf("layer.weight", (2, 2))], tensors={"layer.weight": WEIGHT},
        trained=["layer.weight"], first=seen, steps=steps, decoding=_decoding(),
    )  # fmt: skip
    return Content(
        side="torch", name="pair", versions={"numpy": "2"}, train=False, copy=True, has_loss=True,
        has_optimizer=True, only=None, batch=[X], second=None,
        tokens=np.zeros((ROWS, LENGTH), np.int64), runs={"float64": run}, failures={},
    )  # fmt: skip


TENSORS = Tensors()
BODY = {"format": files.FORMAT, "version": VERSION, "record": encode(_content(), TENSORS)}


def _signed(ground, content: bytes) -> None:
    laid(ground, files.JSON, content)
    metadata = {"record.json sha256": hashlib.sha256(content).hexdigest()}
    laid(ground, files.TENSORS, safetensors.numpy.save(TENSORS.by_name, metadata))


def test_the_record_that_is_bent_holds(ground):
    _signed(ground, json.dumps(BODY).encode())
    run = files.read(ground).runs["float64"]
    assert run.decoding.decoded.forward.shape == (ROWS, LENGTH, VOCABULARY)
    assert run.first.loss == pytest.approx(0.5)


@examples("other records")
@given(content=bent(BODY))
def test_record_of_a_side(ground, content):
    _signed(ground, content)
    tried("other records", ground, lambda: files.read(ground))
