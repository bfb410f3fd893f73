"""A recorded pass of a PyTorch model: by value, and without changing what the model computes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from twingrad import torch_probe  # noqa: E402
from twingrad.calls import Key  # noqa: E402
from twingrad.casts import torch_casts  # noqa: E402

X = np.random.default_rng(0).normal(size=(4, 3))


def _observed(model, loss=None, batch=(X,)):
    torch.manual_seed(0)
    prepared = torch_probe.prepare(model, "float64", train=False)
    loss = loss or (lambda model, x: (model(x) ** 2).sum())
    return torch_probe.observe(prepared, loss, batch, "float64"), prepared


class _Adds(nn.Module):
    """A residual added in place, and the output scaled in place, as many models do."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        y = self.fc(x)
        y += x
        y *= 2
        return y


def test_operations_in_place_change_no_record():
    seen, model = _observed(_Adds())
    call = seen.calls[Key("fc")]
    x = torch.tensor(X)
    plain = model.fc(x)
    np.testing.assert_array_equal(call.outputs[0], plain.detach().numpy())
    np.testing.assert_allclose(
        call.output_gradients[0], 2 * seen.calls[Key("")].output_gradients[0]
    )
    assert seen.loss == ((2 * (plain + x)) ** 2).sum().item()


class _Shifts(nn.Module):
    def forward(self, x):
        x += 1.0
        return 3 * x


class _Caller(nn.Module):
    """Goes on from the tensor that a module of its has changed in place."""

    def __init__(self):
        super().__init__()
        self.fc, self.shifts = nn.Linear(3, 3), _Shifts()

    def forward(self, x):
        y = self.fc(x)
        return self.shifts(y) + y


def test_what_a_module_does_to_its_input_its_caller_sees():
    seen, model = _observed(_Caller())
    plain = model.fc(torch.tensor(X)).detach()
    np.testing.assert_array_equal(seen.calls[Key("shifts")].inputs[0], plain.numpy())
    np.testing.assert_allclose(seen.calls[Key("")].outputs[0], (4 * (plain + 1)).numpy())


def test_the_batch_may_be_changed_in_place():
    seen, _ = _observed(_Shifts())
    np.testing.assert_array_equal(seen.calls[Key("")].inputs[0], X)


class _Keeps(nn.Module):
    """Gives its input back beside its output."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(x), x


def test_a_module_that_returns_its_input_has_a_gradient_for_each():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.keeps = _Keeps()

        def forward(self, x):
            y, same = self.keeps(x)
            return y + 5 * same

    seen, model = _observed(Both(), lambda model, x: model(x).sum())
    call = seen.calls[Key("keeps")]
    np.testing.assert_array_equal(call.output_gradients[0], np.ones((4, 3)))
    np.testing.assert_array_equal(call.output_gradients[1], np.full((4, 3), 5.0))
    through = np.ones((4, 3)) @ model.keeps.fc.weight.detach().numpy()
    np.testing.assert_allclose(call.input_gradients[0], through + 5)


class WithItsLoss(torch.nn.Module):
    """A model that returns a loss and what it is made of."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 2)

    def forward(self, x):
        logits = self.fc(x)
        return (logits**2).sum(), logits


@pytest.mark.parametrize(("more", "factor"), [(0.0, 2.0), (3.0, 3.0)])
def test_an_output_that_only_the_model_itself_uses_has_the_gradient_inside(more, factor):
    def loss(model, x):
        inner, logits = model(x)
        return inner + more * (logits**2).sum() / 2 if more else inner

    seen = torch_probe.observe(WithItsLoss().double(), loss, [np.eye(3)], "float64")
    call = seen.calls[Key("")]
    assert np.allclose(call.output_gradients[0], 1.0, rtol=0, atol=0)
    assert np.allclose(call.output_gradients[1], factor * call.outputs[1], rtol=1e-14, atol=0)


class Turns(nn.Module):
    """A part that is handed a table, makes another, and one that a parameter goes into."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.3))

    def forward(self, x, table):
        learnt = torch.arange(3, dtype=x.dtype) * self.rate
        own = torch.cos(torch.arange(3, dtype=x.dtype))
        return x * table * own * learnt


class WithTable(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.turns = nn.Linear(3, 3), Turns()

    def forward(self, x):
        return self.turns(self.fc(x), table=torch.arange(3, dtype=x.dtype) / 7)


@pytest.mark.parametrize("only", [None, "^fc$"])
def test_tables_are_kept_wherever_they_are_made_unless_a_parameter_goes_into_them(only):
    model = torch_probe.prepare(WithTable(), "float64", train=False)
    with torch_casts.left_out():
        seen = torch_probe.observe(model, lambda model, x: model(x).sum(), [X], "float64", only)
    kept = [x.tolist() for x in seen.fixed if x.shape == (3,)]
    assert kept == [[0.0, 1 / 7, 2 / 7], np.cos(np.arange(3)).tolist()]
    assert (Key("turns") in seen.left_out) == (only is not None)


def test_complex_parameters_keep_their_imaginary_parts():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1 + 2j, 3 - 4j], dtype=torch.cfloat))

        def forward(self, x):
            return (self.weight * x[:, :2]).abs()

    for dtype, kind in (("float64", "complex128"), ("float32", "complex64")):
        weight = torch_probe.views(torch_probe.prepare(Turned(), dtype, train=False))["weight"]
        assert weight.dtype == kind
        np.testing.assert_array_equal(weight, [1 + 2j, 3 - 4j])


@pytest.mark.parametrize(
    ("given", "handed"),
    [("bool", "bool"), ("uint8", "uint8"), ("int64", "int64"), ("int32", "int64"),
     ("float32", "float64"), ("complex64", "complex128")],
)  # fmt: skip
def test_arrays_are_handed_over_as_what_they_are(given, handed):
    (tensor,) = torch_probe.batch_of((np.ones(3, given),), "float64")
    assert tensor.dtype == getattr(torch, handed)


def test_an_observed_pass_leaves_the_array_of_the_batch_alone():
    batch = (X.copy(),)
    _observed(_Shifts(), batch=batch)
    np.testing.assert_array_equal(batch[0], X)
