"""One framework's half of a training run: its trainer, and what it leaves in the run's folder."""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.frameworks import Framework
from bench.training import config as training_config
from bench.training import run_folder, setup
from bench.training.setup import Beginning
from shared import checkpoint, files
from shared.checkpoint import Progress
from shared.schedule import learning_rate
from shared.train_state import Step
from shared.world import World


class Stopped(Exception):
    """A run that cannot go on; says at which step, and where it began."""


@dataclass(kw_only=True)
class Twin:
    """One framework's trainer, its folder, and what it has measured.

    Of the processes of a run only that of rank 0 writes.
    """

    side: Framework
    config: training_config.RunConfig
    device: str
    world: World
    folder: Path
    trainer: Any
    tuned: list[str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    writer: Any = None

    @classmethod
    def build(cls, side: Framework, start: Beginning, device: str, world: World) -> "Twin":
        """The half of ``side``, where the run begins or goes on from."""
        trainer, tuned = setup.build(side, start, device)
        return cls(
            side=side,
            config=start.config,
            device=device,
            world=world,
            folder=start.out / side.name,
            trainer=trainer,
            tuned=tuned,
        )

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.folder / "checkpoints"

    def open(self, tensorboard: bool) -> None:
        """Its folder, with the metrics up to the step that the run goes on from."""
        self.folder.mkdir(exist_ok=True)
        self.rows = run_folder.read_metrics(self.folder / run_folder.METRICS, self.trainer.steps)
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        files.write_bytes(self.folder / run_folder.METRICS, lines.encode())
        if tensorboard:
            self.writer = _tensorboard(self.folder / "tensorboard")

    def close(self) -> None:
        """Nothing is left open."""
        if self.writer is not None:
            self.writer.close()

    def advance(self, step: int, inputs: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        """Take ``step``; a row of the metrics, or ``Stopped`` where it goes wrong."""
        began = time.perf_counter()
        made: Step = self.trainer.step(inputs, targets)
        seconds = time.perf_counter() - began
        if not (math.isfinite(made.loss) and math.isfinite(made.grad_norm)):
            raise Stopped(self._diagnosis(step, made, inputs, targets))
        return {
            "step": step,
            "loss": made.loss,
            "grad_norm": made.grad_norm,
            "lr": float(learning_rate(step - 1, self.config.train.optimizer)),
            "tokens_per_s": round(inputs.size * self.world.size / seconds, 1),
            "peak_bytes": self.side.runtime.peak_memory(self.device),
        }

    def validate(self, batches: Iterable[tuple[np.ndarray, np.ndarray]], count: int) -> float:
        """Mean cross-entropy in nats over ``batches``, in which ``count`` targets count."""
        return sum(float(self.trainer.evaluate(*batch)) for batch in batches) / count

    def log(self, row: dict[str, Any]) -> None:
        """One more line of the metrics."""
        self.rows.append(row)
        if self.world.rank:
            return
        path = self.folder / run_folder.METRICS
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise ValueError(
                f"cannot write {path}: {error.strerror}: free space, then --resume"
            ) from None
        if self.writer is not None:
            for name in row.keys() - {"step"}:
                self.writer.add_scalar(name, row[name], row["step"])

    def save(self, progress: Progress, advance: Callable[[], None]) -> Path:
        """Write a checkpoint from what every process has of it, and return its path.

        No process ever holds it whole: tensors are put together one at a time, and all take part.
        ``advance`` is called at each.
        """
        tensors = self._each(advance)
        if self.world.rank == 0:
            return checkpoint.save_each(self.checkpoints, progress, tensors)
        for _ in tensors:
            pass
        return self.checkpoints / f"step-{progress.step:06d}"

    def _each(self, advance: Callable[[], None]) -> Iterator[checkpoint.Tensor]:
        for tensor in self.trainer.export_each():
            advance()
            yield tensor

    def _diagnosis(self, step: int, made: Step, inputs: np.ndarray, targets: np.ndarray) -> str:
        """At which step and in which tensor the first number went that is none."""
        kept = checkpoint.steps(self.checkpoints)
        last = (
            f"the last checkpoint is {self.checkpoints}/step-{kept[-1]:06d}"
            if kept
            else "no checkpoint had been written"
        )
        return (
            f"at step {step} in {self.side.name}: the loss is {made.loss:.4g} and the "
            f"gradients' norm {made.grad_norm:.4g}; {self._origin(inputs, targets)}. Nothing was "
            f"updated, and {last}. A smaller --learning-rate or more --warmup often helps."
        )

    def _origin(self, inputs: np.ndarray, targets: np.ndarray) -> str:
        """Where the first number went that is none."""
        if self.world.size > 1:  # each process sees its own rows, and perhaps a part of the model
            return "to be told in which tensor that began, resume it in one process"
        where = self._first_not_finite(inputs, targets)
        return f"it began in {where or 'dropout, without which all is finite'}"

    def _first_not_finite(self, inputs: np.ndarray, targets: np.ndarray) -> str | None:
        """The first tensor of a pass, in the order of computation, that holds NaN or infinity."""
        model = self.trainer.computing_model()
        runtime = self.trainer.runtime
        for batch in zip(inputs, targets, strict=True):
            seen = self.side.trace.observe(model, self.side.gpt2.loss_fn, batch, runtime)
            ordered = [
                *((f"the activation {name}", value) for name, value in seen.activations.items()),
                ("the loss", seen.loss),
                *(
                    (f"the gradient at {name}", value)
                    for name, value in reversed(seen.activation_gradients.items())
                ),
                *((f"the gradient of {name}", value) for name, value in seen.gradients.items()),
            ]
            for name, value in ordered:
                if not np.isfinite(value).all():
                    return name
        return None


def _tensorboard(folder: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ValueError(
            "--tensorboard needs tensorboardX: pip install 'twingrad[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder))
