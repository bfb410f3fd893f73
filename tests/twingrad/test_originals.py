"""Constants that were rounded to float32 before JAX saw them are given their digits back."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from twingrad import Pair, comparison
from twingrad.arithmetic import arithmetic
from twingrad.casts import jax_casts, log
from twingrad.casts.originals import Originals, is_rounded
from twingrad.diagnosis import pairs
from twingrad.record import against, files, recorder

ANGLES = np.outer(np.arange(6), 10.0 ** -np.arange(0, 6, 1.5))  # (positions, half of a head)
COSINES = np.cos(ANGLES)
TABLE = COSINES.astype(np.float32)


def test_numbers_of_few_digits_and_whole_ones_are_not_rounded():
    x = np.array([0.5, 3.0, 0.1, np.float32(0.1), -np.float32(1.1), np.finfo(np.float32).min])
    assert is_rounded(x).tolist() == [False, False, False, True, True, False]


@pytest.mark.parametrize(
    "tensor",
    [
        COSINES,
        np.concatenate([COSINES, COSINES], -1)[None],
        np.repeat(COSINES, 2, -1)[None, :, None],
        np.cos(np.outer(np.arange(9), 10.0 ** -np.arange(0, 6, 1.5))),
    ],
)
def test_a_table_has_the_digits_of_pytorchs_even_where_several_numbers_are_one_in_float32(tensor):
    assert (TABLE[1:, -1] == 1).any()
    np.testing.assert_array_equal(Originals([tensor]).of(TABLE), COSINES)


def test_a_table_longer_than_the_batch_has_digits_as_far_as_pytorch_goes():
    found = Originals([COSINES[:4]]).of(TABLE)
    np.testing.assert_array_equal(found[:4], COSINES[:4])
    assert not np.array_equal(found[4:], COSINES[4:])
    assert np.allclose(found, COSINES, rtol=1e-7, atol=0)


def test_another_table_keeps_its_numbers():
    other = np.cos(ANGLES * 0.9)
    assert Originals([other]).of(TABLE) is None
    assert Originals([]).of(TABLE) is None
    assert Originals([COSINES]).of(np.arange(4.0)) is None


def test_literals_are_read_again_where_that_is_asked_for():
    x = np.array([0.1, 1e-6, 12.5], np.float32)
    assert Originals([]).of(x) is None
    assert Originals([], literals=True).of(x).tolist() == [0.1, 1e-6, 12.5]
    assert Originals([], literals=True).of(np.float32([0.1, 1 / 3])) is None


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x * TABLE,
        lambda x: x * jnp.asarray(TABLE, x.dtype),
        lambda x: x * jnp.asarray(TABLE),
        lambda x: jnp.where(x > 0, x * TABLE[None], x)[0],
    ],
)
def test_constants_of_a_traced_function_have_their_digits(use):
    with arithmetic("float64"), log.watching(log.CastLog()) as heard:
        x = jnp.full(TABLE.shape, 2.0)
        with jax_casts.left_out():
            without = jax.jit(use)(x)
        assert heard.constants
        with jax_casts.left_out(Originals([COSINES])):
            found = np.asarray(jax.jit(use)(x))
            gradient = jax.jit(jax.grad(lambda x: use(x).sum()))(x)
    assert found.dtype == gradient.dtype == np.float64
    np.testing.assert_array_equal(found, 2 * COSINES)
    assert not np.array_equal(without, found)


class Turned(torch.nn.Module):
    """A linear layer times a table that is kept in a buffer."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)
        angles = torch.arange(6.0)[:, None] * 10.0 ** -torch.arange(0, 6, 1.5)
        self.register_buffer("table", torch.cos(angles))

    def forward(self, x):
        return self.fc(x) * self.table


class Port(nnx.Module):
    def __init__(self, table, factor, rngs):
        self.fc = nnx.Linear(4, 4, rngs=rngs)
        self.cached, self.factor = table, factor

    def __call__(self, x):
        return self.fc(x) * self.cached * self.factor


def _pair(table=TABLE, factor=1.0) -> Pair:
    return Pair(
        torch=Turned,
        jax=lambda: Port(table, factor, nnx.Rngs(0)),
        batch=[np.random.default_rng(0).normal(size=(2, 6, 4))],
    )


@pytest.mark.slow
def test_a_port_with_a_table_of_float32_is_equal_with_a_note():
    outcomes, notes = comparison.compare(_pair())
    assert all(outcome.ok for outcome in outcomes)
    assert any("JAX computes in float32 by design" in note.note for note in notes)
    assert pairs.diagnose(_pair()) == []


