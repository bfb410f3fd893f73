"""The modules that both frameworks' halves of the project have, as far as the workbench calls them.

``torch_impl`` and ``jax_impl`` are checked against these protocols where the adapters return them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from bench.harness.foreign import (
    Array,
    Batch,
    Gradients,
    LossFn,
    Model,
    Native,
    Optimizer,
    Pass,
    SummedLoss,
    Tensor,
    TensorFn,
)
from shared.config import OptimizerConfig, TrainConfig
from shared.observation import Observation
from shared.params import Params
from shared.sampling import Sampling
from shared.train_state import Step, TrainState
from shared.world import World


class Runtime(Protocol):
    """Device and dtype that a model computes with, as ``configure`` has set them."""

    @property
    def master(self) -> "Runtime":
        """The same in the dtype of parameters and moments."""

    def batch(self, *arrays: Array) -> tuple[Tensor, ...]:
        """The arrays on the device."""


class RuntimeModule(Protocol):
    """``runtime``: settings of the framework, set and read back."""

    def devices(self) -> list[str]: ...
    def configure(self, dtype: str, device: str, /) -> Runtime: ...
    def tune(self, device: str, dtype: str, width: int, /) -> list[str]: ...
    def settings(self) -> dict[str, str]: ...
    def peak_memory(self, device: str, /) -> int: ...
    def versions(self) -> dict[str, str]: ...


class ParamsModule(Protocol):
    """``params``: canonical parameters to and from a model."""

    def build(self, make: Callable[[], Model], params: Params, runtime: Native, /) -> Model: ...
    def import_tensors(self, model: Model, params: Params, runtime: Native, /) -> Gradients: ...
    def to_numpy(self, tensor: Tensor, /) -> Array: ...


class Gpt2Module(Protocol):
    """``gpt2``: the model, its attention functions and its losses."""

    @property
    def reference_attention(self) -> TensorFn: ...
    @property
    def summed_loss(self) -> SummedLoss: ...
    def loss_fn(
        self, model: Model, tokens: Tensor, targets: Tensor, /
    ) -> tuple[Tensor, Tensor]: ...


class SigmoidBceModule(Protocol):
    """``sigmoid_bce``: one neuron, its two losses and its graph."""

    def Neuron(self) -> Model: ...
    def loss_fn(self, model: Model, x: Tensor, y: Tensor, /) -> tuple[Tensor, Tensor]: ...
    def textbook_loss_fn(self, model: Model, x: Tensor, y: Tensor, /) -> tuple[Tensor, Tensor]: ...
    def graph(self, model: Model, x: Tensor, y: Tensor, /) -> str: ...


class SimpleNetModule(Protocol):
    """``simple_net``: the network of one chapter, and gradients that are not cleared."""

    def loss_fn(self, model: Model, x: Tensor, y: Tensor, /) -> tuple[Tensor, Tensor]: ...
    def accumulated_gradients(
        self, model: Model, batches: list[tuple[Tensor, Tensor]], /
    ) -> Gradients: ...
    def uncleared_gradients(self, model: Model, x: Tensor, y: Tensor, /) -> Gradients: ...


class OptimModule(Protocol):
    """``optim``: the optimizer of a config."""

    def Optimizer(self, model: Model, config: OptimizerConfig, /) -> Optimizer: ...


class TraceModule(Protocol):
    """``trace``: what a model computes, by name."""

    def observe(
        self, model: Model, loss_fn: LossFn, batch: Batch, runtime: Native, /
    ) -> Observation: ...
    def stepped(
        self, model: Model, optimizer: Optimizer, gradients: Iterable[Params], runtime: Native, /
    ) -> Iterator[Params]: ...


class Trainer(Protocol):
    """A GPT-2 in training."""

    steps: int

    @property
    def runtime(self) -> Runtime:
        """Device and dtype that it computes with."""

    def step(self, inputs: Array, targets: Array, /) -> Step:
        """One update from micro-batches [A, B, T]."""

    def gradients(self, inputs: Array, targets: Array, /) -> Native:
        """The loss, and the gradients where the framework has them; see ``Framework``."""

    def evaluate(self, inputs: Array, targets: Array, /) -> Tensor:
        """Sum of the cross-entropies of [B, T] tokens, without dropout."""

    def computing_model(self) -> Model:
        """The live model in the compute dtype."""

    def export(self) -> TrainState:
        """Copies of parameters and moments."""

    def export_each(self) -> Iterator[tuple[str, str, Array]]:
        """Part, name and value of each tensor of the state."""

    def restore(self, state: TrainState, /) -> None:
        """Go on from ``state``."""


class TrainModule(Protocol):
    """``train``: the loop and the trainer."""

    def Trainer(self, model: Model, config: TrainConfig, runtime: Native, /) -> Trainer: ...
    def passes(self, model: Model, loss_fn: LossFn, /) -> tuple[Pass, Pass]: ...
    def train(
        self,
        model: Model,
        optimizer: Optimizer,
        loss_fn: LossFn,
        batches: Iterable[tuple[Tensor, ...]],
        /,
    ) -> Tensor: ...


class LossModule(Protocol):
    """``loss``: the cross-entropy, at once and in chunks."""

    def cross_entropy(self, logits: Tensor, targets: Tensor, /) -> Tensor: ...
    def chunked_loss(self, x: Tensor, weight: Tensor, targets: Tensor, chunk: int, /) -> Tensor: ...


class DropoutModule(Protocol):
    """``dropout``: layers that drop the same units in both frameworks."""

    def match(self, model: Model, /) -> None: ...
    def sites(self, model: Model, /) -> list[str]: ...
    def set_keys(self, model: Model, keys: Native, /) -> None: ...


class GenerateModule(Protocol):
    """``generate``: decoding over a cache of keys and values."""

    def new_cache(self, model: Model, batch_size: int, length: int, /) -> Native: ...
    def decode_layout(self, model: Model, /) -> Model: ...
    def generate(
        self,
        model: Model,
        prompts: Sequence[Sequence[int] | Array],
        new_tokens: int,
        sampling: Sampling,
        runtime: Native,
        /,
    ) -> Iterator[Array]: ...


class DistributedModule(Protocol):
    """``distributed``: the meeting of a run's processes."""

    def join(self, world: World, address: str, device: str, /) -> None: ...
    def leave(self) -> None: ...
