"""The neuron and SimpleNet in JAX: operation by operation, by ``nnx.jit``, or by ``jax.jit``."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from bench.harness import frameworks, programs
from bench.speed.backends.backend import Job
from bench.speed.backends.jax_loop import prepare, wait_for
from bench.speed.foreign import Array as NPArray
from bench.speed.foreign import Loss
from bench.speed.json_form import Json
from jax_impl.optim import Optimizer
from jax_impl.params import export_tensors, import_tensors
from jax_impl.train import train_step
from shared.params import Params


class Backend:
    """SGD, batch after batch, where arithmetic costs nothing and calls cost everything."""

    def __init__(self, job: Job, params: Params):
        self.job, self.settings = job, job.contestant.settings
        self.runtime = prepare(job)
        program = programs.make(job.program, steps=1)
        framework = frameworks.one("jax")
        self.model = program.build(framework, self.runtime, params)
        self.loss_fn = program.loss_fn(framework)
        self.optimizer = Optimizer(self.model, job.optimizer)
        self.start = params
        self._last: tuple[Array, ...] = ()
        self._split() if self.settings.split else self._plain()

    def _plain(self) -> None:
        step = partial(train_step, loss_fn=self.loss_fn)
        jitted = nnx.jit(train_step, static_argnames="loss_fn")

        def train(*batch: Array) -> Loss:
            if self.settings.compiled == "none":
                return step(self.model, self.optimizer, batch=batch)
            return jitted(self.model, self.optimizer, loss_fn=self.loss_fn, batch=batch)

        self._train = train

    def _split(self) -> None:
        graphdef, state = nnx.split((self.model, self.optimizer))
        self._state = jax.tree.map(jnp.copy, state)
        donated = {"donate_argnums": 0} if self.settings.donate else {}

        @partial(jax.jit, **donated)
        def step(state: nnx.State, *batch: Array) -> tuple[nnx.State, Array]:
            model, optimizer = nnx.merge(graphdef, state)
            loss = train_step(model, optimizer, self.loss_fn, batch)
            return nnx.state((model, optimizer)), loss

        def train(*batch: Array) -> Loss:
            self._state, loss = step(self._state, *batch)
            return loss

        self._train = train

    def put(self, inputs: NPArray, targets: NPArray) -> tuple[Array, ...]:
        """A batch on the device."""
        return self.runtime.batch(inputs, targets)

    def train(self, batch: tuple[Array, ...]) -> Loss:
        """One step."""
        self._last = batch
        return self._train(*batch)

    def wait(self, loss: Loss) -> float:
        """The loss on the host."""
        wait_for(self._current())
        return float(loss)

    def gradients(self) -> Params:
        """The gradients at the start, on the last batch; the compiled step returns none."""
        model = nnx.clone(self.model)
        nnx.update(model, import_tensors(model, self.start, self.runtime))
        found = nnx.grad(self.loss_fn, has_aux=True)(model, *self._last)[0]
        return export_tensors(found)

    def first_step(self, batch: tuple[Array, ...]) -> tuple[float, Params, bool]:
        """One step."""
        return self.wait(self.train(batch)), self.gradients(), False

    def reset(self, params: Params) -> None:
        """Back to ``params``."""
        nnx.update(self.model, import_tensors(self.model, params, self.runtime))
        if self.settings.split:
            self._state = jax.tree.map(jnp.copy, nnx.state((self.model, self.optimizer)))

    def state(self) -> Json:
        """Switches as JAX reports them."""
        from jax_impl import runtime as runtimes

        return {"settings": runtimes.settings(), "versions": runtimes.versions(), "attention": ""}

    def _current(self) -> nnx.State:
        return self._state if self.settings.split else nnx.state(self.model)
