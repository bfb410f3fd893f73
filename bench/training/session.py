"""One training session: the loop over steps of one process."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

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
from bench.training import curves, processes, run_folder
from bench.training.framework_run import Twin
from bench.training.setup import Asked, Beginning
from shared import checkpoint, params
from shared.rendezvous import Rendezvous

# A run


@dataclass(kw_only=True)
class Session:
    """A run in this process: one loader, one or two twins, the folder they write to."""

    start: Beginning
    twins: list[Twin]
    meeting: Rendezvous
    console: Console
    step: int

    @classmethod
    def begin(
        cls,
        asked: Asked,
        start: Beginning,
        chosen: Sequence[Framework],
        device: str,
        meeting: Rendezvous,
        console: Console,
    ) -> "Session":
        """Build everything; nothing is written before all of it is there."""
        if start.config.train.dtype == "tf32" and device != "cuda":
            raise ValueError("dtype tf32 needs a cuda device: TF32 is a mode of NVIDIA's GPUs")
        twins = [Twin.build(side, start, device, meeting.world) for side in chosen]
        step = twins[0].trainer.steps
        session = cls(start=start, twins=twins, meeting=meeting, console=console, step=step)
        if meeting.world.rank == 0:
            session.write_folder(asked)
            for found in start.found.values():
                meeting.keep(str(found.path))
        session.describe()
        return session

    def write_folder(self, asked: Asked) -> None:
        """The run folder, with all that is known before the first step."""
        start = self.start
        about = start.corpus.description | {"unigram_nats": start.unigram}
        try:
            start.out.mkdir(parents=True, exist_ok=True)
            description = {"run": asdict(start.config), "corpus": about}
            run_folder.write_json(start.out / run_folder.CONFIG, description)
            run_folder.write_json(start.out / run_folder.TOKENIZER, start.tokenizer.to_json())
            for twin in self.twins:
                twin.open(asked.tensorboard)
        except OSError as error:
            raise ValueError(
                f"cannot write {start.out}: {error.strerror}: choose another --out"
            ) from None

    def describe(self) -> None:
        """What is about to be trained on what, and what was switched on for it."""
        start, config, about = self.start, self.start.config, self.start.corpus.description
        count = params.count(params.gpt2_shapes(config.model))
        names = " and ".join(terminal.NAMES[twin.side.name] for twin in self.twins)
        from_step = f" from step {self.step}" if self.step else ""
        self.console.print(
            f"GPT-2 {config.preset}, {count:,} parameters, in {names}, {config.train.dtype}, "
            f"{config.train.dropout} dropout {config.model.drop_rate}: steps to "
            f"{start.until:,} of {config.steps:,}{from_step}, "
            f"{config.train.batch_size} x {config.length} tokens each",
            soft_wrap=True,
            markup=False,
        )
        self.console.print(
            f"{about.get('name', config.data)}: {len(start.corpus.train):,} tokens to train on, "
            f"{len(start.corpus.validation):,} to validate with; the run is in {start.out}",
            soft_wrap=True,
            markup=False,
        )
        tuned = [
            f"{terminal.NAMES[t.side.name]}: {', '.join(t.tuned)}" for t in self.twins if t.tuned
        ]
        if tuned:
            self.console.print(f"Switched on for speed: {'; '.join(tuned)}", soft_wrap=True)
        if self.meeting.world.size > 1:
            self.console.print(processes.described(config.train), soft_wrap=True)

    def train(self, interrupted: Callable[[], bool]) -> None:
        """Step after step until the end, the stop that was asked for, or an interruption."""
        start, config = self.start, self.start.config
        if self.step >= start.until:
            self.console.print(f"Nothing to do: the run is at step {self.step}.")
            return
        stop = False
        with _progress(self.console) as bar:
            task = bar.add_task("", total=start.until, completed=self.step, figures="")
            while not stop:
                inputs, targets = next(start.loader)
                self.step += 1
                self.meeting.begin(self.step)
                rows = [twin.advance(self.step, inputs, targets) for twin in self.twins]
                asked_to = self.meeting.ends_after(self.step, interrupted())
                stop = asked_to or self.step == start.until
                if self.step % config.eval_every == 0 or stop:
                    for twin, row in zip(self.twins, rows, strict=True):
                        row["val_loss"] = twin.validate(start.validation, start.validated)
                for twin, row in zip(self.twins, rows, strict=True):
                    twin.log(row)
                if self.step % config.checkpoint_every == 0 or stop:
                    self.save()
                self.show(bar, task, rows)
        if self.meeting.world.rank == 0:
            curves.draw(start.out, self.curves())
        self.summary()

    def save(self) -> None:
        """A checkpoint of every framework, and the old ones gone."""
        config, seed = self.start.config, self.start.config.train.seed
        for twin in self.twins:
            path = twin.save(
                checkpoint.Progress(
                    step=self.step,
                    model=config.model,
                    train=config.train,
                    framework=twin.side.name,
                    data=self.start.loader.state(),
                    tokenizer=self.start.tokenizer.to_json(),
                    random={
                        "generator": "threefry2x32",
                        "seed": seed,
                        "step": self.step,
                        "dropout": config.train.dropout,
                    },
                    extra={"preset": config.preset, "corpus": self.start.corpus.description},
                ),
                self.meeting.advance,
            )
            if self.meeting.world.rank == 0:
                self.meeting.keep(str(path))
                checkpoint.prune(twin.checkpoints, config.keep)

    def curves(self) -> dict[str, list[dict[str, Any]]]:
        """Every framework's metrics in this folder, also of the one that the run began in."""
        rows = {twin.side.name: twin.rows for twin in self.twins}
        for name in frameworks.NAMES:
            if name not in rows and (self.start.out / name / run_folder.METRICS).exists():
                rows[name] = run_folder.read_metrics(
                    self.start.out / name / run_folder.METRICS, self.step
                )
        return rows

    def show(self, bar: Progress, task: TaskID, rows: list[dict[str, Any]]) -> None:
        """The progress bar's figures; where there is no terminal, a line at each evaluation."""
        figures = "  ".join(
            f"{terminal.NAMES[twin.side.name]} {row['loss']:.4f}, "
            f"{row['tokens_per_s']:,.0f} tokens/s"
            for twin, row in zip(self.twins, rows, strict=True)
        )
        bar.update(task, completed=self.step, figures=figures)
        if not self.console.is_terminal and "val_loss" in rows[0]:
            losses = ", ".join(f"{row['val_loss']:.4f}" for row in rows)
            self.console.print(
                f"step {self.step:,}: {figures}  validation {losses}", soft_wrap=True
            )

    def summary(self) -> None:
        """How far it went and where that is."""
        table = terminal.table(
            "", "step", "loss", "validation", "tokens/s", "peak memory",
            right=("step", "loss", "validation", "tokens/s", "peak memory"),
        )  # fmt: skip
        for twin in self.twins:
            last = twin.rows[-1]
            pace = np.median([row["tokens_per_s"] for row in twin.rows])
            table.add_row(
                terminal.NAMES[twin.side.name],
                f"{last['step']:,}",
                f"{last['loss']:.4f}",
                f"{last['val_loss']:.4f}",
                f"{pace:,.0f}",
                f"{last['peak_bytes'] / 1e9:.2f} GB",
            )
        self.console.print(table)
        yardstick = self.start.corpus.description.get("entropy_rate")
        known = f"; the source's entropy rate is {yardstick:.4f}" if yardstick else ""
        self.console.print(
            f"In nats per token; predicting by frequency alone has {self.start.unigram:.4f}{known}."
        )
        if len(self.twins) == 2:
            apart = curves.apart(*(twin.rows for twin in self.twins))
            self.console.print(f"The two loss curves are at most {apart:.1e} apart, relatively.")
        if self.step < self.start.config.steps:
            again = f"twingrad train --out {self.start.out} --resume"
            self.console.print(
                f"Stopped at step {self.step} of {self.start.config.steps}; go on with {again}",
                soft_wrap=True,
                markup=False,
            )
        self.console.print(
            f"Curves in {self.start.out / run_folder.PLOT}", soft_wrap=True, markup=False
        )

    def close(self) -> None:
        """Nothing is left open."""
        for twin in self.twins:
            twin.close()


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
