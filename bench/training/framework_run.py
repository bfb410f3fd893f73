"""One framework's half of a training run: its trainer, its metrics and its checkpoints."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from bench.harness.foreign import Array
from bench.harness.frameworks import Framework
from bench.harness.twin_modules import Runtime, Trainer
from bench.training import fine_tuning, metrics
from bench.training.config import RunConfig
from bench.training.fine_tuning import FineTuning
from bench.training.metrics import StepMetrics
from bench.training.setup import Batch, RunSetup
from shared import checkpoint, params
from shared.checkpoint import Progress
from shared.schedule import learning_rate
from shared.train_state import Step, TrainState
from shared.whole import sweep_folder
from shared.world import World
from twingrad.environment import install_command
from twingrad.files import write_bytes


class NonFiniteLoss(Exception):
    """A loss or gradient that is NaN or infinite; says at which step, and where it began."""


class ScalarWriter(Protocol):
    """A writer of TensorBoard's files."""

    def add_scalar(self, name: str, value: float, step: int) -> object:
        """Write one number of one step."""

    def close(self) -> object:
        """Flush and close the file."""


@dataclass(kw_only=True)
class FrameworkRun:
    """One framework's trainer, its folder, and the metrics of its steps.

    ``tuned`` names what was switched on for speed. Of the processes of a run only that of rank 0
    writes.
    """

    framework: Framework
    config: RunConfig
    device: str
    world: World
    folder: Path
    trainer: Trainer
    tuned: list[str]
    rows: list[StepMetrics] = field(default_factory=list)
    writer: ScalarWriter | None = None
    text_loss: FineTuning = field(default_factory=FineTuning)

    @classmethod
    def build(
        cls, framework: Framework, setup: RunSetup, device: str, world: World
    ) -> "FrameworkRun":
        """The half of ``framework``, where the run begins or goes on from."""
        config = setup.config
        runtime = framework.runtime.configure(config.train.dtype, device)
        tuned = framework.runtime.tune(device, config.train.dtype, config.model.emb_dim)
        return cls(
            framework=framework,
            config=config,
            device=device,
            world=world,
            folder=setup.out / framework.name,
            trainer=_trainer(framework, setup, runtime),
            tuned=tuned,
        )

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.folder / "checkpoints"

    @property
    def best(self) -> int | None:
        """The step of the checkpoint with the lowest validation loss, if one was validated."""
        return metrics.best(self.rows, checkpoint.steps(self.checkpoints))

    def open(self, tensorboard: bool) -> str:
        """Make the folder, with the metrics up to the step that the run goes on from.

        Where checkpoints after that step have been there and are gone, so that more is trained
        again than a kill costs, the metrics until now are kept beside; the sentence says where.
        """
        self.folder.mkdir(exist_ok=True)
        sweep_folder(self.folder)
        if self.checkpoints.is_dir():
            checkpoint.sweep(self.checkpoints)
        path, step, kept = self.folder / metrics.FILE, self.trainer.steps, ""
        rows = metrics.read(path, None)
        self.rows = [row for row in rows if row.step <= step]
        if rows and rows[-1].step > step + self.config.checkpoint_every:
            kept = (
                f"Steps {step + 1:,} to {rows[-1].step:,} are trained again, as their checkpoints "
                f"are gone; the metrics until now are kept in {metrics.keep(path)}"
            )
        write_bytes(path, metrics.lines(self.rows).encode())
        self.text_loss = FineTuning.read(self.folder)
        if tensorboard:
            self.writer = _tensorboard(self.folder / "tensorboard")
        return kept

    def close(self) -> None:
        """Close TensorBoard's files."""
        if self.writer is not None:
            self.writer.close()

    def advance(self, step: int, inputs: Array, targets: Array) -> StepMetrics:
        """Take ``step``; raises ``NonFiniteLoss``, before anything is updated."""
        began = time.perf_counter()
        taken = self.trainer.step(inputs, targets)
        # Reading both waits for the device: until then the step has only been begun.
        is_finite = math.isfinite(taken.loss) and math.isfinite(taken.grad_norm)
        seconds = time.perf_counter() - began
        if not is_finite:
            raise NonFiniteLoss(self._diagnosis(step, taken, inputs, targets))
        return StepMetrics(
            step=step,
            loss=taken.loss,
            grad_norm=taken.grad_norm,
            lr=float(learning_rate(step - 1, self.config.train.optimizer)),
            tokens_per_s=round(inputs.size * self.world.size / seconds, 1),
            peak_bytes=self.framework.runtime.peak_memory(self.device),
        )

    def validated(self, row: StepMetrics, batches: Sequence[Batch], targets: int) -> StepMetrics:
        """``row`` with the mean cross-entropy in nats over ``batches``, of so many ``targets``.

        Raises ``NonFiniteLoss`` where that is no number.
        """
        loss = self.mean_loss(batches, targets)
        if not math.isfinite(loss):
            raise NonFiniteLoss(
                f"at step {row.step} in {self.framework.name}: after its update the validation "
                f"loss is {loss:.4g}; {self._origin(batches)}. {self._last_kept()}"
            )
        return replace(row, val_loss=loss)

    def mean_loss(self, batches: Iterable[Batch], targets: int) -> float:
        """The mean cross-entropy in nats over ``batches``, of so many ``targets``."""
        return sum(float(self.trainer.evaluate(*batch)) for batch in batches) / targets

    def text_losses(self, setup: RunSetup) -> fine_tuning.Losses:
        """The validation loss on the run's own text and on that of the run it began from."""
        losses = {fine_tuning.NEW: self.mean_loss(setup.validation, setup.validation_targets)}
        if (old := setup.old_text) is not None:
            losses[fine_tuning.OLD] = self.mean_loss(old.batches, old.targets)
        return losses

    def log(self, row: StepMetrics) -> None:
        """Add a line to the metrics."""
        self.rows.append(row)
        if self.world.rank:
            return
        path = self.folder / metrics.FILE
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(metrics.lines([row]))
        except OSError as error:
            raise ValueError(
                f"cannot write {path}: {error.strerror}: free space, then --resume"
            ) from None
        if self.writer is not None:
            for name, value in row.to_json().items():
                if name != "step":
                    self.writer.add_scalar(name, value, row.step)

    def save(self, progress: Progress, advance: Callable[[], None]) -> Path:
        """Write a checkpoint from what every process has of it, and return its path.

        Raises ``NonFiniteLoss`` instead where a tensor has NaN or infinity.

        No process ever holds it whole: tensors are put together one at a time, and all take part.
        ``advance`` is called at each.
        """
        tensors = self._each(advance)
        if self.world.rank == 0:
            try:
                return checkpoint.save_each(self.checkpoints, progress, tensors)
            except checkpoint.NotFinite as error:
                name = self.framework.name
                raise NonFiniteLoss(
                    f"at step {progress.step} in {name}: after its update {error}. "
                    f"{self._last_kept()}"
                ) from None
        for _ in tensors:
            pass
        return self.checkpoints / f"step-{progress.step:06d}"

    def _each(self, advance: Callable[[], None]) -> Iterator[checkpoint.Tensor]:
        for tensor in self.trainer.export_each():
            advance()
            yield tensor

    def _diagnosis(self, step: int, taken: Step, inputs: Array, targets: Array) -> str:
        """The step at which a number was not finite, and the tensor in which that began."""
        begins = self._origin(list(zip(inputs, targets, strict=True)))
        return (
            f"at step {step} in {self.framework.name}: the loss is {taken.loss:.4g} and the "
            f"gradients' norm {taken.grad_norm:.4g}; {begins}. "
            f"Nothing was updated. {self._last_kept()}"
        )

    def _last_kept(self) -> str:
        """The checkpoint to go back to, and what to change then."""
        saved = checkpoint.steps(self.checkpoints)
        last = (
            f"The last checkpoint is {self.checkpoints}/step-{saved[-1]:06d}"
            if saved
            else "No checkpoint had been written"
        )
        return f"{last}. A smaller --learning-rate or more --warmup often helps."

    def _origin(self, batches: Sequence[Batch]) -> str:
        """A clause that names the tensor in which the first number was not finite."""
        if self.world.size > 1:  # each process sees its own rows, and perhaps a part of the model
            return "to be told in which tensor that began, resume it in one process"
        where = self._first_not_finite(batches)
        return f"it began in {where or 'dropout, without which all is finite'}"

    def _first_not_finite(self, batches: Sequence[Batch]) -> str | None:
        """The first tensor that holds NaN or infinity: a parameter, or the first of a pass."""
        for part, name, value in self.trainer.export_each():
            if part == "params" and not np.isfinite(value).all():
                return f"the parameter {name}"
        model = self.trainer.computing_model()
        for batch in batches:
            observed = self.framework.trace.observe(
                model, self.framework.gpt2.loss_fn, batch, self.trainer.runtime
            )
            ordered = [
                *(
                    (f"the activation {name}", value)
                    for name, value in observed.activations.items()
                ),
                ("the loss", observed.loss),
                *(
                    (f"the gradient at {name}", value)
                    for name, value in reversed(observed.activation_gradients.items())
                ),
                *((f"the gradient of {name}", value) for name, value in observed.gradients.items()),
            ]
            for name, value in ordered:
                if not np.isfinite(value).all():
                    return name
        return None


def _trainer(framework: Framework, setup: RunSetup, runtime: Runtime) -> Trainer:
    """The trainer of ``framework``, at the step that the run goes on from."""
    config, newest = setup.config, setup.checkpoints.get(framework.name)
    if newest is not None:
        start = dict(newest.checkpoint.params)
    else:
        start = setup.initial or params.init_gpt2(config.model, config.train.seed)
    model = framework.params.build(
        lambda: framework.make_gpt2(config.model, recompute=config.train.recompute),
        start,
        runtime.master,
    )
    trainer = framework.train.Trainer(model, config.train, runtime)
    if newest is not None:
        stored = newest.checkpoint
        moments = (stored.first_moment, stored.second_moment)
        trainer.restore(TrainState(stored.step, stored.params, *moments))
    return trainer


def _tensorboard(folder: Path) -> ScalarWriter:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ValueError(
            f"--tensorboard needs tensorboardX: {install_command('tensorboard')}"
        ) from None
    writer: ScalarWriter = SummaryWriter(str(folder))
    return writer
