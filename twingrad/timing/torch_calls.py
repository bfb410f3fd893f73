"""What is timed of a PyTorch model: its loss, the gradients, a step of its optimizer."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from twingrad import torch_probe
from twingrad.calls import only_loss
from twingrad.foreign import ModuleCall
from twingrad.pair import Pair
from twingrad.timing.rounds import Mode, Workload

Step = Callable[[], float]  # -> the loss


class TorchCalls:
    """The PyTorch model of a pair in one dtype, and a function of no arguments for each task."""

    def __init__(self, pair: Pair, dtype: str):
        self.pair, self.dtype = pair, dtype
        self.batch = torch_probe.batch_of(pair.batch, dtype)

    def step(self, mode: Mode, workload: Workload) -> Step:
        """The step to time, of a model of its own."""
        torch.manual_seed(0)
        made = torch_probe.made(self.pair.torch)
        model = torch_probe.in_dtype(made, self.dtype, self.pair.train)
        loss_fn = self.pair.torch_loss or torch_probe.mean_square

        def loss(*batch: Tensor) -> Tensor:
            return only_loss(loss_fn(model, *batch))  # type: ignore[no-any-return]

        run: ModuleCall = torch.compile(loss) if mode == "compiled" else loss
        if workload == "forward":
            return self._forward(run)
        return self._trained(run, model, steps=workload == "training step")

    def _forward(self, run: ModuleCall) -> Step:
        def step() -> float:
            with torch.no_grad():
                return float(run(*self.batch))

        return step

    def _trained(self, run: ModuleCall, model: nn.Module, steps: bool) -> Step:
        make = self.pair.torch_optimizer
        optimizer = make(model.parameters()) if steps and make is not None else None

        def step() -> float:
            model.zero_grad(set_to_none=True)
            loss = run(*self.batch)
            loss.backward()
            if optimizer is not None:
                optimizer.step()
            return float(loss.detach())

        return step

    def facts(self) -> dict[str, int]:
        """How many threads compute."""
        return {"torch_threads": torch.get_num_threads()}
