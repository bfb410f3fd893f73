"""The training step and loop in PyTorch: gradients stay on parameters, state changes in place."""

import copy
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from shared.config import TrainConfig
from shared.params import Params
from shared.train_state import PARTS, Step, TrainState, step_keys
from torch_impl.distributed import ProcessGrid
from torch_impl.dropout import match, set_keys, sites
from torch_impl.gpt2 import GPT2, summed_loss
from torch_impl.optim import Optimizer
from torch_impl.params import export_each, import_tensors
from torch_impl.runtime import Runtime

LossFn = Callable[..., tuple[Tensor, Tensor]]


def train_step(
    model: nn.Module, optimizer: Optimizer, loss_fn: LossFn, batch: tuple[Tensor, ...]
) -> Float[Tensor, ""]:
    """Forward, loss, backward, update; returns the loss before the update."""
    optimizer.zero_grad()
    loss, _ = loss_fn(model, *batch)
    loss.backward()
    optimizer.step()
    return loss.detach()


def passes(model: nn.Module, loss_fn: LossFn) -> tuple[Callable[..., None], Callable[..., None]]:
    """Forward pass, and forward with backward, as functions of a batch that return when done."""

    def forward(*batch: Tensor) -> None:
        with torch.no_grad():
            loss_fn(model, *batch)[0].item()

    def forward_backward(*batch: Tensor) -> None:
        model.zero_grad()
        loss, _ = loss_fn(model, *batch)
        loss.backward()
        loss.item()

    return forward, forward_backward


def train(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFn,
    batches: Iterable[tuple[Tensor, ...]],
) -> Float[Tensor, "N"]:
    """One step a batch; returns the losses, each taken before its update."""
    losses = [train_step(model, optimizer, loss_fn, batch) for batch in batches]
    return torch.stack(losses)


class MasterEmbedding(nn.Embedding):
    """An embedding that rounds rows after the look-up, so that gradients add up in float32.

    It looks them up in ``master``; ``weight`` [V, C], the rounded copy, is for a tied head. Adding
    up in bfloat16 would lose digits, and be slow on a GPU.
    """

    def __init__(self, master: nn.Embedding, dtype: torch.dtype):
        vocab, width = master.weight.shape
        super().__init__(vocab, width, _weight=master.weight.detach().to(dtype))
        self.master = (master.weight,)  # in a tuple, so as not to be a parameter of this module

    def forward(self, tokens: Int[Tensor, "*S"]) -> Float[Tensor, "*S C"]:
        return F.embedding(tokens, self.master[0]).to(self.weight.dtype)


