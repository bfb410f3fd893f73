"""Each topic of the course has code in both columns of its chapter, and a listing that shows it.

That a listing is what its block prints is held by ``test_tutorial.py``.
"""

import re
from dataclasses import dataclass

import pytest

from bench.harness import frameworks
from bench.tutorial import pages


@dataclass(frozen=True)
class Topic:
    """What the code of both columns has (or of each: PyTorch's, JAX's), and what is printed."""

    chapter: int
    name: str
    code: str | tuple[str, str]
    printed: str | tuple[str, str]


TOPICS = (
    Topic(2, "vocabulary", "asdict(GPT_CONFIG_124M)", "vocab_size      50257"),
    Topic(2, "context", "asdict(GPT_CONFIG_124M)", "context_length  1024"),
    Topic(2, "width", "asdict(GPT_CONFIG_124M)", "emb_dim         768"),
    Topic(2, "heads", "reshape(B, T, config.n_heads, -1)", "(1, 4, 768) -> (1, 4, 12, 64)"),
    Topic(2, "layers", '{"n_layers": 13}', "131,497,728"),
    Topic(2, "dropout", "dropout.train()", "kept ones became 1.1111"),
    Topic(2, "no bias", "asdict(GPT_CONFIG_124M)", "qkv_bias        False"),
    Topic(2, "hidden width", "4 * config.emb_dim", "(1, 4, 768) -> (1, 4, 3072)"),
    Topic(
        2, "parameters of parts", "for part, mark in parts.items()", "MLP                   56,669"
    ),
    Topic(2, "parameters", "count(shapes)", "124,412,160"),
    Topic(3, "scalar", ("torch.tensor(1)", "jnp.array(1)"), "rank 0, shape (): 1"),
    Topic(3, "vector", "array([1, 2, 3])|tensor([1, 2, 3])", "rank 1, shape (3,): [1, 2, 3]"),
    Topic(3, "matrix", "[[1, 2], [3, 4]]", "rank 2, shape (2, 2): [[1, 2], [3, 4]]"),
    Topic(3, "rank 3", "cube", "[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]"),
    Topic(3, "images", "images", ("rank 4 shape (2, 3, 4, 4)", "rank 4 shape (2, 4, 4, 3)")),
    Topic(4, "same arithmetic", "* 2 + 1", "[3.0, 5.0, 7.0]"),
    Topic(4, "shared memory", ("torch.from_numpy(a)", "jnp.from_dlpack(aligned)"), "shared"),
    Topic(4, "back to NumPy", ("x.numpy()", "np.asarray(x)"), ("[9.0, 1.0, 1.0]", "read-only")),
    Topic(4, "derivatives", ("requires_grad=True", "jax.grad"), "slope of x² at 3: 6.0"),
    Topic(4, "accelerators", ("M.to(there)", "jax.device_put(M, there)"), "equal up to rounding"),
    Topic(5, "integers", "Python ints", ("torch.int64", "int32")),
    Topic(5, "floats", "Python floats", ("torch.float32", "float32")),
    Topic(5, "x64", ("np.array([0.1, 0.2])", "jax.enable_x64(True)"), ("float64", "int64")),
    Topic(5, "conversion", (".to(torch.float32)", ".astype(jnp.float32)"), "[1.0, 2.0, 3.0]"),
    Topic(6, "shape", "A.shape", "(2, 2)"),
    Topic(6, "reshape", "A.reshape(4, 1)", "[[1], [2], [3], [4]]"),
    Topic(6, "transpose", "A.T", "[[1, 3], [2, 4]]"),
    Topic(6, "product", "A @ A.T", "[[5, 11], [11, 25]]"),
    Topic(7, "chain rule", ("y.backward()", "jax.grad(f)"), "dy/dx = 24.0"),
    Topic(7, "graph", "found.lines()", "-0.0898"),
    Topic(7, "reuse", ("left is right", "last.invars[1]"), ("used twice: True", "mul c c")),
    Topic(8, "by hand", "dL_dw = dL_dz * dz_dw", "dL/dw = -0.0817 * 1.1000 = -0.0898"),
    Topic(8, "numerically", "slope(", "dL/db  measured -0.0817"),
    Topic(8, "by autograd", ("L.backward()", "jax.grad"), "dL/dw = -0.0898"),
    Topic(9, "forward, loss, backward", ("loss.backward()", "nnx.value_and_grad"), "loss 0.6151"),
    Topic(9, "update", ("optimizer.step()", "optimizer.update("), "loss after the step 0.6143"),
    Topic(9, "gradients by name", "show(", "fc2.bias    [0.155]"),
    Topic(10, "node by node", ("retain_graph=True", "jax.vjp"), "at L 1.0000, at a -1.0889"),
    Topic(10, "accumulation", ("loss.backward()", "jnp.add, total"), "sum of two batches"),
    Topic(10, "forgotten", "for _ in range(2)", ("zero_grad() forgotten", "nothing to forget")),
    Topic(11, "step size", "quotient(step)", "step 1e-05  error 5e-11  the best"),
    Topic(11, "accuracy", "better than the best step", "neuron: error under 1e-15: True"),
    Topic(11, "cost of differences", "central_difference", "1,501 parameters, 3,002 forward"),
    Topic(11, "cost of the framework", "passes(networks[h])", "1,501 slopes, 1 forward pass"),
    Topic(12, "block", "record_parts(", "h.0.attn: scores"),
    Topic(12, "gradients", "export_tensors(", "28 gradients"),
    Topic(12, "released checkpoints", "== 148", "148 tensors"),
    Topic(12, "training", "train(model, optimizer", "loss 5.5704 -> 0.1727"),
)
BEFORE = {1: "Pre-training and fine-tuning, in code"}  # whose code comes on the last page
_HEADING = re.compile(r"## (?:(\d+) )?(.*)")


def _chapter(number, side):
    """The blocks of a column within a chapter."""
    for page in pages.tutorial():
        bounds = []
        for line, text in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            if heading := _HEADING.fullmatch(text):
                bounds.append((line, int(heading[1] or 0), heading[2]))
        for i, (line, chapter, title) in enumerate(bounds):
            if (chapter == number and number not in BEFORE) or title == BEFORE.get(number):
                end = bounds[i + 1][0] if i + 1 < len(bounds) else 10**6
                return [b for b in pages.column(page, side) if line <= b.line < end]
    raise AssertionError(f"there is no chapter {number}")


def _of(side, text):
    return text if isinstance(text, str) else text[frameworks.NAMES.index(side)]


@pytest.mark.parametrize("side", frameworks.NAMES)
@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: f"{topic.chapter}-{topic.name}")
def test_a_topic_has_code_in_both_columns_and_its_result_below(topic, side):
    blocks = _chapter(topic.chapter, side)
    code = "\n".join(block.text for block in blocks if block.language == "python")
    assert any(part in code for part in _of(side, topic.code).split("|"))
    listings = "\n".join(block.text for block in blocks if block.language == "text")
    assert _of(side, topic.printed) in listings


@pytest.mark.parametrize("side", frameworks.NAMES)
def test_pre_training_is_shown_to_help_on_the_new_text(side):
    texts = [b.text for b in _chapter(1, side) if b.language == "text"]
    (listing,) = (text for text in texts if "after pre-training" in text)
    losses = [float(line.split()[-1]) for line in listing.splitlines()]
    untrained, base, tuned, scratch = losses
    assert untrained > base > tuned
    assert scratch > tuned


def test_every_chapter_with_numbers_has_topics():
    assert {topic.chapter for topic in TOPICS} == set(range(2, 13))
