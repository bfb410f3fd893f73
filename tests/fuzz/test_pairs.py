"""Bad tokens and pair files are refused in one sentence."""

import io
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared import data
from tests.helpers.damage import damaged
from tests.helpers.fuzz import (
    MODEL,
    examples,
    laid,
    tried,
)
from twingrad import pair


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(14).reshape(2, 7))
    return buffer.getvalue()


@st.composite
def npy(draw: Any) -> bytes:
    """A ``.npy`` file with bytes damaged, or with another word in its header."""
    whole = _npy()
    if draw(st.booleans()):
        return draw(damaged(whole))
    words = (b"'<i8'", b"(2, 7)", b"False", b"'descr'", b"'fortran_order'", b"'shape'")
    shapes = ("(-1, 7)", "(2**62, 7)", "(0, 7)", "(2, 7, 0)", "(1 << 40, 2)", "()", "(7,)", "7")
    dtypes = ("'|O'", "'<f8'", "'<M8[s]'", "[('a', '<i4')]", "'3<i4'", "'|V8'", "'<U4'", "'>i8'")
    others = (
        "{}",
        "[]",
        "None",
        "1e999",
        "9" * 4400,
        "'\\x'",
        "(" * 300,
        "b'x'",
        "True",
        "0",
        "{0: 1}",
    )
    old = draw(st.sampled_from(words))
    new = draw(st.sampled_from((*shapes, *dtypes, *others))).encode()
    if draw(st.booleans()):
        new = str((draw(st.integers(-9, 2**70)), draw(st.integers(-9, 2**70)))).encode()
    at = whole.index(b"{")
    header = whole[at : whole.index(b"\n")].replace(old, new)
    header = header.strip() + b" " * (-(len(header.strip()) + 11) % 64) + b"\n"
    return whole[:8] + (len(header) % 2**16).to_bytes(2, "little") + header + bytes(112)


@examples("tokens.npy")
@given(content=npy())
def test_tokens(ground, content):
    path = laid(ground, "tokens.npy", content)
    found = tried("tokens.npy", ground, lambda: data.load_tokens(path, MODEL))
    if found is not None:
        assert found.dtype == np.int32
        assert found.max() < MODEL.vocab_size


PAIR = """import numpy as np
from twingrad import Pair
pair = Pair(torch=len, jax=len, torch_loss=max, jax_loss=max, batch=[np.zeros(2)], {more})
"""
LINES = (
    "raise SystemExit(0)", "raise Exception", "import nothing_of_this_name", "pair = 3", "del pair",
    "def f(): f()\nf()", "raise ExceptionGroup('', [ValueError()])", "assert False", "1 / 0",
    "(" * 300, "\0", "# -*- coding: nonsense -*-", "raise ValueError('a\\nb')", "x = '\ud800'",
    "class E(Exception):\n    def __str__(self): raise OSError\nraise E",
)  # fmt: skip
MORE = ("batch=None", "names=3", "jax_batch=[1]", "torch=None", "copy=[]", "name=object()", "x=1")


@examples("pair file")
@given(content=st.data())
def test_pair_file(ground, content):
    whole = PAIR.format(more=content.draw(st.sampled_from((*MORE, "", ""))))
    lines = whole + content.draw(st.sampled_from(("", *LINES)))
    written = lines.encode(errors="surrogatepass")
    if content.draw(st.booleans()):
        written = content.draw(damaged(written))
    path = laid(ground, "a_pair.py", written)
    tried("pair file", ground, lambda: pair.load(path))
