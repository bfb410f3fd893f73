"""LSTM and GRU with another order of gates, one bias less, or the reset gate elsewhere."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from twingrad.diagnosis.hypotheses.changes.alternative import Alternative, Alternatives, using
from twingrad.foreign import Tree
from twingrad.torch_replay import Operation

Weights = Sequence[Tensor | None]  # W, U, b, c of one layer
Step = Callable[[Tensor, Tree, Weights], Tree]


def _products(x: Tensor, h: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    w, u, b, c = weights
    assert w is not None
    assert u is not None
    first, second = x @ w.T, h @ u.T
    return first if b is None else first + b, second if c is None else second + c


def _lstm_step(order: str) -> Step:
    def step(x: Tensor, state: Tree, weights: Weights) -> Tree:
        h, c = state
        first, second = _products(x, h, weights)
        gates = dict(zip(order, (first + second).chunk(4, -1), strict=True))
        c = torch.sigmoid(gates["f"]) * c + torch.sigmoid(gates["i"]) * torch.tanh(gates["g"])
        return torch.sigmoid(gates["o"]) * torch.tanh(c), c

    return step


def _gru_step(order: str = "rzn", reset: str = "after", update: str = "old") -> Step:
    """A GRU's step, by the order of gates, where it resets, and what its update gate keeps."""

    def step(x: Tensor, h: Tree, weights: Weights) -> Tree:
        first, second = _products(x, h, weights)
        i = dict(zip(order, first.chunk(3, -1), strict=True))
        s = dict(zip(order, second.chunk(3, -1), strict=True))
        r, z = torch.sigmoid(i["r"] + s["r"]), torch.sigmoid(i["z"] + s["z"])
        inner = r * s["n"]
        if reset == "none":
            inner = s["n"]
        if reset in ("before", "before, its bias not reset"):
            third = order.index("n")
            u, c = weights[1], weights[3]
            assert u is not None
            inner = (r * h) @ u.chunk(3)[third].T
            inner = inner if c is None else inner + c.chunk(3)[third]
        if reset == "without its bias" and weights[3] is not None:
            c = weights[3].chunk(3)[order.index("n")]
            inner = r * (s["n"] - c) + c
        n = torch.tanh(i["n"] + inner)
        return (1 - z) * n + z * h if update == "old" else z * n + (1 - z) * h

    return step


_GRUS = {
    "the reset gate before the product with the state, (r h) U": _gru_step(reset="before"),
    "no reset gate": _gru_step(reset="none"),
    "the reset gate on the product alone, not on its bias": _gru_step(reset="without its bias"),
    "the update gate turned round": _gru_step(update="new"),
    "the reset and update gates swapped, the order z, r, n": _gru_step("zrn"),
    "gates in the order z, r, n, and the reset gate before the product": _gru_step("zrn", "before"),
}
_WITHOUT = {
    "no second bias (bias_hh)": (True, True, True, False),
    "no first bias (bias_ih)": (True, True, False, True),
    "no biases": (True, True, False, False),
}


def _kept(weights: Weights, which: Sequence[bool]) -> Weights:
    return [w if keep else None for w, keep in zip(weights, which, strict=True)]


def _layers(op: Operation) -> tuple[list[Weights], bool] | None:
    """The weights of every layer and direction; nothing for packed sequences."""
    x, state, flat, biases = op.args[0], op.args[1], op.args[2], op.args[3]
    if not isinstance(flat, list | tuple) or not isinstance(biases, bool) or len(op.args) != 9:
        return None
    each = 4 if biases else 2
    h = state[0] if isinstance(state, tuple | list) else state
    if any(w.shape[-1] != h.shape[-1] for w in flat[1::each]) or x.ndim != 3:
        return None  # projections
    layers: list[Weights] = [
        [*flat[i : i + each], *([None, None] if each == 2 else [])]
        for i in range(0, len(flat), each)
    ]
    return layers, bool(op.args[7])


def _unrolled(op: Operation, step: Step, which: Sequence[bool]) -> Tree:
    """The whole layer, step by step."""
    found = _layers(op)
    assert found is not None
    layers, both_ways = found
    x = op.args[0].transpose(0, 1) if op.args[8] else op.args[0]
    state, ways = op.args[1], 2 if both_ways else 1
    finals: list[Tree] = []
    for layer in range(len(layers) // ways):
        outputs = []
        for way in range(ways):
            number = layer * ways + way
            paired = isinstance(state, tuple | list)
            s = tuple(part[number] for part in state) if paired else state[number]
            steps = []
            for t in reversed(range(len(x))) if way else range(len(x)):
                s = step(x[t], s, _kept(layers[number], which))
                output: Tensor = s[0] if paired else s
                steps.append(output)
            outputs.append(torch.stack(steps[::-1] if way else steps))
            finals.append(s)
        x = torch.cat(outputs, -1)
    y = x.transpose(0, 1) if op.args[8] else x
    if isinstance(state, tuple | list):
        return (y, *(torch.stack(parts) for parts in zip(*finals, strict=True)))
    return y, torch.stack(finals)


def layer(op: Operation) -> Iterator[Alternative]:
    """Every variant of a whole LSTM or GRU."""
    found = _layers(op)
    if found is None:
        return
    biases = found[0][0][2] is not None
    for own, words, step, which in _variants(op.name == "lstm", biases):
        yield Alternative(own, words, using((step, which), lambda op, both: _unrolled(op, *both)))
    if found[1] and len(found[0]) == 2:
        yield Alternative(
            "a backward direction in the order of the sequence",
            "the backward direction left in the order in which it is computed, reversed",
            _left_reversed,
        )
    if found[1] or len(found[0]) > 1:
        return
    yield Alternative(
        "steps from the front",
        "the sequence reversed",
        lambda op: op.again(input_0=op.args[0].flip(1 if op.args[8] else 0)),
    )


def _left_reversed(op: Operation) -> Tree:
    """The outputs, the second half of which is not turned round again."""
    outputs, *states = op.plain()
    ahead, back = outputs.chunk(2, -1)
    return (torch.cat([ahead, back.flip(1 if op.args[8] else 0)], -1), *states)


def cell(op: Operation) -> Iterator[Alternative]:
    """Every variant of one step."""
    for own, words, step, which in _variants(op.name == "lstm_cell", len(op.args) > 4):
        yield Alternative(
            own,
            words,
            using((step, which), _stepped),
        )


def _stepped(op: Operation, both: tuple[Step, Sequence[bool]]) -> Tree:
    step, which = both
    return step(op.args[0], op.args[1], _kept([*op.args[2:6], None, None][:4], which))


def _variants(lstm: bool, biases: bool) -> Iterator[tuple[str, str, Step, Sequence[bool]]]:
    whole = (True,) * 4
    plain = _lstm_step("ifgo") if lstm else _gru_step()
    if biases:
        for words, which in _WITHOUT.items():
            yield "two biases", words, plain, which
    if not lstm:
        for words, step in _GRUS.items():
            yield "a GRU whose reset gate follows the product, gates r, z, n", words, step, whole
            if biases:
                yield (
                    "a GRU as PyTorch has it",
                    f"{words}, and one bias",
                    step,
                    _WITHOUT["no second bias (bias_hh)"],
                )
        return
    for order in itertools.permutations("ifgo"):
        name = ", ".join(order)
        if name != "i, f, g, o":
            step = _lstm_step("".join(order))
            yield "gates in the order i, f, g, o", f"the order {name}", step, whole


FAMILY: dict[str, Alternatives] = {
    "lstm": layer,
    "gru": layer,
    "lstm_cell": cell,
    "gru_cell": cell,
}