@pytest.mark.parametrize("only", [None, "^fc$"])
def test_a_port_with_a_table_of_float32_is_equal_to_a_record_of_pytorch(only, tmp_path):
    folder = tmp_path / "record"
    files.write(folder, recorder.record(_pair(), "torch", only=only), 1.0)
    judged = against.against(_pair(), against.recorded(folder), folder)
    assert pairs.diagnose(judged) == []


@pytest.mark.parametrize(
    ("table", "factor"), [(TABLE, 1 + 1e-7), (np.cos(ANGLES * (1 + 1e-6)).astype(np.float32), 1.0)]
)
def test_a_mistake_as_small_as_the_rounding_is_found_beside_such_a_table(table, factor):
    (found,) = pairs.diagnose(_pair(table, factor))
    assert (found.stage, found.where) == ("forward", "model")


def _made(where: str, rounded: np.ndarray) -> type[torch.nn.Module]:
    """A model whose table is made in its pass, or elsewhere of numbers of float32."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(4, 4)
            if where == "buffer":
                self.register_buffer("table", torch.tensor(rounded))
            elif where == "attribute":
                self.table = torch.tensor(rounded)

        def forward(self, x):
            rates = 10.0 ** -torch.arange(0, 6, 1.5, dtype=x.dtype)
            made = torch.outer(torch.arange(6, dtype=x.dtype), rates).cos()
            return torch.tanh(self.fc(x) * (made if where == "pass" else self.table.to(x.dtype)))

    return Model


class Computed(nnx.Module):
    def __init__(self, table, rngs):
        self.fc, self.cached = nnx.Linear(4, 4, rngs=rngs), table

    def __call__(self, x):
        angles = jnp.outer(jnp.arange(6), 10.0 ** -jnp.arange(0, 6, 1.5, x.dtype))
        table = jnp.cos(angles) if self.cached is None else jnp.asarray(self.cached, x.dtype)
        return jnp.tanh(self.fc(x) * table)


# The same formula in float32 throughout, which is another table of float32.
RATES = np.float32(10) ** -np.arange(0, 6, 1.5, dtype=np.float32)
ANOTHER = np.cos(np.outer(np.arange(6, dtype=np.float32), RATES))


def _of(where, table) -> Pair:
    return Pair(
        torch=_made(where, TABLE),
        jax=lambda: Computed(table, nnx.Rngs(0)),
        batch=[np.random.default_rng(0).normal(size=(2, 6, 4))],
    )


@pytest.mark.slow("pass-table1", "buffer-table3", "buffer-None", "pass-table0")
@pytest.mark.parametrize(
    ("where", "table"),
    [
        ("pass", TABLE), ("pass", ANOTHER), ("buffer", None), ("buffer", ANOTHER),
        ("attribute", None), ("attribute", TABLE),
    ],
)  # fmt: skip
def test_tables_of_float32_are_equal_wherever_they_are_made(where, table):
    assert not np.array_equal(TABLE, ANOTHER)
    outcomes, _ = comparison.compare(_of(where, table))
    assert all(outcome.ok for outcome in outcomes)
    assert pairs.diagnose(_of(where, table)) == []


@pytest.mark.slow("pass-*")
@pytest.mark.parametrize("side", ["torch", "jax"])
@pytest.mark.parametrize(("where", "table"), [("pass", TABLE), ("pass", ANOTHER), ("buffer", None)])
def test_a_record_of_a_side_with_tables_of_float32_is_equal_too(side, where, table, tmp_path):
    assert _from_a_record(_of(where, table), side, tmp_path / "right") == []
    other = np.cos(ANGLES * (1 + 4e-6)).astype(np.float32)
    (found,) = _from_a_record(_of(where, other), side, tmp_path / "wrong")
    assert (found.stage, found.where) == ("forward", "model")


def _from_a_record(pair: Pair, side, folder):
    files.write(folder, recorder.record(pair, side), 1.0)
    judged = against.against(pair, against.recorded(folder), folder)
    return pairs.diagnose(judged)


@pytest.mark.slow("pass")
@pytest.mark.parametrize("where", ["pass", "buffer", "attribute"])
def test_another_table_is_found_beside_numbers_of_float32(where):
    other = np.cos(ANGLES * (1 + 4e-6)).astype(np.float32)
    outcomes, _ = comparison.compare(_of(where, other))
    assert not outcomes[0].ok
    (found,) = pairs.diagnose(_of(where, other))
    assert (found.stage, found.where) == ("forward", "model")
