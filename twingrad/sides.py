"""The two sides of a pair as the judgement sees them, whether they run here or were recorded."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, Protocol

from twingrad.calls import Key, Pass, Plain
from twingrad.casts.log import CastLog
from twingrad.decoding.decoded import DecodingRecord
from twingrad.diagnosis.hypotheses.rules import Rule
from twingrad.diagnosis.hypotheses.sketches import Scene
from twingrad.foreign import Array, Loss, Optimizer, OptimizerOf, Tree
from twingrad.partners import Leaf

Framework = Literal["torch", "jax"]
TITLES: dict[Framework, str] = {"torch": "PyTorch", "jax": "JAX"}
Values = dict[str, Array]  # tensors by name


class TorchSide(Protocol):
    """PyTorch's model in one dtype. What was recorded takes no other numbers than it had."""

    @property
    def recorded(self) -> bool:
        """Whether its numbers are read from a record, and the model is not here."""

    @property
    def trained(self) -> Collection[str]:
        """Names of parameters."""

    def leaves(self) -> list[Leaf]:
        """Parameters, and buffers of numbers, in the order of their declaration."""

    def views(self) -> Values:
        """The same as numbers."""

    def give(self, values: Mapping[str, Array]) -> None:
        """Replace the numbers of those parameters and buffers that ``values`` has."""

    def mean_square(self, *arguments: Tree) -> Tree:
        """The loss of a pair without one."""

    def observe(self, loss_fn: Loss, batch: Sequence[Array]) -> Pass:
        """One pass; buffers are then as they were."""

    def states(self, loss_fn: Loss, batches: Sequence[Sequence[Array]]) -> list[Values]:
        """Buffers of numbers before the first of ``batches``, and after each of them in a row."""

    def momentum(self, path: str) -> float | None:
        """The share of the new in the running statistics of the module at ``path``."""

    def stepped(
        self, optimizer_of: OptimizerOf | None, gradients: Sequence[Mapping[str, Array]]
    ) -> tuple[list[Values], Rule | None]:
        """All parameters after each step of the optimizer, one a gradient, and its rule if known.

        The model's own are then as they were.
        """

    def dropouts(self) -> dict[str, tuple[float, Array]]:
        """Rate and key of every layer at work whose mask is a function of a key."""

    def scenes(self) -> list[Scene]:
        """What a record has of modules run again with changes; a live model needs none."""

    def applied(self, path: str) -> Callable[[Array], Array] | None:
        """The module at ``path`` as a function of one tensor, if it can be called."""

    def decoding(self) -> DecodingRecord | None:
        """What a record has of its decoding; a live model is run for it."""


class JaxSide(Protocol):
    """JAX's model in one dtype. What was recorded takes no other numbers than it had."""

    @property
    def recorded(self) -> bool:
        """Whether its numbers are read from a record, and the model is not here."""

    @property
    def tensors(self) -> Mapping[str, Tree]:
        """Parameters and state by path."""

    @property
    def trained(self) -> set[str]:
        """Paths of parameters."""

    @property
    def state(self) -> set[str]:
        """Paths of numbers that a pass may change."""

    @property
    def required(self) -> set[str]:
        """Paths of state that has a partner in every port."""

    @property
    def channels_last(self) -> bool:
        """Whether the library's convolutions have the channels of images last."""

    @property
    def left_out(self) -> Collection[Key]:
        """Calls whose tensors a record does not have."""

    def leaves(self) -> list[Leaf]:
        """Parameters and state."""

    def give(self, values: Mapping[str, Array]) -> None:
        """Replace the numbers of parameters and state."""

    def mean_square(self, *arguments: Tree) -> Tree:
        """The loss of a pair without one."""

    def paths(self, loss_fn: Loss, batch: Sequence[Array]) -> dict[Key, str]:
        """The calls of one pass and the classes of their modules."""

    def out_of_reach(self, loss_fn: Loss) -> set[str]:
        """Modules with calls that are not seen, once ``paths`` has looked."""

    def plain(self, loss_fn: Loss, batch: Sequence[Array]) -> Plain:
        """One pass."""

    def states(self, loss_fn: Loss, batches: Sequence[Sequence[Array]]) -> list[Values]:
        """The state before the first of ``batches``, and after each of them in a row."""

    def stepped(
        self, optimizer: Optimizer, paths: Sequence[str], gradients: Sequence[Mapping[str, Array]]
    ) -> list[Values]:
        """The parameters at ``paths`` after each step of the optimizer, one a gradient."""

    def decoding(self) -> DecodingRecord | None:
        """What a record has of its decoding; a live model is run for it."""


class RecordedTorch(TorchSide, Protocol):
    """PyTorch's model as it was recorded; ``casts`` are those that were seen."""

    @property
    def casts(self) -> CastLog:
        """Which modules cast to a lower precision."""


class RecordedJax(JaxSide, Protocol):
    """JAX's model as it was recorded, with what a PyTorch model is run on."""

    @property
    def casts(self) -> CastLog:
        """Which modules cast to a lower precision."""

    def observe(self, batch: Sequence[Array]) -> Pass:
        """One pass with the gradients at every call's tensors."""

    def step_gradients(self) -> Sequence[Mapping[str, Array]]:
        """The gradients that its optimizer was given, step by step."""


class RecordedModel(ABC):
    """A recorded side, which stands in a ``Pair`` in the place of the model."""

    framework: Framework
    has_optimizer: bool

    @abstractmethod
    def torch_side(self, dtype: str, lift: bool) -> RecordedTorch:
        """PyTorch's side in ``dtype``, with casts left out for ``lift``.

        Raises ``ValueError`` where it could not be run so, and for a record of JAX.
        """

    @abstractmethod
    def jax_side(self, dtype: str, lift: bool) -> RecordedJax:
        """JAX's side in the same way; ``ValueError`` for a record of PyTorch."""
