"""A training loop in PyTorch around any model, for the idiomatic contestant and the peers."""

import os
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.speed.backends.backend import Job
from bench.speed.contestants import Settings
from bench.speed.foreign import Array, Batch, Loss, Model, Native
from bench.speed.json_form import Json
from shared.config import AdamWConfig
from shared.params import Params
from shared.schedule import learning_rate
from torch_impl import runtime as runtimes
from torch_impl.params import export_tensors, import_tensors

# Set for cuBLAS to be deterministic, at the price of its own choice of workspace.
# Variables that libraries read when they start, which `configure` sets where they are not set.
DETERMINISM = ("CUBLAS_WORKSPACE_CONFIG", "TORCHINDUCTOR_DETERMINISTIC")


class TorchWaits:
    """Waiting and the first step of everything that PyTorch runs step by step."""

    job: Job

    def forward_backward(self, batch: Batch) -> Loss:
        """The loss, with gradients."""
        raise NotImplementedError

    def train(self, batch: Batch) -> Loss:
        """The loss, and one update."""
        raise NotImplementedError

    def gradients(self) -> Params:
        """The gradients that ``backward`` left on the parameters."""
        raise NotImplementedError

    def wait(self, loss: Loss) -> float:
        """The loss on the host, once the device has finished."""
        if self.job.device == "cuda":
            torch.cuda.synchronize()
        return float(loss)

    def first_step(self, batch: Batch) -> tuple[float, Params, bool]:
        """The gradients are taken before the update, whose clipping may write to them."""
        self.wait(self.forward_backward(batch))
        gradients = self.gradients()
        return self.wait(self.train(batch)), gradients, False


class TorchLoop(TorchWaits):
    """``loss_of(model, inputs, targets)``, backward, clip, AdamW, with ``Settings`` switched on.

    A subclass gives the model, and says what it calls its parameters.
    """

    prefix = ""

    def __init__(self, job: Job, model: nn.Module):
        self.job, self.settings = job, job.contestant.settings
        self.device = torch.device(job.device)
        self.model: Model = model.train()
        self.steps = 0
        self.optimizer: torch.optim.Optimizer = adamw(model, job.adamw, self.settings)
        self.compiled = self.settings.compiled == "loss"
        mode = "reduce-overhead" if self.settings.graphs else None
        call = self.loss_of
        self._loss = torch.compile(call, mode=mode) if self.compiled else call
        narrow = job.dtype == "bfloat16"
        self._precision = torch.autocast(job.device, torch.bfloat16, enabled=narrow)

    def loss_of(self, inputs: Tensor, targets: Tensor) -> Loss:
        """Mean cross-entropy in nats."""
        logits = self.logits_of(inputs)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def logits_of(self, inputs: Tensor) -> Native:
        """Logits [B, T, V]."""
        return self.model(inputs)

    def put(self, inputs: Array, targets: Array) -> tuple[Tensor, Tensor]:
        """A batch on the device, as int64."""
        x, y = (torch.from_numpy(part.astype(np.int64)) for part in (inputs, targets))
        return x.to(self.device), y.to(self.device)

    def forward(self, batch: tuple[Tensor, Tensor]) -> Loss:
        """The loss, without a graph."""
        with torch.no_grad(), self._precision:
            return self._loss(*batch)

    def forward_backward(self, batch: tuple[Tensor, Tensor]) -> Loss:
        """The loss; gradients are left on the parameters."""
        self.model.zero_grad()
        with self._precision:
            loss = self._loss(*batch)
        loss.backward()
        return loss.detach()

    def train(self, batch: tuple[Tensor, Tensor]) -> Loss:
        """One step, as tutorials have it."""
        loss = self.forward_backward(batch)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.job.adamw.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = float(learning_rate(self.steps, self.job.adamw))
        self.optimizer.step()
        self.steps += 1
        return loss

    def gradients(self) -> Params:
        """The gradients that ``backward`` left on the parameters."""
        named = self.model.named_parameters()
        return self._exported({name: p.grad for name, p in named if p.requires_grad})

    def reset(self, params: Params) -> None:
        """Parameters in place, so that what is compiled stays compiled; no moments."""
        fill(self.model, params, self.prefix)
        self.optimizer.state.clear()
        self.model.zero_grad()
        self.steps = 0

    def decode(self, prompts: Array, new_tokens: int) -> Array:
        """Greedy continuations, in subclasses that have them."""
        raise NotImplementedError

    def state(self) -> Json:
        """Switches as PyTorch reports them, and the attention kernel of one more pass."""
        return torch_state(self.job.device, self._one_pass)

    def _one_pass(self) -> None:
        tokens = np.zeros((self.job.batch_size, self.job.length), np.int64)
        self.forward(self.put(tokens, tokens))

    def _exported(self, tensors: dict[str, Tensor]) -> Params:
        values = export_tensors(self.model, tensors)
        return {name.removeprefix(self.prefix): value for name, value in values.items()}


def adamw(model: nn.Module, config: AdamWConfig, settings: Settings) -> torch.optim.AdamW:
    """AdamW with decay of matrices alone, in the implementation of the settings."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    how: dict[str, bool] = {
        "loop": {"foreach": False},
        "foreach": {"foreach": True},
        "fused": {"fused": True},
    }[settings.optimizer]
    betas, rate = (config.beta1, config.beta2), config.learning_rate
    return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=config.epsilon, **how)


def fill(model: nn.Module, params: Params, prefix: str) -> None:
    """Write ``params`` into the model's own parameters."""
    own = dict(model.named_parameters())
    named = {prefix + name: value for name, value in params.items()}
    runtime = runtimes.Runtime(next(model.parameters()).device, next(model.parameters()).dtype)
    with torch.no_grad():
        for name, value in import_tensors(model, named, runtime).items():
            own[name].copy_(value)


def prepare(job: Job) -> runtimes.Runtime:
    """Configure precision for the job, and the matrix library for its settings."""
    before = {name: os.environ.get(name) for name in DETERMINISM}
    runtime = runtimes.configure(job.dtype, job.device)
    # A benchmark may choose kernels by speed; its parity check shows whether they are right.
    torch.use_deterministic_algorithms(False)
    torch.backends.cuda.enable_cudnn_sdp(True)
    for name, value in before.items():
        if value is None:
            del os.environ[name]
    if job.contestant.settings.fast_matmul:
        runtimes.tune(job.device, job.dtype, job.config.emb_dim)
    return runtime


def torch_state(device: str, one_pass: Callable[[], object]) -> Json:
    """Settings and versions, and the names of the attention kernels that ``one_pass`` runs."""
    return {
        "settings": runtimes.settings(),
        "versions": runtimes.versions(),
        "attention": attention_kernels(device, one_pass),
    }


def attention_kernels(device: str, one_pass: Callable[[], object]) -> str:
    """The attention kernels of one pass, by the profiler."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as seen:
        one_pass()
    names = {event.key for event in seen.key_averages()}
    attention = sorted(n for n in names if "attention" in n or "fmha" in n or "flash" in n)
    kernels = [name for name in attention if not name.startswith("aten::scaled_dot_product")]
    return ", ".join(kernels or attention) or "written out"
