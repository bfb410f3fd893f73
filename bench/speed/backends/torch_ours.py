"""Our PyTorch GPT-2: by the tutorials' loop, or by ``Trainer`` when it is tuned."""

import copy

import numpy as np
from torch import Tensor

from bench.speed.backends import backend, twin
from bench.speed.backends.backend import Job
from bench.speed.backends.torch_loop import TorchLoop, TorchWaits, prepare, torch_state
from bench.speed.backends.twin import MicroBatch, TrainerBackend
from bench.speed.foreign import Array, Loss
from bench.speed.json_form import Json
from shared.params import Params
from torch_impl import gpt2, train
from torch_impl.generate import decode_layout, generate
from torch_impl.params import export_tensors


def make(job: Job, params: Params) -> backend.Backend:
    """The trainer of a tuned contestant, the loop of any other."""
    return Tuned(job, params) if twin.is_trainer(job) else Loop(job, params)


class Loop(TorchLoop):
    """The twin in the loop of the tutorials, one setting after the other switched on."""

    def __init__(self, job: Job, params: Params):
        self.runtime = prepare(job)
        model = twin.build(job, params, self.runtime)
        if job.contestant.settings.compiled == "block":
            for block in model.h:
                block.compile()
        super().__init__(job, model)
        self.decoder: gpt2.GPT2 | None = None

    def reset(self, params: Params) -> None:
        """Parameters in place, as in the loop; the copy to decode from is made anew."""
        super().reset(params)
        self.decoder = None

    def loss_of(self, inputs: Tensor, targets: Tensor) -> Loss:
        """Mean cross-entropy, in chunks where that is a setting."""
        loss = gpt2.summed_loss(self.model, inputs, targets, self.settings.chunk)
        return loss / targets.numel()

    def decode(self, prompts: Array, new_tokens: int) -> Array:
        """By our own ``generate``, from a copy in the compute dtype where that is narrower."""
        if self.decoder is None:
            narrow = self.runtime.dtype != self.runtime.master.dtype
            self.decoder = (
                copy.deepcopy(self.model).to(self.runtime.dtype) if narrow else self.model
            )
        return twin.greedy(generate, self.decoder, prompts, new_tokens, self.runtime)


class Tuned(TrainerBackend, TorchWaits):
    """The trainer of ``twingrad train`` in PyTorch."""

    def __init__(self, job: Job, params: Params):
        self.runtime = prepare(job)
        model = twin.build(job, params, self.runtime)
        super().__init__(job, lambda config: train.Trainer(model, config, self.runtime))
        self.decoder: gpt2.GPT2 | None = None

    def forward_backward(self, batch: MicroBatch) -> Loss:
        """The trainer's gradients, without its update."""
        return self.trainer.gradients(*batch)

    def gradients(self) -> Params:
        """The gradients that ``backward`` left on the parameters."""
        named = self.trainer.model.named_parameters()
        return export_tensors(self.trainer.model, {name: p.grad for name, p in named})

    def reset(self, params: Params) -> None:
        """Back to the beginning, as a checkpoint is restored."""
        super().reset(params)
        self.decoder = None

    def decode(self, prompts: Array, new_tokens: int) -> Array:
        """By our own ``generate``, from one copy in decode layout, as in ``twingrad sample``."""
        if self.decoder is None:
            self.decoder = decode_layout(self.trainer.computing_model())
        return twin.greedy(generate, self.decoder, prompts, new_tokens, self.runtime)

    def state(self) -> Json:
        """Switches as PyTorch reports them, and the attention kernel of one more pass."""
        tokens = np.zeros((1, self.job.batch_size, self.job.length), np.int64)
        return torch_state(self.job.device, lambda: self.forward((tokens, tokens)))


Backend = make
