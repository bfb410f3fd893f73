"""Our JAX GPT-2: by Flax's documented loop, or by ``Trainer`` when it is tuned."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from bench.harness import frameworks
from bench.speed.backends.backend import Job
from bench.speed.backends.jax_loop import JaxLoop, jax_state, prepare
from jax_impl import gpt2, train
from jax_impl import params as jax_params
from jax_impl.generate import generate
from jax_impl.params import export_tensors
from shared.config import TrainConfig
from shared.params import Params
from shared.sampling import Sampling
from shared.train_state import TrainState


def build(job: Job, params: Params) -> tuple[gpt2.GPT2, Any]:
    """The twin with ``params``, and the runtime that it was made for."""
    runtime = prepare(job)
    attention = f"{job.contestant.settings.attention}_attention"
    model = jax_params.build(
        lambda: frameworks.one("jax").make_gpt2(job.config, attention=attention),
        params,
        runtime.master,
    )
    return model, runtime


def make(job: Job, params: Params) -> Any:
    """The tuned contestant is the trainer itself; the others show the way there."""
    own = job.contestant.tier in ("tuned", "lean")
    return Tuned(job, params) if own else Loop(job, params)


class Loop(JaxLoop):
    """The twin in the documented loop, one setting after the other switched on."""

    def __init__(self, job: Job, params: Params):
        model, runtime = build(job, params)
        super().__init__(job, model, runtime)

    def loss_of(self, model: Any, inputs: Array, targets: Array) -> Array:
        """Mean cross-entropy, in chunks where that is a setting."""
        return gpt2.summed_loss(model, inputs, targets, self.settings.chunk) / targets.size

    def decode(self, prompts: Sequence[np.ndarray], new_tokens: int) -> np.ndarray:
        """By our own ``generate``."""
        self._sync()
        return decode(self.model, self.runtime, prompts, new_tokens)


class Tuned:
    """What ``twingrad train`` runs in JAX."""

    def __init__(self, job: Job, params: Params):
        self.job = job
        self._gradients: Any = None
        model, self.runtime = build(job, params)
        settings = job.contestant.settings
        self.config = TrainConfig(
            optimizer=job.optimizer,
            batch_size=job.batch_size,
            dtype=job.dtype,
            loss_chunk=settings.chunk,
        )
        self.trainer = train.Trainer(model, self.config, self.runtime)

    def put(self, inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One micro-batch; the trainer moves it."""
        return inputs[None], targets[None]

    def forward(self, batch: tuple[np.ndarray, np.ndarray]) -> Any:
        """The loss, as validation takes it."""
        return self.trainer.evaluate(batch[0][0], batch[1][0]) / batch[1].size

    def forward_backward(self, batch: tuple[np.ndarray, np.ndarray]) -> Any:
        """The trainer's gradients, without its update."""
        loss, self._gradients = self.trainer.gradients(*batch)
        return loss

    def train(self, batch: tuple[np.ndarray, np.ndarray]) -> Any:
        """One step of the trainer."""
        self._gradients = None
        return self.trainer.step(*batch).loss

    def wait(self, loss: Any) -> float:
        """The loss on the host; what was computed beside it is waited for too."""
        jax.block_until_ready((self._gradients, self.trainer.state))
        return float(loss)

    def gradients(self) -> Params:
        """Those of the last pass."""
        return export_tensors(self._gradients)

    def first_step(self, batch: Any) -> tuple[float, Params, bool]:
        """The gradients, clipped, are what the first moment is made of."""
        loss = self.wait(self.train(batch))
        share = 1 - self.job.optimizer.beta1
        first = self.trainer.export().first_moment
        return loss, {name: value / share for name, value in first.items()}, True

    def reset(self, params: Params) -> None:
        """Back to the beginning, as a checkpoint is restored."""
        nothing = {name: np.zeros_like(value) for name, value in params.items()}
        self.trainer.restore(TrainState(0, params, nothing, nothing))

    def decode(self, prompts: Sequence[np.ndarray], new_tokens: int) -> np.ndarray:
        """By our own ``generate``."""
        return decode(self.trainer.computing_model(), self.runtime, prompts, new_tokens)

    def state(self) -> dict[str, Any]:
        """Switches as JAX reports them, and what XLA made of attention."""
        model = self.trainer.computing_model()
        tokens = np.zeros((self.job.batch_size, self.job.length), np.int64)
        program = jax.jit(lambda x: model(x)).lower(*self.runtime.batch(tokens)).as_text()
        return jax_state(program)


def decode(
    model: gpt2.GPT2, runtime: Any, prompts: Sequence[np.ndarray], new_tokens: int
) -> np.ndarray:
    """Greedy continuations [B, N]."""
    model.eval()
    greedy = Sampling(temperature=0.0)
    return np.stack(list(generate(model, prompts, new_tokens, greedy, runtime)), axis=1)


Racer = make
