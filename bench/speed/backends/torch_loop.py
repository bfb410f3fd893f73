"""A training loop in PyTorch around any model: the idiomatic contestant's, and the peers'."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.speed.backends.backend import Job
from bench.speed.contestants import Settings
from shared.config import AdamWConfig
from shared.params import Params
from shared.schedule import learning_rate
from torch_impl import runtime as runtimes
from torch_impl.params import export_tensors, import_tensors

# What cuBLAS needs to be deterministic, at the price of its own choice of workspace.
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


class TorchWaits:
    """What is the same for everything that PyTorch runs step by step."""

    job: Job
    forward_backward: Callable[..., Any]
    train: Callable[..., Any]
    gradients: Callable[[], Params]

    def wait(self, loss: Any) -> float:
        """The loss on the host, once the device has done all that it was given."""
        if self.job.device == "cuda":
            torch.cuda.synchronize()
        return float(loss)

    def first_step(self, batch: Any) -> tuple[float, Params, bool]:
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
        self.model = model.train()
        self.steps = 0
        self.optimizer = adamw(model, job.optimizer, self.settings)
        self.compiled = self.settings.compiled == "loss"
        mode = "reduce-overhead" if self.settings.graphs else None
        call = self.loss_of
        self._loss = torch.compile(call, mode=mode) if self.compiled else call
        narrow = job.dtype == "bfloat16"
        self._precision = torch.autocast(job.device, torch.bfloat16, enabled=narrow)

    def loss_of(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats."""
        logits = self.logits_of(inputs)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def logits_of(self, inputs: Tensor) -> Tensor:
        """Logits [B, T, V]."""
        return self.model(inputs)

    def put(self, inputs: np.ndarray, targets: np.ndarray) -> tuple[Tensor, Tensor]:
        """A batch on the device, as int64."""
        x, y = (torch.from_numpy(part.astype(np.int64)) for part in (inputs, targets))
        return x.to(self.device), y.to(self.device)

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss, without a graph."""
        with torch.no_grad(), self._precision:
            return self._loss(*batch)

    def forward_backward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss; gradients are left on the parameters."""
        self.model.zero_grad()
        with self._precision:
            loss = self._loss(*batch)
        loss.backward()
        return loss.detach()

    def train(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """One step, as tutorials have it."""
        loss = self.forward_backward(batch)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.job.optimizer.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = float(learning_rate(self.steps, self.job.optimizer))
        self.optimizer.step()
        self.steps += 1
        return loss

    def gradients(self) -> Params:
        """What ``backward`` left on the parameters."""
        named = self.model.named_parameters()
        return self._exported({name: p.grad for name, p in named if p.requires_grad})

    def reset(self, params: Params) -> None:
        """Parameters in place, so that what is compiled stays compiled; no moments."""
        fill(self.model, params, self.prefix)
        self.optimizer.state.clear()
        self.model.zero_grad()
        self.steps = 0

    def decode(self, prompts: Sequence[np.ndarray], new_tokens: int) -> np.ndarray:
        """Greedy continuations; a subclass that can, says how."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Switches as PyTorch reports them, and the attention kernel of one more pass."""
        return torch_state(self.job.device, self._one_pass)

    def _one_pass(self) -> None:
        tokens = np.zeros((self.job.batch_size, self.job.length), np.int64)
        self.forward(self.put(tokens, tokens))

    def _exported(self, tensors: dict[str, Tensor]) -> Params:
        found = export_tensors(self.model, tensors)
        return {name.removeprefix(self.prefix): value for name, value in found.items()}


def adamw(model: nn.Module, config: AdamWConfig, settings: Settings) -> torch.optim.AdamW:
    """AdamW with decay of matrices alone, in the implementation that is asked for."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    how: dict[str, Any] = {
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
    """Precision as the job asks for, and whatever the settings switch on."""
    workspace = os.environ.get(WORKSPACE)
    runtime = runtimes.configure(job.dtype, job.device)
    # A benchmark may choose kernels by speed; whether they are right, its certificate says.
    torch.use_deterministic_algorithms(False)
    torch.backends.cuda.enable_cudnn_sdp(True)
    if workspace is None:
        del os.environ[WORKSPACE]
    if job.contestant.settings.fast_matmul:
        runtimes.tune(job.device, job.dtype, job.config.emb_dim)
    return runtime


def torch_state(device: str, one_pass: Callable[[], Any]) -> dict[str, Any]:
    """Settings and versions, and the names of the attention kernels that ``one_pass`` runs."""
    return {
        "settings": runtimes.settings(),
        "versions": runtimes.versions(),
        "attention": attention_kernels(device, one_pass),
    }


def attention_kernels(device: str, one_pass: Callable[[], Any]) -> str:
    """What a profiler sees of attention in one pass."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as seen:
        one_pass()
    names = {event.key for event in seen.key_averages()}
    found = sorted(n for n in names if "attention" in n or "fmha" in n or "flash" in n)
    kernels = [name for name in found if not name.startswith("aten::scaled_dot_product")]
    return ", ".join(kernels or found) or "written out"
