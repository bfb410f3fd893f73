"""SGD and AdamW in PyTorch, with decay groups, global-norm clipping and the shared schedule."""

import torch
from jaxtyping import Float
from torch import Tensor, nn, optim

from shared.config import AdamWConfig, OptimizerConfig, SGDConfig
from shared.schedule import learning_rate
from torch_impl.distributed import whole


class Optimizer:
    """A ``torch.optim`` optimizer with clipping and the learning rate schedule.

    ``backward()`` leaves gradients on the parameters; ``step()`` moves the parameters in place.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig):
        self.config = config
        self.steps = 0
        self.model = model
        self.parameters = list(model.parameters())
        self.inner = (
            _adamw(model, config) if isinstance(config, AdamWConfig) else _sgd(model, config)
        )

    def zero_grad(self) -> None:
        """Reset the gradients: ``backward()`` adds to the content of ``.grad``."""
        self.inner.zero_grad()

    def step(self, loss: Float[Tensor, ""] | None = None) -> Float[Tensor, ""]:
        """Clip the gradients, set this step's learning rate, and move the parameters.

        Returns the gradients' joint L2 norm before clipping. Where that or ``loss`` is not finite,
        AdamW moves no parameter.
        """
        gradients = [p.grad for p in self.parameters]
        norm = _joint_norm(gradients)
        if isinstance(self.config, AdamWConfig):
            _clip(gradients, norm, self.config.max_grad_norm)
            # As a GradScaler sets it: the fused kernel reads it on the device.
            finite = norm.isfinite() if loss is None else norm.isfinite() & loss.isfinite()
            setattr(self.inner, "found_inf", (~finite).float())  # noqa: B010
        for group in self.inner.param_groups:
            group["lr"] = float(learning_rate(self.steps, self.config))
        self.inner.step()
        self.steps += 1
        return norm

    def moments(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """AdamW's averages of gradients and of their squares, named as the parameters are."""
        return self._averages("exp_avg"), self._averages("exp_avg_sq")

    def restore(self, first: dict[str, Tensor], second: dict[str, Tensor], steps: int) -> None:
        """Continue from these moments after ``steps`` steps."""
        self.steps = steps
        for name, p in self.model.named_parameters():
            count = torch.tensor(float(steps), device=p.device)
            state = {"step": count, "exp_avg": first[name], "exp_avg_sq": second[name]}
            self.inner.state[p] = state

    def _averages(self, key: str) -> dict[str, Tensor]:
        state = self.inner.state
        named = self.model.named_parameters()
        # PyTorch makes the averages at the first step.
        return {name: state[p][key] if p in state else torch.zeros_like(p) for name, p in named}


def _sgd(model: nn.Module, config: SGDConfig) -> optim.Optimizer:
    return optim.SGD(model.parameters(), lr=config.learning_rate)


def _adamw(model: nn.Module, config: AdamWConfig) -> optim.Optimizer:
    groups = [
        {
            "params": [p for p in model.parameters() if _decays(p)],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for p in model.parameters() if not _decays(p)], "weight_decay": 0.0},
    ]
    # Every number written out: PyTorch's weight decay is 1e-2, optax's 1e-4.
    return optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )


def _decays(p: Tensor) -> bool:
    """Matrices decay; gains and biases do not."""
    return p.ndim >= 2


def _joint_norm(gradients: list[Tensor]) -> Tensor:
    """The L2 norm of all ``gradients`` together, of any process."""
    if _at_once(gradients):
        squares = torch.stack(torch._foreach_norm(gradients)).square()
    else:
        squares = torch.stack([_sum_of_squares(gradient) for gradient in gradients])
    return whole(squares.sum()).sqrt()


def _sum_of_squares(gradient: Tensor) -> Tensor:
    """Sum of squares, row by row: all squares at once would take the memory of the gradient.

    Over a whole matrix ``vector_norm`` on a CPU adds float32 numbers one by one: too coarse for a
    large embedding.
    """
    rows = torch.linalg.vector_norm(gradient, dim=-1) if gradient.ndim > 1 else gradient
    return rows.square().sum()


def _clip(gradients: list[Tensor], norm: Tensor, max_norm: float) -> None:
    """Scale ``gradients`` in place so that their joint ``norm`` is ``max_norm`` at most.

    Not ``clip_grad_norm_``: it divides by the norm plus 1e-6, optax by the norm itself.
    """
    scale = (max_norm / norm).clamp(max=1.0)
    if _at_once(gradients):
        torch._foreach_mul_(gradients, scale)
        return
    for gradient in gradients:
        gradient.mul_(scale)


def _at_once(gradients: list[Tensor]) -> bool:
    """Whether a few kernels serve all gradients: on a GPU, where they are not sharded."""
    return gradients[0].device.type != "cpu" and type(gradients[0]) is Tensor
