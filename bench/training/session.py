"""A training session: one process's loop over steps, from its run folder to its summary."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from bench.harness import frameworks, terminal
from bench.harness.frameworks import Framework
from bench.training import curves, metrics, processes, run_folder
from bench.training.framework_run import FrameworkRun
from bench.training.metrics import StepMetrics
from bench.training.run_lock import RunLock
from bench.training.setup import RunSetup, TrainOptions
from shared import checkpoint, corpus, params
from shared.rendezvous import Rendezvous
from shared.schedule import learning_rate
from twingrad.environment import install_command
from twingrad.files import write_json

# Steps after which the time for the rest is estimated; the first of them compiles.
_TIMED_STEPS = 10


def require_device(dtype: str | None, device: str) -> None:
    """``ValueError`` where ``device`` has no such ``dtype``."""
    if dtype == "tf32" and device != "cuda":
        raise ValueError("dtype tf32 needs a cuda device: TF32 is a mode of NVIDIA's GPUs")


@dataclass(kw_only=True)
class Session:
    """Training in this process: the setup, one or two frameworks' runs, and the step they are at.

    ``train`` takes steps until the end; with several processes, ``meeting`` keeps them abreast.
    """

    setup: RunSetup
    runs: list[FrameworkRun]
    meeting: Rendezvous
    console: Console
    step: int

    @classmethod
    def begin(
        cls,
        options: TrainOptions,
        setup: RunSetup,
        chosen: Sequence[Framework],
        device: str,
        meeting: Rendezvous,
        lock: RunLock,
        console: Console,
    ) -> "Session":
        """Build everything; nothing is written before all of it is there."""
        require_device(setup.config.train.dtype, device)
        runs = [FrameworkRun.build(one, setup, device, meeting.world) for one in chosen]
        step = runs[0].trainer.steps
        session = cls(setup=setup, runs=runs, meeting=meeting, console=console, step=step)
        if meeting.world.rank == 0:
            session.write_folder(lock, options.tensorboard)
            for stored in setup.checkpoints.values():
                meeting.keep(str(stored.path))
        session.describe()
        return session

    def write_folder(self, lock: RunLock, tensorboard: bool) -> None:
        """Write the run folder, with all that is known before the first step.

        The configuration comes last: a folder without it holds no run, and one can be begun there.
        """
        setup = self.setup
        try:
            setup.out.mkdir(parents=True, exist_ok=True)
            lock.take()
            if not setup.is_begun and (setup.out / run_folder.CONFIG).exists():
                raise ValueError(
                    f"another training has begun in {setup.out} meanwhile: choose another --out"
                )
            write_json(setup.out / run_folder.TOKENIZER, setup.tokenizer.to_json())
            for run in self.runs:
                if kept := run.open(tensorboard):
                    self._print(kept)
            about = setup.corpus.description | {"unigram_nats": setup.unigram}
            run_folder.write(setup.out, setup.config, about, self.step)
        except OSError as error:
            raise ValueError(
                f"cannot write {setup.out}: {error.strerror}: choose another --out"
            ) from None

    def describe(self) -> None:
        """Print which model is trained on which data, and what was switched on for it."""
        setup, config, about = self.setup, self.setup.config, self.setup.corpus.description
        count = params.count(params.gpt2_shapes(config.model))
        names = " and ".join(terminal.NAMES[run.framework.name] for run in self.runs)
        from_step = f" from step {self.step}" if self.step else ""
        self._print(
            f"GPT-2 {config.preset}, {count:,} parameters, in {names}, {config.train.dtype}, "
            f"{config.train.dropout} dropout {config.model.drop_rate}: steps to "
            f"{setup.until:,} of {config.steps:,}{from_step}, "
            f"{config.train.batch_size} x {config.length} tokens each"
        )
        self._print(
            f"{about.get('name', config.data)}: {len(setup.corpus.train):,} tokens to train on, "
            f"{len(setup.corpus.validation):,} to validate with; the run is in {setup.out}"
        )
        if setup.earlier_steps is not None:
            self._print(self._described_horizon(setup.earlier_steps))
        tuned = [
            f"{terminal.NAMES[run.framework.name]}: {', '.join(run.tuned)}"
            for run in self.runs
            if run.tuned
        ]
        if tuned:
            self.console.print(f"Switched on for speed: {'; '.join(tuned)}", soft_wrap=True)
        if self.meeting.world.size > 1:
            self.console.print(processes.described(config.train), soft_wrap=True)

    def _described_horizon(self, earlier: int) -> str:
        """What another length of the run does to its learning rate."""
        optimizer = self.setup.config.train.optimizer
        before = replace(optimizer, total_steps=earlier)
        rates = [float(learning_rate(self.step, config)) for config in (before, optimizer)]
        schedule = "longer" if optimizer.total_steps > earlier else "shorter"
        return (
            f"The run is of {optimizer.total_steps:,} steps now, and was of {earlier:,}: from step "
            f"{self.step + 1:,} on the learning rate follows the {schedule} schedule, and is "
            f"{rates[1]:.3g} there instead of {rates[0]:.3g}"
        )

    def train(self, interrupted: Callable[[], bool]) -> None:
        """Take steps until the end, the stop that was asked for, or an interruption."""
        if self.step >= self.setup.until:
            self.console.print(f"Nothing to do: the run is at step {self.step}.")
            self.prune()  # a kill may have come in between
            return
        is_last, first = False, self.step
        self._say_what_compiles()
        self.measure_texts()
        with _progress(self.console) as bar:
            task = bar.add_task("", total=self.setup.until, completed=self.step, metrics="")
            while not is_last:
                try:
                    rows, is_last = self._advance(interrupted)
                except corpus.ChangedFile as error:
                    raise ValueError(f"{error}{self._saved_before(first)}") from None
                for run, row in zip(self.runs, rows, strict=True):
                    run.log(row)
                if self.step % self.setup.config.checkpoint_every == 0 or is_last:
                    self.save()
                self.show(bar, task, rows)
                if self.step == first + _TIMED_STEPS and not is_last:
                    self._print(self._estimate())
        self.measure_texts(at_end=True)
        if self.meeting.world.rank == 0:
            measured = self.runs[0].text_loss.measured(self.step)
            curves.draw(self.setup.out, self.curves(), measured, self._title())
        self.summary()

    def _saved_before(self, first: int) -> str:
        """Save the steps since ``first``, where this process can alone; a clause that says so."""
        again = (
            f", then go on with twingrad train --out {shlex.quote(str(self.setup.out))} --resume"
        )
        if self.step == first or self.meeting.world.size > 1:
            return again
        self.save()
        return f"{again} from step {self.step}"

    def _say_what_compiles(self) -> None:
        """Tell of the wait before the first step, which a program is compiled for."""
        compiling = [
            terminal.NAMES[run.framework.name]
            for run in self.runs
            if run.framework.name == "jax" or self.setup.config.train.compile
        ]
        if compiling:
            self._print(f"Compiling in {' and '.join(compiling)} before the first step")

    def _title(self) -> str:
        """What the plot of losses shows."""
        config = self.setup.config
        origin = f", fine-tuned from {config.init}" if config.init is not None else ""
        data = self.setup.corpus.description.get("name", config.data)
        return f"GPT-2 {config.preset}{origin}: {self.step:,} steps on {data}"

    def measure_texts(self, *, at_end: bool = False) -> None:
        """Of a fine-tuning: the loss on both texts, before it begins or at its end."""
        if self.setup.config.init is None or (self.step and not at_end):
            return
        for run in self.runs:
            losses = run.text_losses(self.setup)
            if at_end:
                run.text_loss.after = losses
            else:
                run.text_loss.before = losses
            if self.meeting.world.rank == 0:
                run.text_loss.write(run.folder)

    def _estimate(self) -> str:
        """How long the rest of the run takes at the pace of the last steps."""
        config, left = self.setup.config, self.setup.until - self.step
        tokens = config.train.batch_size * config.length
        seconds = sum(
            tokens / float(np.median([row.tokens_per_s for row in run.rows[-_TIMED_STEPS + 1 :]]))
            for run in self.runs
        )
        return f"About {seconds * left / 60:.1f} minutes for the {left:,} steps that are left"

    def _advance(self, interrupted: Callable[[], bool]) -> tuple[list[StepMetrics], bool]:
        """Take the next step: the metrics of each framework, and whether it is the last."""
        setup = self.setup
        inputs, targets = next(setup.loader)
        self.step += 1
        self.meeting.begin(self.step)
        rows = [run.advance(self.step, inputs, targets) for run in self.runs]
        stops = self.meeting.ends_after(self.step, interrupted())
        is_last = stops or self.step == setup.until
        if self.step % setup.config.eval_every == 0 or is_last:
            rows = [
                run.validated(row, setup.validation, setup.validation_targets)
                for run, row in zip(self.runs, rows, strict=True)
            ]
        return rows, is_last

    def save(self) -> None:
        """Write a checkpoint of every framework, then delete the old ones."""
        config, seed = self.setup.config, self.setup.config.train.seed
        for run in self.runs:
            path = run.save(
                checkpoint.Progress(
                    step=self.step,
                    model=config.model,
                    train=config.train,
                    framework=run.framework.name,
                    data=self.setup.loader.state(),
                    tokenizer=self.setup.tokenizer.to_json(),
                    random={
                        "generator": "threefry2x32",
                        "seed": seed,
                        "step": self.step,
                        "dropout": config.train.dropout,
                    },
                    extra={"preset": config.preset, "corpus": self.setup.corpus.description},
                ),
                self.meeting.advance,
            )
            if self.meeting.world.rank == 0:
                self.meeting.keep(str(path))
        self.prune()

    def prune(self) -> None:
        """Delete the old checkpoints of every framework."""
        if self.meeting.world.rank:
            return
        for run in self.runs:
            best = run.best
            kept = () if best is None else (best,)
            checkpoint.prune(run.checkpoints, self.setup.config.keep, kept)

    def curves(self) -> Mapping[str, Sequence[StepMetrics]]:
        """Every framework's metrics in this folder, also of the one that the run began in."""
        rows = {run.framework.name: run.rows for run in self.runs}
        for name in frameworks.NAMES:
            path = self.setup.out / name / metrics.FILE
            if name not in rows and path.exists():
                rows[name] = metrics.read(path, self.step)
        return rows

    def show(self, bar: Progress, task: TaskID, rows: Sequence[StepMetrics]) -> None:
        """Update the progress bar; without a terminal, print a line at each validation."""
        bar.update(task, completed=self.step, metrics=self._progress_of(rows, _in_three_digits))
        losses = [f"{row.val_loss:.4f}" for row in rows if row.val_loss is not None]
        if not self.console.is_terminal and losses:
            text = self._progress_of(rows, "{:,.0f}".format)
            self.console.print(
                f"step {self.step:,}: {text}  validation {', '.join(losses)}", soft_wrap=True
            )

    def _progress_of(self, rows: Sequence[StepMetrics], shown: Callable[[float], str]) -> str:
        """Every framework's loss and rate; ``shown`` turns tokens a second into text."""
        return "  ".join(
            f"{terminal.NAMES[run.framework.name]} {row.loss:.4f}, "
            f"{shown(row.tokens_per_s)} tokens/s"
            for run, row in zip(self.runs, rows, strict=True)
        )

    def summary(self) -> None:
        """Print the last step's metrics, and how to go on where the run is not at its end."""
        columns = ("step", "loss", "validation", "tokens/s", "peak memory")
        table = terminal.table("", *columns, right=columns)
        for run in self.runs:
            last = run.rows[-1]
            table.add_row(
                terminal.NAMES[run.framework.name],
                f"{last.step:,}",
                f"{last.loss:.4f}",
                f"{last.val_loss:.4f}",
                f"{np.median([row.tokens_per_s for row in run.rows]):,.0f}",
                f"{(last.peak_bytes or 0) / 1e9:.2f} GB",
            )
        self.console.print(table)
        yardstick = self.setup.corpus.description.get("entropy_rate")
        known = f"; the source's entropy rate is {yardstick:.4f}" if yardstick else ""
        self.console.print(
            f"In nats per token; predicting by frequency alone has {self.setup.unigram:.4f}{known}."
        )
        if len(self.runs) == 2:
            apart = curves.apart(*(run.rows for run in self.runs))
            self.console.print(f"The two loss curves are at most {apart:.1e} apart, relatively.")
        if self.step < self.setup.config.steps:
            self._print(
                f"Stopped at step {self.step} of {self.setup.config.steps}; go on with "
                f"twingrad train --out {self.setup.out} --resume"
            )
        for run in self.runs:
            if run.text_loss.before:
                self._print(f"{terminal.NAMES[run.framework.name]}: {run.text_loss}")
        self._print(f"Curves in {self.setup.out / run_folder.PLOT}")
        self._print_next()

    def _print_next(self) -> None:
        """Print where the files are, and the commands that a newcomer may type next."""
        out, run = shlex.quote(str(self.setup.out)), self.runs[0]
        best = f"; step {run.best:,} is the best by validation" if run.best is not None else ""
        self._print(
            f"Checkpoints in {run.checkpoints}, metrics in {run.folder / metrics.FILE}{best}"
        )
        if run.writer is not None:
            self._print(f"See the metrics:   tensorboard --logdir {out}")
        elif find_spec("tensorboardX") is None:
            install = install_command("tensorboard")
            self._print(f"TensorBoard:       {install}, then train --tensorboard")
        self._print(f"Write text:        twingrad sample --checkpoint {out} --prompt 'class'")
        if self.step >= self.setup.config.steps:
            longer = 2 * self.setup.config.steps
            self._print(f"Train for longer:  twingrad train --out {out} --resume --steps {longer}")
        self._print(f"Fine-tune:         twingrad train --init {out} --data FILE_OR_FOLDER")

    def _print(self, text: str) -> None:
        """Print a line that may hold paths and names of others."""
        self.console.print(text, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Close the files of every framework's run."""
        for run in self.runs:
            run.close()


def _in_three_digits(rate: float) -> str:
    """A rate in at most five characters: 950, 14.8k, 1.05M."""
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if rate >= 0.9995 * factor:
            return f"{rate / factor:#.3g}".rstrip(".") + unit
    return f"{rate:.0f}"


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[metrics]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        disable=not console.is_terminal,
    )
