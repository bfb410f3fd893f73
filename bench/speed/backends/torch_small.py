"""The neuron and SimpleNet in PyTorch: eager, compiled, or replayed as one CUDA graph."""

import torch
from torch import Tensor

from bench.harness import frameworks, programs
from bench.speed.backends.backend import Job
from bench.speed.backends.torch_loop import TorchWaits, prepare
from bench.speed.foreign import Array, Loss
from bench.speed.json_form import Json
from shared.params import Params
from torch_impl.params import export_tensors, import_tensors


class Backend(TorchWaits):
    """SGD, batch after batch, where arithmetic costs nothing and calls cost everything."""

    def __init__(self, job: Job, params: Params):
        self.job, self.settings = job, job.contestant.settings
        self.runtime = prepare(job)
        program = programs.make(job.program, steps=1)
        framework = frameworks.one("torch")
        self.model = program.build(framework, self.runtime, params)
        self.loss_fn = program.loss_fn(framework)
        rate = job.optimizer.learning_rate
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=rate)
        compiled = self.settings.compiled != "none"
        self._loss = torch.compile(self._loss_of) if compiled else self._loss_of
        self._graph: torch.cuda.CUDAGraph | None = None

    def _loss_of(self, x: Tensor, y: Tensor) -> Loss:
        return self.loss_fn(self.model, x, y)[0]

    def put(self, inputs: Array, targets: Array) -> tuple[Tensor, ...]:
        """A batch on the device."""
        return self.runtime.batch(inputs, targets)

    def train(self, batch: tuple[Tensor, ...]) -> Loss:
        """One step."""
        if self.settings.graphs:
            return self._replayed(batch)
        return self._step(*batch)

    def _step(self, x: Tensor, y: Tensor) -> Loss:
        self.optimizer.zero_grad()
        loss = self._loss(x, y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _replayed(self, batch: tuple[Tensor, ...]) -> Loss:
        """The step as one CUDA graph, captured at the first call, after three on a side stream."""
        if self._graph is None:
            self._inputs = tuple(part.clone() for part in batch)
            start = {name: p.detach().clone() for name, p in self.model.named_parameters()}
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self._step(*self._inputs)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._captured = self._step(*self._inputs)
            with torch.no_grad():
                for name, p in self.model.named_parameters():
                    p.copy_(start[name])
        for held, part in zip(self._inputs, batch, strict=True):
            held.copy_(part)
        self._graph.replay()
        return self._captured

    def gradients(self) -> Params:
        """The gradients that ``backward`` left on the parameters."""
        named = self.model.named_parameters()
        return export_tensors(self.model, {name: p.grad for name, p in named})

    def first_step(self, batch: tuple[Tensor, ...]) -> tuple[float, Params, bool]:
        """SGD clips nothing, so the gradients are still there after the update."""
        return self.wait(self.train(batch)), self.gradients(), False

    def reset(self, params: Params) -> None:
        """Back to ``params``."""
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, value in import_tensors(self.model, params, self.runtime).items():
                own[name].copy_(value)

    def state(self) -> Json:
        """Switches as PyTorch reports them."""
        from torch_impl import runtime as runtimes

        return {"settings": runtimes.settings(), "versions": runtimes.versions(), "attention": ""}
