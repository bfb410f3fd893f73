"""The adapter of PyTorch: its modules, imported when they are asked for, and what PyTorch does
differently from JAX.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType

from bench.harness import twin_modules
from bench.harness.foreign import Array, Gradients, Model, Native, Tensor, TensorFn
from shared.config import GPTConfig
from shared.params import Params


@dataclass(frozen=True)
class TorchFramework:
    """PyTorch's half of the project; ``Framework`` says what the members are."""

    name: str = "torch"

    @property
    def gpt2(self) -> twin_modules.Gpt2Module:
        from torch_impl import gpt2

        return gpt2

    @property
    def sigmoid_bce(self) -> twin_modules.SigmoidBceModule:
        from torch_impl import sigmoid_bce

        return sigmoid_bce

    @property
    def simple_net(self) -> twin_modules.SimpleNetModule:
        from torch_impl import simple_net

        return simple_net

    @property
    def params(self) -> twin_modules.ParamsModule:
        from torch_impl import params

        return params

    @property
    def runtime(self) -> twin_modules.RuntimeModule:
        from torch_impl import runtime

        return runtime

    @property
    def train(self) -> twin_modules.TrainModule:
        from torch_impl import train

        return train

    @property
    def loss(self) -> twin_modules.LossModule:
        from torch_impl import loss

        return loss

    @property
    def dropout(self) -> twin_modules.DropoutModule:
        from torch_impl import dropout

        return dropout

    @property
    def optim(self) -> twin_modules.OptimModule:
        from torch_impl import optim

        return optim

    @property
    def generate(self) -> twin_modules.GenerateModule:
        from torch_impl import generate

        return generate

    @property
    def trace(self) -> twin_modules.TraceModule:
        from torch_impl import trace

        return trace

    @property
    def distributed(self) -> twin_modules.DistributedModule:
        from torch_impl import distributed

        return distributed

    @property
    def tensors(self) -> ModuleType:
        from torch_impl import tensors

        return tensors

    def make_gpt2(
        self, config: GPTConfig, *, attention: str = "fused_attention", recompute: bool = False
    ) -> Model:
        from torch_impl import gpt2

        return gpt2.GPT2(config, attention=getattr(gpt2, attention), recompute=recompute)

    def make_simple_net(self) -> Model:
        from torch_impl.simple_net import SimpleNet

        return SimpleNet()

    def export_gradients(self, model: Model, gradients: Gradients) -> Params:
        from torch_impl.params import export_tensors

        return export_tensors(model, gradients)

    def trainer_gradients(
        self, trainer: Native, inputs: Array, targets: Array
    ) -> tuple[float, Params]:
        loss, model = trainer.gradients(inputs, targets), trainer.model
        left = {name: p.grad for name, p in model.named_parameters()}
        return float(loss), self.export_gradients(model, left)

    def set_dropout_keys(self, model: Model, keys: Array) -> None:
        self.dropout.set_keys(model, keys)

    def gradient(self, loss: TensorFn, x: Tensor) -> Array:
        loss(x.requires_grad_()).backward()
        return self.params.to_numpy(x.grad)

    @contextmanager
    def one_thread(self) -> Iterator[None]:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def decoder(self, model: Model, runtime: Native, cache: Native) -> TensorFn:
        from torch_impl.generate import decode

        return partial(decode, model, cache)

    def last_logits(self, model: Model) -> TensorFn:
        import torch

        def logits(tokens: Tensor) -> Tensor:
            with torch.inference_mode():
                return model(tokens)[:, -1]

        return logits
