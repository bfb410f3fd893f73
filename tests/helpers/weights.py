"""Files of weights, whole and with a header that is another."""

import json
import struct
from typing import Any

from hypothesis import strategies as st
from safetensors.numpy import save as to_safetensors

from shared import params
from tests.helpers.damage import bent, damaged
from tests.helpers.fuzz import MODEL


def parameters() -> params.Params:
    return params.init_gpt2(MODEL, spread=0.1)


def _packed(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


WEIGHTS = to_safetensors({f"transformer.{k}": v for k, v in parameters().items()})
HALVES = _packed(
    json.dumps(
        {
            "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
            "b": {"dtype": "F16", "shape": [4], "data_offsets": [12, 20]},
            "none": {"dtype": "BF16", "shape": [0, 7], "data_offsets": [20, 20]},
            "__metadata__": {"format": "pt"},
        }
    ).encode(),
    bytes(20),
)


@st.composite
def safetensors(draw: Any, whole: bytes) -> bytes:
    """A file whose header is another, of which the length may be right, or any bytes of it."""
    length = int.from_bytes(whole[:8], "little")
    if draw(st.booleans()):
        return draw(damaged(whole))
    header = draw(bent(json.loads(whole[8 : 8 + length])))
    content = _packed(header, whole[8 + length :])
    declared = draw(st.sampled_from((None, None, None, 0, 2**27, 2**40, 2**63, 2**64 - 1)))
    return content if declared is None else struct.pack("<Q", declared) + content[8:]
