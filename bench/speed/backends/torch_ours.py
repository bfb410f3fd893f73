"""Our PyTorch GPT-2: by the tutorials' loop, or by ``Trainer`` when it is tuned."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from bench.harness import frameworks
from bench.speed.backends.backend import Job
from bench.speed.backends.torch_loop import TorchLoop, TorchWaits, prepare, torch_state
from shared.config import TrainConfig
from shared.params import Params
from shared.sampling import Sampling
from shared.train_state import TrainState
from torch_impl import gpt2, train
from torch_impl import params as torch_params
from torch_impl.generate import decode_layout, generate
from torch_impl.params import export_tensors


def build(job: Job, params: Params) -> tuple[gpt2.GPT2, Any]:
    """The twin with ``params``, and the runtime that it was made for."""
    runtime = prepare(job)
    attention = f"{job.contestant.settings.attention}_attention"
    model = torch_params.build(
        lambda: frameworks.one("torch").make_gpt2(job.config, attention=attention),
        params,
        runtime.master,
    )
    return model, runtime


def make(job: Job, params: Params) -> Any:
    """The tuned contestant is the trainer itself; the others show the way there."""
    own = job.contestant.tier in ("tuned", "lean")
    return Tuned(job, params) if own else Loop(job, params)


class Loop(TorchLoop):
    """The twin in the loop of the tutorials, one setting after the other switched on."""

    def __init__(self, job: Job, params: Params):
        model, self.runtime = build(job, params)
        if job.contestant.settings.compiled == "block":
            for block in model.h:
                block.compile()
        super().__init__(job, model)

    def loss_of(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy, in chunks where that is a setting."""
        model: Any = self.model
        chunk = self.settings.chunk
        return gpt2.summed_loss(model, inputs, targets, chunk) / targets.numel()

    def decode(self, prompts: Sequence[np.ndarray], new_tokens: int) -> np.ndarray:
        """By our own ``generate``."""
        model: Any = self.model
        return decode(model, self.runtime, prompts, new_tokens)


class Tuned(TorchWaits):
    """The trainer of ``twingrad train`` in PyTorch."""

    def __init__(self, job: Job, params: Params):
        self.job = job
        model, self.runtime = build(job, params)
        settings = job.contestant.settings
        self.config = TrainConfig(
            optimizer=job.optimizer,
            batch_size=job.batch_size,
            dtype=job.dtype,
            loss_chunk=settings.chunk,
            compile=settings.compiled != "none",
        )
        self.trainer = train.Trainer(model, self.config, self.runtime)
        self.decoder: gpt2.GPT2 | None = None

    def put(self, inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One micro-batch; the trainer moves it."""
        return inputs[None], targets[None]

    def forward(self, batch: tuple[np.ndarray, np.ndarray]) -> Any:
        """The loss, as validation takes it."""
        return self.trainer.evaluate(batch[0][0], batch[1][0]) / batch[1].size

    def forward_backward(self, batch: tuple[np.ndarray, np.ndarray]) -> Any:
        """The trainer's gradients, without its update."""
        return self.trainer.gradients(*batch)

    def train(self, batch: tuple[np.ndarray, np.ndarray]) -> Any:
        """One step of the trainer."""
        return self.trainer.step(*batch).loss

    def gradients(self) -> Params:
        """What ``backward`` left on the parameters."""
        named = self.trainer.model.named_parameters()
        return export_tensors(self.trainer.model, {name: p.grad for name, p in named})

    def reset(self, params: Params) -> None:
        """Back to the beginning, as a checkpoint is restored."""
        nothing = {name: np.zeros_like(value) for name, value in params.items()}
        self.trainer.restore(TrainState(0, params, nothing, nothing))
        self.decoder = None

    def decode(self, prompts: Sequence[np.ndarray], new_tokens: int) -> np.ndarray:
        """By our own ``generate``, from one model in decode layout, as ``sample`` does it."""
        if self.decoder is None:
            self.decoder = decode_layout(self.trainer.computing_model())
        return decode(self.decoder, self.runtime, prompts, new_tokens)

    def state(self) -> dict[str, Any]:
        """Switches as PyTorch reports them, and the attention kernel of one more pass."""
        tokens = np.zeros((1, self.job.batch_size, self.job.length), np.int64)
        return torch_state(self.job.device, lambda: self.forward((tokens, tokens)))


def decode(
    model: gpt2.GPT2, runtime: Any, prompts: Sequence[np.ndarray], new_tokens: int
) -> np.ndarray:
    """Greedy continuations [B, N]."""
    model.eval()
    greedy = Sampling(temperature=0.0)
    return np.stack(list(generate(model, prompts, new_tokens, greedy, runtime)), axis=1)


Racer = make