class Trainer:
    """A GPT-2 in training: its parameters and moments, and the step that changes them.

    ``model`` is in the dtype of ``runtime.master``. Where the compute dtype is narrower, passes go
    through ``self.computing``, a copy of it in that dtype.

    In a run of several processes each has a trainer, which takes its own rows of every batch. All
    processes must call the same methods in the same order.
    """

    def __init__(self, model: GPT2, config: TrainConfig, runtime: Runtime):
        self.config, self.runtime = config, runtime
        if config.dropout == "matched":
            match(model)
        self.model = model
        self.grid = ProcessGrid(config, runtime)
        self.sites = len(sites(model))
        self.steps = 0
        # Not autocast: it keeps some operations in float32 by a list that JAX does not have.
        mixed = runtime.dtype != runtime.master.dtype and config.processes == 1
        self.computing = copy.deepcopy(model).to(runtime.dtype) if mixed else model
        if mixed:
            self.computing.wte = MasterEmbedding(model.wte, runtime.dtype)
            self.computing.wpe = MasterEmbedding(model.wpe, runtime.dtype)
        loss: Callable[..., Tensor] = summed_loss
        if config.compile and not config.loss_chunk:
            loss = torch.compile(summed_loss)
        elif config.compile:
            # The chunked loss needs no compiler. All blocks are one program, compiled once.
            for block in self.computing.h:
                block.compile()
        self._summed_loss = self.grid.distribute(self.computing, loss)
        self.optimizer = Optimizer(model, config.optimizer)
        # Looked for once, since Python takes long to walk through a model at every step.
        self._masters: list[Tensor] = list(model.parameters())
        self._narrows: list[Tensor] = list(self.computing.parameters())

    def step(self, inputs: Int[np.ndarray, "A B T"], targets: Int[np.ndarray, "A B T"]) -> Step:
        """One update from A micro-batches, as if they were one batch.

        Where loss or gradients are not finite, no parameter moves.
        """
        loss = self.gradients(inputs, targets)
        norm = self.optimizer.step(loss)
        self._narrow()
        self.steps += 1
        return Step(loss=loss, grad_norm=norm)

    def gradients(
        self, inputs: Int[np.ndarray, "A B T"], targets: Int[np.ndarray, "A B T"]
    ) -> Float[Tensor, ""]:
        """The loss of A micro-batches; their gradients are left on the parameters."""
        keys = step_keys(self.config.seed, self.steps, len(inputs), self.sites)
        count = self.grid.count(targets)
        self.computing.train()
        self.optimizer.zero_grad()
        losses = []
        for i, micro_batch in enumerate(zip(inputs, targets, keys, strict=True), start=1):
            with self.grid.exchanging(last=i == len(inputs)):
                losses.append(self._accumulate(*micro_batch, count))
        return self.grid.total(torch.stack(losses).sum())

    def _accumulate(
        self, inputs: np.ndarray, targets: np.ndarray, keys: np.ndarray, count: int
    ) -> Tensor:
        """Add the gradients of one micro-batch to the parameters'; returns its part of the loss."""
        set_keys(self.computing, keys, self.grid.rank)
        # The mean over all targets: a mean of means would differ where some are IGNORED.
        loss = self._sum(inputs, targets) / count
        loss.backward()
        self._widen()
        return loss.detach()

    def evaluate(
        self, inputs: Int[np.ndarray, "B T"], targets: Int[np.ndarray, "B T"]
    ) -> Float[Tensor, ""]:
        """Sum of the cross-entropies in nats, without dropout."""
        self.computing.eval()
        with torch.no_grad():
            return self.grid.total(self._sum(inputs, targets))

    def _sum(self, inputs: np.ndarray, targets: np.ndarray) -> Tensor:
        x, y = self.runtime.batch(inputs, targets)
        return self._summed_loss(x, y, self.config.loss_chunk)

    def computing_model(self) -> GPT2:
        """The model in the compute dtype, without dropout, to inspect or decode with."""
        return self.computing.eval()

    def export(self) -> TrainState:
        """Parameters and moments under canonical names, as copies."""
        copies: dict[str, Params] = {part: {} for part in PARTS}
        for part, name, value in self.export_each():
            copies[part][name] = value.copy()
        return TrainState(self.steps, **copies)

    def export_each(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Part of the state, canonical name and value, tensor by tensor, in canonical order.

        Where the model is sharded, all processes must ask for each tensor together.
        """
        params: dict[str, Tensor] = dict(self.model.named_parameters())
        for part, tensors in zip(PARTS, (params, *self.optimizer.moments()), strict=True):
            for name, value in export_each(self.model, tensors):
                yield part, name, value

    def restore(self, state: TrainState) -> None:
        """Continue from ``state``, of either framework."""
        self.steps, master = state.step, self.runtime.master
        params = import_tensors(self.model, state.params, master)
        self.model.load_state_dict(params, strict=True)
        first = import_tensors(self.model, state.first_moment, master)
        second = import_tensors(self.model, state.second_moment, master)
        self.optimizer.restore(first, second, state.step)
        self._narrow()

    def _narrow(self) -> None:
        """Round the parameters to the compute dtype."""
        if self.computing is not self.model:
            with torch.no_grad():
                torch._foreach_copy_(self._narrows, self._masters)

    def _widen(self) -> None:
        """Add the gradients of the compute dtype to those of the parameters, and reset them."""
        if self.computing is self.model:
            return
        both = zip(self._masters, self._narrows, strict=True)
        # Embeddings have gradients on their parameters already, and may have none on the copy.
        pairs = [(p, narrow.grad) for p, narrow in both if narrow.grad is not None]
        wide = [torch.empty_like(p) for p, _ in pairs]
        torch._foreach_copy_(wide, [gradient for _, gradient in pairs])
        present = [(p.grad, g) for (p, _), g in zip(pairs, wide, strict=True) if p.grad is not None]
        for (p, _), gradient in zip(pairs, wide, strict=True):
            if p.grad is None:
                p.grad = gradient
        if present:
            torch._foreach_add_(*map(list, zip(*present, strict=True)))
        for narrow in self._narrows:
            narrow.grad = None
