"""NaN and infinity in a pair: the module where they begin, and the number that gives them."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")

import jax
import jax.numpy as jnp
import torch
from flax import nnx

from twingrad import comparison
from twingrad.diagnosis import pairs
from twingrad.diagnosis.hypotheses import elements
from twingrad.pair import Pair

X = np.random.default_rng(0).normal(size=(3, 4))
EYE = np.eye(3, 4) > 0


class Net(torch.nn.Module):
    def __init__(self, between):
        super().__init__()
        self.first, self.last = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.between = between

    def forward(self, x):
        return self.last(self.between(self.first(x)))


class Port(nnx.Module):
    def __init__(self, between):
        rngs = nnx.Rngs(0)
        self.first, self.last = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)
        self.between = between

    def __call__(self, x):
        return self.last(self.between(self.first(x)))


def _loss(model, *batch):
    return (model(*batch) ** 2).mean()


def _pair(torch_between=torch.tanh, jax_between=jnp.tanh, **changed):
    losses = {"torch_loss": _loss, "jax_loss": _loss, "batch": [X]}
    made = {"torch": lambda: Net(torch_between), "jax": lambda: Port(jax_between)}
    return Pair(**{**made, **losses, **changed})


def test_a_number_that_one_framework_alone_has_is_named_with_what_gives_it():
    (found,) = pairs.diagnose(_pair(torch.sqrt, lambda x: jnp.sqrt(nnx.relu(x))))
    assert (found.stage, found.where) == ("forward", "model")
    assert found.cause.startswith("PyTorch has NaN or infinity there: NaN first at [0, 0]")
    assert found.cause.endswith("where JAX has 0; first is -0.0429482 at [0, 0]")


def test_nan_in_both_is_refused_with_the_place_where_it_begins():
    with pytest.raises(ValueError, match="PyTorch's loss is nan and JAX's nan") as refused:
        pairs.diagnose(_pair(torch.log, jnp.log))
    said = str(refused.value)
    assert "begins in the model: the input of last has it first at [0, 0], the output of" in said
    assert "the output of first is -0.0429482 at [0, 0]; in JAX in the model" in said


def test_a_target_that_is_out_of_range_is_named():
    def torch_loss(model, x, y):
        return torch.nn.functional.cross_entropy(model(x), y)

    def jax_loss(model, x, y):
        return -jnp.take_along_axis(jax.nn.log_softmax(model(x)), y[:, None], -1).mean()

    batch = [X, np.array([0, -100, 2])]
    (found,) = pairs.diagnose(_pair(batch=batch, torch_loss=torch_loss, jax_loss=jax_loss))
    assert found.where == "loss"
    assert "-100 at [1] in array 1 of the batch is out of range of 4 classes" in found.cause


def test_an_index_into_a_table_is_named_though_pytorch_had_another():
    class Words(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(5, 3)

        def forward(self, ids):
            return self.embed(ids.clamp(max=4))

    class WordsPort(nnx.Module):
        def __init__(self):
            self.embed = nnx.Embed(5, 3, rngs=nnx.Rngs(0))

        def __call__(self, ids):
            return self.embed(ids)

    pair = _pair(torch=Words, jax=WordsPort, batch=[np.array([[1, 7, 2]])])
    (found,) = pairs.diagnose(pair)
    assert (found.stage, found.where) == ("forward", "embed")
    assert "index 7 at [0, 1] is out of range of a table of 5 rows" in found.cause
    assert not comparison.compare(pair)[0][0].ok


def test_the_number_at_which_a_gradient_is_not_finite_is_named():
    def safe(x):
        d = jnp.sum((x[:, None] - x[None]) ** 2, -1)
        return jnp.where(d > 0, jnp.sqrt(jnp.where(d > 0, d, 1.0)), 0.0) @ jnp.ones((3, 4))

    def torch_between(x):
        return torch.linalg.norm(x[:, None] - x[None], dim=-1) @ torch.ones(3, 4, dtype=x.dtype)

    def bare(x):
        return jnp.linalg.norm(x[:, None] - x[None], axis=-1) @ jnp.ones((3, 4))

    assert not pairs.diagnose(_pair(torch_between, safe))
    (found,) = pairs.diagnose(_pair(torch_between, bare))
    assert found.stage == "backward"
    assert "JAX has NaN or infinity there: NaN first at [0, 0]" in found.cause


def test_infinity_that_both_models_put_in_a_mask_is_equal():
    class Masked(Net):
        def forward(self, x):
            return super().forward(x).masked_fill(torch.from_numpy(EYE), -torch.inf)

    class MaskedPort(Port):
        def __call__(self, x):
            return jnp.where(EYE, -jnp.inf, super().__call__(x))

    def pair(factor):
        return _pair(
            torch=lambda: Masked(torch.tanh),
            jax=lambda: MaskedPort(lambda x: factor * jnp.tanh(x)),
            torch_loss=lambda model, x: (model(x).softmax(-1) ** 2).sum(),
            jax_loss=lambda model, x: (jax.nn.softmax(model(x)) ** 2).sum(),
        )

    assert not pairs.diagnose(pair(1))
    assert all(outcome.ok for outcome in comparison.compare(pair(1))[0])
    assert pairs.diagnose(pair(1.001))


def test_gradients_that_are_nan_in_both_are_a_note():
    def torch_loss(model, x):
        return torch.where(x[:, :1] > 0, model(x), torch.sqrt(-1 - model(x) ** 2)).nansum()

    def jax_loss(model, x):
        inner = jnp.sqrt(-1 - model(x) ** 2)
        return jnp.nansum(jnp.where(x[:, :1] > 0, model(x), inner))

    findings = pairs.diagnose(_pair(torch_loss=torch_loss, jax_loss=jax_loss))
    notes = [note for note in findings.notes if "NaN in both models" in note.note]
    assert notes
    assert notes[0].where.startswith("gradient of")


BAD = np.array([[False, True], [False, False]])
REASONS = {
    "a zero": (BAD, np.array([[1.0, 0.0], [2.0, 3.0]]), "is 0 at [0, 1]"),
    "a negative": (BAD, np.array([[1.0, -2.0], [2.0, 3.0]]), "is -2 at [0, 1]"),
    "beyond a threshold": (BAD, np.array([[1.0, 90.0], [2.0, 3.0]]), "is 90 at [0, 1]"),
    "a row of zeros": (BAD, np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 2.0]]), "is 0 throughout at [0]"),
    "a row of -inf": (BAD, np.array([[-np.inf] * 3, [0.0, 1.0, 2.0]]), "is -infinity throughout"),
    "a constant row": (BAD, np.array([[2.0] * 3, [0.0, 1.0, 2.0]]), "is 2 throughout, so that"),
    "a zero in a row": (BAD, np.array([[3.0, 2.0, 0.0], [3.0, 1.0, 2.0]]), "holds 0 at [0, 2]"),
    "infinity": (np.asarray(True), np.array([3.0, np.inf]), "holds infinity at [1]"),
    "nothing": (BAD, np.array([[1.5, 2.0], [2.5, 1.0]]), None),
    "rows alike": (BAD, np.array([[1.5, 2.0, 0.0], [2.5, 0.0, 1.0]]), None),
}


@pytest.mark.parametrize("kind", REASONS)
def test_the_number_that_sets_apart_what_is_bad_is_found(kind):
    bad, x, said = REASONS[kind]
    found = elements.element(bad, {"its input": x})
    assert found is None if said is None else f"its input {said}" in found


def test_an_index_beyond_the_others_is_out_of_range_of_a_table_unknown():
    bad = np.array([[False] * 3, [True] * 3, [False] * 3])
    ids = {"index {index}": np.array([1, 9, 4])}
    assert elements.index(bad, ids, None) == "index 9 at [1] is out of range"
    assert elements.index(bad, {"index {index}": np.array([1, 3, 4])}, None) is None
    assert elements.index(~bad & False, ids, None) is None
