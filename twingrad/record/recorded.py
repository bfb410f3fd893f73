"""A recorded side of a pair, which answers what the live one would."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from twingrad.calls import Key, Pass, Plain
from twingrad.casts.log import CastLog
from twingrad.decoding.decoded import DecodingRecord
from twingrad.diagnosis.hypotheses.rules import Rule
from twingrad.diagnosis.hypotheses.sketches import Scene
from twingrad.foreign import Array, Loss, Optimizer, OptimizerOf, Tree
from twingrad.partners import Leaf
from twingrad.record.content import Content, Run
from twingrad.sides import TITLES, RecordedModel


class Record(RecordedModel):
    """A side as it was recorded, in the place of the model in a ``Pair``."""

    def __init__(self, content: Content):
        self.content = content
        self.framework = content.side
        self.has_optimizer = content.has_optimizer

    def torch_side(self, dtype: str, lift: bool) -> "RecordedTorch":
        """PyTorch's side in ``dtype``; ``ValueError`` where it could not be run so."""
        self._require("torch")
        return RecordedTorch(self.content, self._run(dtype, lift))

    def jax_side(self, dtype: str, lift: bool) -> "RecordedJax":
        """JAX's side in ``dtype``; ``ValueError`` where it could not be run so."""
        self._require("jax")
        return RecordedJax(self.content, self._run(dtype, lift))

    def _require(self, framework: str) -> None:
        if framework != self.framework:
            raise ValueError(
                f"the pair's {framework} is a record of {TITLES[self.framework]}: give it as "
                f"{self.framework}"
            )

    def _run(self, dtype: str, lift: bool) -> Run:
        name = f"{dtype} lifted" if lift else dtype
        if name in self.content.runs:
            return self.content.runs[name]
        if name in self.content.failures:
            raise ValueError(self.content.failures[name])
        lifted = self.content.runs.get(f"{dtype} lifted")
        if lifted is None or lifted.casts:
            raise ValueError(f"the record has no run in {name}: record it again")
        return lifted  # it casts to no lower precision, so that nothing was left out


@dataclass(frozen=True)
class _Recorded:
    """What both sides have in common."""

    content: Content
    run: Run

    recorded = True

    @property
    def casts(self) -> CastLog:
        """Which modules cast to a lower precision."""
        seen = {path: set(dtypes) for path, dtypes in self.run.casts.items()}
        return CastLog(seen=seen, constants=self.run.constants)

    def leaves(self) -> list[Leaf]:
        """Parameters and state, as the model declared them."""
        return self.run.leaves

    def give(self, values: Mapping[str, Array]) -> None:
        """Keep the recorded numbers: they are what the others are judged by."""

    def mean_square(self, *arguments: Tree) -> Tree:
        """The loss of a pair without one, which a record has the value of."""
        raise ValueError("a recorded model cannot be run")

    def decoding(self) -> DecodingRecord | None:
        """What it decoded when it was recorded."""
        return self.run.decoding

    def passed(self, batch: Sequence[Array]) -> Pass:
        """The pass on one of the record's batches. Raises ``ValueError`` for another batch."""
        if _same(batch, self.content.batch):
            return self.run.first
        if self.content.second is not None and _same(batch, self.content.second):
            if self.run.second is None:
                raise ValueError(self.run.second_error or "the record has no pass on it")
            return self.run.second
        raise ValueError("the record has no pass on this batch: record it again")

    def kept(self, batches: Sequence[Sequence[Array]]) -> list[dict[str, Array]]:
        """The state before the first of two batches and after each."""
        states = self.run.states_of_one
        if not all(_same(batch, self.content.batch) for batch in batches):
            states = self.run.states_of_two
        if len(states) != 1 + len(batches):
            raise ValueError("the record has no state after these batches: record it again")
        return states


def _same(batch: Sequence[Array], recorded: Sequence[Array]) -> bool:
    return len(batch) == len(recorded) and all(map(np.array_equal, batch, recorded))


