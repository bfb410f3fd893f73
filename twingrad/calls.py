"""One pass through a model as it was observed, in NumPy: calls of modules, in their order."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from twingrad.foreign import Array, Tensor, Tree


class Key(NamedTuple):
    """One call: the module's path, and how many calls of it came before."""

    path: str
    number: int = 0

    def __str__(self) -> str:
        return self.path + (f" (call {self.number + 1})" if self.number else "")


Event = tuple[Literal["enter", "leave"], Key]


@dataclass(frozen=True, kw_only=True)
class Call:
    """Floating-point inputs and outputs of a call with their gradients; integer inputs beside."""

    key: Key
    kind: str
    inputs: list[Array]
    integers: list[Array]
    outputs: list[Array]
    input_gradients: list[Array]
    output_gradients: list[Array]


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A forward and a backward pass.

    ``events`` are in the order in which they happened. ``statistics`` are running ones and other
    buffers of numbers, as they stand afterwards. ``left_out`` are calls whose tensors are not kept;
    ``fixed`` are tensors that no parameter went into, as tables; none where casts are not left out.
    """

    loss: float
    calls: dict[Key, Call]
    events: list[Event]
    gradients: dict[str, Array]
    statistics: dict[str, Array] = field(default_factory=dict)
    left_out: list[Key] = field(default_factory=list)
    fixed: list[Array] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Plain:
    """JAX's pass: loss, gradients, state, and every call's inputs and outputs."""

    loss: float
    gradients: dict[str, Array]
    state: dict[str, Array]
    outputs: dict[Key, list[Array]]
    inputs: dict[Key, list[Array]]


Way = Literal["in", "out", "index"]
CallSite = tuple[Key, Way, int]  # a call, and which of its tensors


@dataclass(kw_only=True)
class Replayed:
    """Tensors of one model run on the other's tensors, call site by call site.

    ``jax`` and ``torch`` are values at the same site, in JAX's layout unless their shapes differ;
    ``jax_gradients`` and ``torch_gradients`` are gradients there. ``gradients`` are those of JAX's
    parameters, ``integers`` PyTorch's indices.
    """

    loss: float
    jax: dict[CallSite, Array] = field(default_factory=dict)
    torch: dict[CallSite, Array] = field(default_factory=dict)
    jax_gradients: dict[CallSite, Array] = field(default_factory=dict)
    torch_gradients: dict[CallSite, Array] = field(default_factory=dict)
    gradients: dict[str, Array] = field(default_factory=dict)
    integers: dict[CallSite, Array] = field(default_factory=dict)


LOSS = Key("loss")
# A call's input or output by number, or a parameter by name.
Site = tuple[Literal["in", "out", "parameter"], Key, int | str]


def given_calls(owner: Key, events: Sequence[Event], exchanged: set[Key]) -> list[Key]:
    """The outermost calls within ``owner`` that have a partner which was handed their output."""
    given: list[Key] = []
    inside = owner == LOSS
    depth = 0
    for way, key in events:
        if key == owner:
            inside = way == "enter"
        elif inside and key in exchanged:
            if way == "enter" and depth == 0:
                given.append(key)
            depth += 1 if way == "enter" else -1
    return given


def only_loss(result: Tree) -> Tensor:
    """The loss of ``result``, which is a loss, or a loss and an output."""
    return result[0] if isinstance(result, tuple | list) else result
