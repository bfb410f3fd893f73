"""The adapter of JAX: its modules, imported when they are asked for, and what JAX does
differently from PyTorch.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import ModuleType

from bench.harness import twin_modules
from bench.harness.foreign import Array, Gradients, Model, Native, Tensor, TensorFn
from shared.config import GPTConfig
from shared.params import Params


@dataclass(frozen=True)
class JaxFramework:
    """JAX's half of the project; ``Framework`` says what the members are."""

    name: str = "jax"

    @property
    def gpt2(self) -> twin_modules.Gpt2Module:
        from jax_impl import gpt2

        return gpt2

    @property
    def sigmoid_bce(self) -> twin_modules.SigmoidBceModule:
        from jax_impl import sigmoid_bce

        return sigmoid_bce

    @property
    def simple_net(self) -> twin_modules.SimpleNetModule:
        from jax_impl import simple_net

        return simple_net

    @property
    def params(self) -> twin_modules.ParamsModule:
        from jax_impl import params

        return params

    @property
    def runtime(self) -> twin_modules.RuntimeModule:
        from jax_impl import runtime

        return runtime

    @property
    def train(self) -> twin_modules.TrainModule:
        from jax_impl import train

        return train

    @property
    def loss(self) -> twin_modules.LossModule:
        from jax_impl import loss

        return loss

    @property
    def dropout(self) -> twin_modules.DropoutModule:
        from jax_impl import dropout

        return dropout

    @property
    def optim(self) -> twin_modules.OptimModule:
        from jax_impl import optim

        return optim

    @property
    def generate(self) -> twin_modules.GenerateModule:
        from jax_impl import generate

        return generate

    @property
    def trace(self) -> twin_modules.TraceModule:
        from jax_impl import trace

        return trace

    @property
    def distributed(self) -> twin_modules.DistributedModule:
        from jax_impl import distributed

        return distributed

    @property
    def tensors(self) -> ModuleType:
        from jax_impl import tensors

        return tensors

    def make_gpt2(
        self, config: GPTConfig, *, attention: str = "fused_attention", recompute: bool = False
    ) -> Model:
        from jax_impl import gpt2

        chosen = getattr(gpt2, attention)
        return gpt2.GPT2(config, attention=chosen, recompute=recompute, rngs=_rngs())

    def make_simple_net(self) -> Model:
        from jax_impl.simple_net import SimpleNet

        return SimpleNet(rngs=_rngs())

    def export_gradients(self, model: Model, gradients: Gradients) -> Params:
        from jax_impl.params import export_tensors

        return export_tensors(gradients)

    def trainer_gradients(
        self, trainer: Native, inputs: Array, targets: Array
    ) -> tuple[float, Params]:
        loss, gradients = trainer.gradients(inputs, targets)
        return float(loss), self.export_gradients(None, gradients)

    def set_dropout_keys(self, model: Model, keys: Array) -> None:
        import jax.numpy as jnp

        self.dropout.set_keys(model, jnp.asarray(keys))

    def gradient(self, loss: TensorFn, x: Tensor) -> Array:
        import jax

        return self.params.to_numpy(jax.grad(loss)(x))

    def one_thread(self) -> AbstractContextManager[None]:
        return nullcontext()  # XLA's threads are as many as the cores from its start

    def decoder(self, model: Model, runtime: Native, cache: Native) -> TensorFn:
        from jax_impl.generate import compiled

        decode = compiled(model, runtime)

        def step(*batch: Tensor) -> Tensor:
            nonlocal cache
            logits, cache = decode(cache, *batch)
            return logits

        return step

    def last_logits(self, model: Model) -> TensorFn:
        import jax
        from flax import nnx

        graphdef, state = nnx.split(model)
        return partial(
            jax.jit(lambda state, tokens: nnx.merge(graphdef, state)(tokens)[:, -1]), state
        )


def _rngs() -> Native:
    """Flax asks for random streams when a module is described, though nothing is drawn."""
    from flax import nnx

    return nnx.Rngs(0)
