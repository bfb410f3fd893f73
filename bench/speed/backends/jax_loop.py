"""A training loop in JAX around any NNX model, for the idiomatic contestant and the peer."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from bench.speed.backends.backend import Job
from bench.speed.foreign import Array as NPArray
from bench.speed.foreign import Loss, Model, TensorFn
from bench.speed.json_form import Json
from jax_impl import runtime as runtimes
from jax_impl.optim import Optimizer
from jax_impl.params import compute_in, export_tensors, import_tensors
from shared.params import Params


class JaxLoop:
    """``loss_of(model, inputs, targets)``, its gradient, clip and AdamW, as ``Settings`` have it.

    A subclass gives the model, whose parameters have our names, in float32 at least.
    """

    _forward: TensorFn
    _backward: TensorFn
    _train: TensorFn
    _train_several: TensorFn

    def __init__(self, job: Job, model: nnx.Module, runtime: runtimes.Runtime):
        self.job, self.settings, self.runtime = job, job.contestant.settings, runtime
        compute_in(model, runtime.dtype)
        self.model, self.optimizer = model, Optimizer(model, job.adamw)
        self._gradients: nnx.State | None = None
        if self.settings.split:
            self._split()
        else:
            self._plain()

    def loss_of(self, model: nnx.Module, inputs: Array, targets: Array) -> Loss:
        """Mean cross-entropy in nats."""
        logits = model(inputs).astype(jnp.float32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return losses.mean()

    def _loss(self, model: nnx.Module, inputs: Array, targets: Array) -> Loss:
        """The loss, from parameters rounded to the compute dtype where that is narrower."""
        return self.loss_of(self.narrow(model), inputs, targets)

    def narrow(self, model: Model) -> Model:
        """``model`` with its parameters rounded to the compute dtype, where that is narrower."""
        if self.runtime.dtype == self.runtime.master.dtype:
            return model
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)
        narrow = jax.tree.map(lambda p: p.astype(self.runtime.dtype), params)
        return nnx.merge(graphdef, narrow, rest, copy=True)

    def _update(self, model: nnx.Module, optimizer: Optimizer, *batch: Array) -> Loss:
        loss, gradients = nnx.value_and_grad(self._loss)(model, *batch)
        optimizer.update(model, gradients)
        return loss

    def _plain(self) -> None:
        """``nnx.jit`` over the modules themselves."""
        forward = nnx.jit(self._loss)
        gradient = nnx.jit(nnx.value_and_grad(self._loss))
        donated = {"donate_argnums": (0, 1)} if self.settings.donate else {}
        whole = nnx.jit(self._update, **donated)

        def train(*batch: Array) -> Loss:
            if self.settings.compiled == "step":
                return whole(self.model, self.optimizer, *batch)
            loss, gradients = gradient(self.model, *batch)
            self.optimizer.update(self.model, gradients)
            return loss

        self._forward = lambda *batch: forward(self.model, *batch)
        self._backward = lambda *batch: gradient(self.model, *batch)
        self._train = train

    def _split(self) -> None:
        """``jax.jit`` over split state, which costs less Python a step."""
        # Nothing else may refer to what is donated.
        graphdef, state = nnx.split((self.model, self.optimizer))
        self._state = jax.tree.map(jnp.copy, state)
        donated = 0 if self.settings.donate else ()

        def step(state: nnx.State, batch: tuple[Array, ...]) -> tuple[nnx.State, Array]:
            model, optimizer = nnx.merge(graphdef, state)
            loss = self._update(model, optimizer, *batch)
            return nnx.state((model, optimizer)), loss

        def steps(state: nnx.State, batches: list[tuple[Array, ...]]) -> tuple[nnx.State, Array]:
            stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *batches)
            return jax.lax.scan(step, state, stacked)

        one = jax.jit(step, donate_argnums=donated)
        several = jax.jit(steps, donate_argnums=donated)

        def train(*batch: Array) -> Loss:
            self._state, loss = one(self._state, batch)
            return loss

        def train_several(batches: list[tuple[Array, ...]]) -> list[Loss]:
            self._state, losses = several(self._state, batches)
            return list(losses)

        def loss_from(params: nnx.State, rest: nnx.State, *batch: Array) -> Loss:
            return self._loss(nnx.merge(modeldef, params, rest), *batch)

        modeldef, _, _ = nnx.split(self.model, nnx.Param, ...)
        forward = jax.jit(loss_from)
        gradient = jax.jit(jax.value_and_grad(loss_from))
        self._forward = lambda *batch: forward(*self._parts(), *batch)
        self._backward = lambda *batch: gradient(*self._parts(), *batch)
        self._train, self._train_several = train, train_several

    def _parts(self) -> tuple[nnx.State, nnx.State]:
        self._sync()
        _, params, rest = nnx.split(self.model, nnx.Param, ...)
        return params, rest

    def _sync(self) -> None:
        """Have the modules refer to the newest state: what was donated is gone."""
        if self.settings.split:
            nnx.update((self.model, self.optimizer), self._state)

    def put(self, inputs: NPArray, targets: NPArray) -> tuple[Array, ...]:
        """A batch on the device, as int32."""
        return self.runtime.batch(inputs, targets)

    def forward(self, batch: tuple[Array, ...]) -> Loss:
        """The loss."""
        return self._forward(*batch)

    def forward_backward(self, batch: tuple[Array, ...]) -> Loss:
        """The loss; the gradients are kept for ``gradients``."""
        loss, self._gradients = self._backward(*batch)
        return loss

    def train(self, batch: tuple[Array, ...]) -> Loss:
        """One update."""
        self._gradients = None
        return self._train(*batch)

    def train_several(self, batches: list[tuple[Array, ...]]) -> list[Loss]:
        """One update a batch, all in one program, which ``split`` alone has; the losses."""
        self._gradients = None
        losses: list[Loss] = self._train_several(batches)
        return losses

    def wait(self, loss: Loss) -> float:
        """The loss on the host; what was computed beside it is waited for too."""
        state = self._state if self.settings.split else nnx.state(self.model)
        wait_for((self._gradients, state))
        return float(loss)

    def gradients(self) -> Params:
        """The gradients of the last pass."""
        return export_tensors(self._gradients)

    def first_step(self, batch: tuple[Array, ...]) -> tuple[float, Params, bool]:
        """The gradients, clipped, are what the first moment is made of."""
        loss = self.wait(self.train(batch))
        share = 1 - self.job.adamw.beta1
        self._sync()
        first = export_tensors(self.optimizer.moments()[0])
        return loss, {name: value / share for name, value in first.items()}, True

    def reset(self, params: Params) -> None:
        """Back to ``params``, with an optimizer that has taken no step."""
        self._sync()
        master = self.runtime.master
        nnx.update(self.model, import_tensors(self.model, params, master))
        first, second = (jax.tree.map(jnp.zeros_like, m) for m in self.optimizer.moments())
        self.optimizer.restore(first, second, 0)
        if self.settings.split:
            self._state = jax.tree.map(jnp.copy, nnx.state((self.model, self.optimizer)))

    def decode(self, prompts: NPArray, new_tokens: int) -> NPArray:
        """Greedy continuations, in subclasses that have them."""
        raise NotImplementedError

    def state(self) -> Json:
        """Switches as JAX reports them, and what XLA made of attention."""
        self._sync()
        batch = self.put(*(np.zeros((self.job.batch_size, self.job.length), np.int64),) * 2)
        compiled = jax.jit(lambda *b: self._loss(self.model, *b)).lower(*batch)
        return jax_state(compiled.as_text())


def wait_for(values: object) -> object:
    """``values``, once they are computed."""
    return jax.block_until_ready(values)  # type: ignore[no-untyped-call]


def jax_state(program: str) -> Json:
    """Settings and versions, and the attention kernel that ``program`` calls."""
    return {
        "settings": runtimes.settings(),
        "versions": runtimes.versions(),
        "attention": "cuDNN flash attention" if "cudnn$fmha" in program else "written out by XLA",
    }


def allow_nondeterminism() -> None:
    """Have XLA choose kernels by speed alone, before ``configure`` asks for deterministic ones.

    A benchmark may do so: its parity check shows whether they are right.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_exclude_nondeterministic_ops=false".strip()


def prepare(job: Job) -> runtimes.Runtime:
    """Configure precision for the job; its process's environment has it keep memory or not."""
    allow_nondeterminism()
    return runtimes.configure(job.dtype, job.device)