class RecordedTorch(_Recorded):
    """PyTorch's side, as it was recorded."""

    @property
    def trained(self) -> Collection[str]:
        """Names of parameters."""
        return self.run.trained

    def views(self) -> dict[str, Array]:
        """Parameters and buffers as numbers."""
        return self.run.tensors

    def observe(self, loss_fn: Loss, batch: Sequence[Array]) -> Pass:
        """One pass."""
        return self.passed(batch)

    def states(self, loss_fn: Loss, batches: Sequence[Sequence[Array]]) -> list[dict[str, Array]]:
        """Buffers of numbers before the first of ``batches``, and after each of them in a row."""
        return self.kept(batches)

    def momentum(self, path: str) -> float | None:
        """The share of the new in the running statistics of the module at ``path``."""
        return self.run.torch.momenta.get(path)

    def stepped(
        self, optimizer_of: OptimizerOf | None, gradients: Sequence[Mapping[str, Array]]
    ) -> tuple[list[dict[str, Array]], Rule | None]:
        """All parameters after each step of the optimizer, and its rule if known."""
        steps = self.run.steps
        if steps is None:
            raise ValueError("the record has no steps of an optimizer: record it again")
        return steps.parameters, steps.rule

    def dropouts(self) -> dict[str, tuple[float, Array]]:
        """Rate and key of every layer at work whose mask is a function of a key."""
        return self.run.torch.dropouts

    def scenes(self) -> list[Scene]:
        """What modules would give that are run again with changes."""
        return self.run.torch.scenes

    def applied(self, path: str) -> Callable[[Array], Array] | None:
        """Nothing: a recorded module cannot be called."""
        return None


class RecordedJax(_Recorded):
    """JAX's side, as it was recorded."""

    @property
    def tensors(self) -> dict[str, Array]:
        """Parameters and state by path."""
        return self.run.tensors

    @property
    def trained(self) -> set[str]:
        """Paths of parameters."""
        return set(self.run.trained)

    @property
    def state(self) -> set[str]:
        """Paths of numbers that a pass may change."""
        return set(self.run.jax.state)

    @property
    def required(self) -> set[str]:
        """Paths of state that has a partner in every port."""
        return set(self.run.jax.required)

    @property
    def channels_last(self) -> bool:
        """Whether the library's convolutions have the channels of images last."""
        return self.run.jax.channels_last

    @property
    def left_out(self) -> Collection[Key]:
        """Calls whose tensors the record does not have."""
        return self.run.first.left_out

    def paths(self, loss_fn: Loss, batch: Sequence[Array]) -> dict[Key, str]:
        """The calls of one pass and the classes of their modules."""
        return self.run.jax.calls

    def out_of_reach(self, loss_fn: Loss) -> set[str]:
        """Modules with calls that were not seen."""
        return set(self.run.jax.hidden)

    def plain(self, loss_fn: Loss, batch: Sequence[Array]) -> Plain:
        """One pass."""
        seen = self.passed(batch)
        return Plain(
            loss=seen.loss,
            gradients=seen.gradients,
            state=seen.statistics,
            inputs={key: call.inputs for key, call in seen.calls.items()},
            outputs={key: call.outputs for key, call in seen.calls.items()},
        )

    def observe(self, batch: Sequence[Array]) -> Pass:
        """One pass with the gradients at every call's tensors."""
        return self.passed(batch)

    def states(self, loss_fn: Loss, batches: Sequence[Sequence[Array]]) -> list[dict[str, Array]]:
        """The state before the first of ``batches``, and after each of them in a row."""
        return self.kept(batches)

    def stepped(
        self, optimizer: Optimizer, paths: Sequence[str], gradients: Sequence[Mapping[str, Array]]
    ) -> list[dict[str, Array]]:
        """The parameters after each step of the optimizer."""
        return self.run.steps.parameters if self.run.steps else []

    def step_gradients(self) -> Sequence[Mapping[str, Array]]:
        """The gradients that its optimizer was given, step by step."""
        return self.run.steps.gradients if self.run.steps else []
