"""Our JAX GPT-2: by Flax's documented loop, or by ``Trainer`` when it is tuned."""

import jax
import numpy as np
from flax import nnx
from jax import Array

from bench.speed.backends import backend, twin
from bench.speed.backends.backend import Job
from bench.speed.backends.jax_loop import JaxLoop, jax_state, prepare, wait_for
from bench.speed.backends.twin import MicroBatch, TrainerBackend
from bench.speed.foreign import Array as NPArray
from bench.speed.foreign import Loss, Model
from bench.speed.json_form import Json
from jax_impl import gpt2, train
from jax_impl.generate import generate
from jax_impl.params import export_tensors
from shared.params import Params


def make(job: Job, params: Params) -> backend.Backend:
    """The trainer of a tuned contestant, the loop of any other."""
    return Tuned(job, params) if twin.is_trainer(job) else Loop(job, params)


class Loop(JaxLoop):
    """The twin in the documented loop, one setting after the other switched on."""

    def __init__(self, job: Job, params: Params):
        runtime = prepare(job)
        model = twin.build(job, params, runtime)
        super().__init__(job, model, runtime)
        self.decoder: Model | None = None

    def reset(self, params: Params) -> None:
        """Back to the beginning; the copy to decode from is made anew."""
        super().reset(params)
        self.decoder = None

    def loss_of(self, model: Model, inputs: Array, targets: Array) -> Loss:
        """Mean cross-entropy, in chunks where that is a setting."""
        return gpt2.summed_loss(model, inputs, targets, self.settings.chunk) / targets.size

    def decode(self, prompts: NPArray, new_tokens: int) -> NPArray:
        """By our own ``generate``, from a copy in the compute dtype where that is narrower."""
        if self.decoder is None:
            self._sync()
            self.decoder = self.narrow(self.model)
        return twin.greedy(generate, self.decoder, prompts, new_tokens, self.runtime)


class Tuned(TrainerBackend):
    """The trainer of ``twingrad train`` in JAX."""

    def __init__(self, job: Job, params: Params):
        self._gradients: nnx.State | None = None
        self.runtime = prepare(job)
        model = twin.build(job, params, self.runtime)
        super().__init__(job, lambda config: train.Trainer(model, config, self.runtime))

    def forward_backward(self, batch: MicroBatch) -> Loss:
        """The trainer's gradients, without its update."""
        loss, self._gradients = self.trainer.gradients(*batch)
        return loss

    def train(self, batch: MicroBatch) -> Loss:
        """One step of the trainer."""
        self._gradients = None
        return super().train(batch)

    def wait(self, loss: Loss) -> float:
        """The loss on the host; what was computed beside it is waited for too."""
        wait_for((self._gradients, self.trainer.leaves))
        return float(loss)

    def gradients(self) -> Params:
        """The gradients of the last pass."""
        return export_tensors(self._gradients)

    def first_step(self, batch: MicroBatch) -> tuple[float, Params, bool]:
        """The gradients, clipped, are what the first moment is made of."""
        loss = self.wait(self.train(batch))
        share = 1 - self.job.adamw.beta1
        first = self.trainer.export().first_moment
        return loss, {name: value / share for name, value in first.items()}, True

    def decode(self, prompts: NPArray, new_tokens: int) -> NPArray:
        """By our own ``generate``."""
        model = self.trainer.computing_model()
        return twin.greedy(generate, model, prompts, new_tokens, self.runtime)

    def state(self) -> Json:
        """Switches as JAX reports them, and what XLA made of attention."""
        model = self.trainer.computing_model()
        tokens = np.zeros((self.job.batch_size, self.job.length), np.int64)
        program = jax.jit(lambda x: model(x)).lower(*self.runtime.batch(tokens)).as_text()
        return jax_state(program)


Backend = make
