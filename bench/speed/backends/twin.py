"""The twins' GPT-2 as backends: what is the same in PyTorch and JAX."""

from collections.abc import Callable

import numpy as np

from bench.harness import frameworks
from bench.speed.backends.backend import Job
from bench.speed.foreign import Array, Loss, Model, Native, TensorFn
from shared.config import TrainConfig
from shared.params import Params
from shared.sampling import Sampling
from shared.train_state import TrainState

MicroBatch = tuple[Array, Array]
GREEDY = Sampling(temperature=0.0)


def build(job: Job, params: Params, runtime: Native) -> Model:
    """The twin with ``params``."""
    framework = frameworks.one(job.contestant.framework)
    attention = f"{job.contestant.settings.attention}_attention"
    return framework.params.build(
        lambda: framework.make_gpt2(job.config, attention=attention), params, runtime.master
    )


def is_trainer(job: Job) -> bool:
    """Whether the contestant is the trainer itself; the others show the way there."""
    return job.contestant.tier in ("tuned", "lean")


class TrainerBackend:
    """The trainer of ``twingrad train``, with batches in host memory, which it moves by itself."""

    def __init__(self, job: Job, make: Callable[[TrainConfig], Model]):
        settings = job.contestant.settings
        self.job = job
        self.trainer = make(
            TrainConfig(
                optimizer=job.adamw,
                batch_size=job.batch_size,
                dtype=job.dtype,
                loss_chunk=settings.chunk,
                compile=job.contestant.framework == "torch" and settings.compiled != "none",
            )
        )

    def put(self, inputs: Array, targets: Array) -> MicroBatch:
        """One micro-batch."""
        return inputs[None], targets[None]

    def forward(self, batch: MicroBatch) -> Loss:
        """The loss, as validation takes it."""
        return self.trainer.evaluate(batch[0][0], batch[1][0]) / batch[1].size

    def train(self, batch: MicroBatch) -> Loss:
        """One step of the trainer; its loss stays on the device until it is waited for."""
        return self.trainer.step(*batch)

    def reset(self, params: Params) -> None:
        """Back to the beginning, as a checkpoint is restored."""
        zeros = {name: np.zeros_like(value) for name, value in params.items()}
        self.trainer.restore(TrainState(0, params, zeros, zeros))


def greedy(
    generate: TensorFn, model: Model, prompts: Array,
    new_tokens: int, runtime: Native,
) -> Array:  # fmt: skip
    """Greedy continuations [B, N] by a twin's ``generate``."""
    model.eval()
    return np.stack(list(generate(model, list(prompts), new_tokens, GREEDY, runtime)), axis=1)
