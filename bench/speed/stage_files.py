"""Files of a stage: the parameters and batches that contestants start from, and the references."""

import math
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from bench.harness import frameworks, programs
from bench.harness.terminal import Say
from bench.speed.backends.backend import Job, write_batches
from bench.speed.contestants import Contestant, alone
from bench.speed.foreign import Array
from bench.speed.messages import ComputeReference, Make
from bench.speed.reference import Batch, ReferenceRequest
from bench.speed.scheduler import WorkerHandle
from bench.speed.setup import BenchSetup
from bench.speed.worker_process import Failed
from bench.speed.workloads import FOLLOWING, Stage
from shared import data, params

BATCHES = 8


class ReferenceFailed(Exception):
    """A float64 reference that could not be computed."""


class StageFiles:
    """The files of a stage in a folder, which its processes read."""

    def __init__(
        self,
        setup: BenchSetup,
        stage: Stage,
        folder: Path,
        tell: Say,
        references: Path,
        deadline: float = math.inf,
    ):
        self.setup, self.stage, self.folder, self.tell = setup, stage, folder, tell
        self.references, self.deadline = references, deadline
        self.loss = ""

    def write(self, count: int = BATCHES) -> None:
        """Write parameters and ``count`` batches, and compute the reference of the first two."""
        values, batches = start(self.stage)
        arrays = {name: np.asarray(value, order="C") for name, value in values.items()}
        save_file(arrays, self.folder / "params")
        write_batches(self.folder / "batches", batches[:count])
        # Loss and gradients of every workload that takes batches are judged by one reference.
        self.loss = self.compute_reference(batches=batches[:2])

    def make_request(self, contestant: Contestant) -> Make:
        """The request to build a contestant's model from the files."""
        stage = self.stage
        job = Job(
            contestant=contestant,
            program=stage.program,
            config=stage.config,
            optimizer=stage.optimizer,
            batch_size=stage.batch_size,
            length=stage.length,
            dtype=self.setup.dtype_of(stage),
            device=self.setup.device,
        )
        return Make(job, str(self.folder / "params"), str(self.folder / "batches"), self.loss)

    def compute_reference(
        self, batches: list[Batch] | None = None, prompts: Array | None = None
    ) -> str:
        """The folder of the reference of these batches or prompts, computed unless it is there.

        Raises ``ReferenceFailed``.
        """
        framework = "torch" if frameworks.installed("torch") else "jax"
        request = ReferenceRequest(
            framework=framework,
            program=self.stage.program,
            config=self.stage.config,
            optimizer=self.stage.optimizer,
            dtype=self.setup.dtype_of(self.stage),
            device=self.setup.device,
            batches=tuple(batches) if batches else None,
            prompts=prompts,
            new_tokens=FOLLOWING if prompts is not None else 0,
        )
        folder = self.references / request.digest
        if folder.exists():
            return str(folder)
        self.tell(f"{self.stage.title}: the float64 reference")
        # Renamed once it is whole: whatever ends the call may do so while it is being written.
        unfinished = Path(tempfile.mkdtemp(dir=self.references))
        worker = WorkerHandle(contestant=alone(framework), deadline=self.deadline)
        try:
            worker.start(self.folder)
            worker.ask(ComputeReference(request, str(self.folder / "params"), str(unfinished)))
        except Failed as failure:
            raise ReferenceFailed(str(failure)) from None
        finally:
            worker.end()
        unfinished.rename(folder)
        return str(folder)


def start(stage: Stage) -> tuple[params.Params, list[Batch]]:
    """The parameters and batches that every contestant of a stage starts from."""
    if stage.program != "gpt2":
        program = programs.make(stage.program, steps=BATCHES)
        return program.params, program.batches
    # Spread gains and biases: at ones and zeros, a dropped one would go unnoticed.
    values = params.init_gpt2(stage.config, 0, programs.SPREAD)
    drawn = [
        data.token_batch(stage.config, stage.batch_size, stage.length, seed)
        for seed in range(BATCHES)
    ]
    return values, [data.split_tokens(batch) for batch in drawn]
