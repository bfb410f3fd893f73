"""One call of ``train``: GPT-2 in one framework, or in both in lockstep, in one run folder."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from bench import curves, programs, released, runs, show, sides
from bench.sides import Side
from shared import checkpoint, corpus, params, tokenizer
from shared.checkpoint import Checkpoint
from shared.corpus import Corpus
from shared.loader import Loader, validation_batches
from shared.params import Params
from shared.schedule import learning_rate
from shared.tokenizer import Tokenizer
from shared.training import Step, TrainState, counted

FRAMEWORKS = ("torch", "jax", "both")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A call of ``train``: ``given`` holds the settings that were named, the rest is up to us."""

    framework: str
    given: Mapping[str, Any]
    out: Path | None = None
    resume: bool = False
    stop_after: int | None = None
    device: str = "auto"
    tensorboard: bool = False


class Stopped(Exception):
    """A run that cannot go on; says at which step, and where it began."""


@dataclass(kw_only=True)
class _Twin:
    """One framework's half of a run: its trainer, its folder, and what it has measured."""

    side: Side
    trainer: Any
    folder: Path
    rows: list[dict[str, Any]]
    tuned: list[str]
    writer: Any = None

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"


def run(asked: Asked, console: Console) -> int:
    """Train, and return the exit status: 1 where the loss is not a number, 130 if interrupted.

    Raises ``ValueError`` where the call or an input is wrong.
    """
    names = sides.NAMES if asked.framework == "both" else (asked.framework,)
    chosen = tuple(sides.one(name) for name in names)
    device = sides.pick_device(asked.device, chosen)
    named = asked.given.get("init") or asked.given.get("preset") or "tiny"
    out = asked.out or runs.free_folder(Path(named).name)
    session = _Session.begin(asked, out, chosen, device, console)
    try:
        with _signals() as interrupted:
            session.train(interrupted)
    except Stopped as stop:
        console.print(f"[red]Stopped[/red] {escape(str(stop))}", soft_wrap=True)
        return 1
    finally:
        session.close()
    return 130 if interrupted() and session.step < session.until else 0


# A run


@dataclass(kw_only=True)
class _Session:
    """A run in this process: one loader, one or two trainers, the folder they write to."""

    config: runs.RunConfig
    out: Path
    corpus: Corpus
    tokenizer: Tokenizer
    loader: Loader
    validation: list[tuple[np.ndarray, np.ndarray]]
    twins: list[_Twin]
    console: Console
    device: str
    step: int
    until: int
    unigram: float

    @classmethod
    def begin(
        cls, asked: Asked, out: Path, chosen: Sequence[Side], device: str, console: Console
    ) -> "_Session":
        """Read, check and build everything; nothing is written before all of it is there."""
        exists = (out / runs.CONFIG).exists()
        config, words, start = _resumed(asked, out) if exists else _fresh(asked, out)
        if config.train.dtype == "tf32" and device != "cuda":
            raise ValueError("dtype tf32 needs a cuda device: TF32 is a mode of NVIDIA's GPUs")
        _check_stop(asked.stop_after, config)
        with console.status("reading the data"):
            text = corpus.load(config.data, words, config.model.vocab_size)
        if exists:
            runs.check_data(out, text)
        loader = Loader(
            text.train,
            length=config.length,
            batch_size=config.train.batch_size,
            seed=config.train.seed,
            micro_batches=config.train.micro_batches,
        )
        validation = list(
            validation_batches(
                text.validation,
                length=config.length,
                batch_size=config.train.batch_size // config.train.micro_batches,
                limit=config.eval_batches,
            )
        )
        found = runs.newest(out, chosen, config, console) if exists else {}
        if not found and start is None and config.init is not None:
            start = released.load(config.init, config.preset)[1]  # stopped before a checkpoint
        twins = [_build(side, config, device, out, start, found.get(side.name)) for side in chosen]
        session = cls(
            config=config,
            out=out,
            corpus=text,
            tokenizer=words,
            loader=loader,
            validation=validation,
            twins=twins,
            console=console,
            device=device,
            step=twins[0].trainer.steps,
            until=min(asked.stop_after or config.steps, config.steps),
            unigram=_unigram_nats(text, config.model.vocab_size),
        )
        if found:
            loader.restore(next(iter(found.values())).data)
        session.write_folder(asked)
        session.describe()
        return session

    def write_folder(self, asked: Asked) -> None:
        """The run folder, with all that is known before the first step."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            for twin in self.twins:
                twin.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"cannot write {self.out}: {error.strerror}: choose another --out"
            ) from None
        about = self.corpus.description | {"unigram_nats": self.unigram}
        description = {"run": asdict(self.config), "corpus": about}
        runs.write_json(self.out / runs.CONFIG, description)
        runs.write_json(self.out / runs.TOKENIZER, self.tokenizer.to_json())
        for twin in self.twins:
            twin.rows = runs.read_metrics(twin.folder / runs.METRICS, self.step)
            lines = "".join(json.dumps(row) + "\n" for row in twin.rows)
            params.write_bytes(twin.folder / runs.METRICS, lines.encode())
            if asked.tensorboard:
                twin.writer = _tensorboard(twin.folder / "tensorboard")

    def describe(self) -> None:
        """What is about to be trained on what, and what was switched on for it."""
        config, about = self.config, self.corpus.description
        count = params.count(params.gpt2_shapes(config.model))
        names = " and ".join(show.NAMES[twin.side.name] for twin in self.twins)
        from_step = f" from step {self.step}" if self.step else ""
        self.console.print(
            f"GPT-2 {config.preset}, {count:,} parameters, in {names}, {config.train.dtype}, "
            f"{config.train.dropout} dropout {config.model.drop_rate}: steps to "
            f"{self.until:,} of {config.steps:,}{from_step}, "
            f"{config.train.batch_size} x {config.length} tokens each",
            soft_wrap=True,
            markup=False,
        )
        self.console.print(
            f"{about.get('name', config.data)}: {len(self.corpus.train):,} tokens to train on, "
            f"{len(self.corpus.validation):,} to validate with; the run is in {self.out}",
            soft_wrap=True,
            markup=False,
        )
        tuned = [f"{show.NAMES[t.side.name]}: {', '.join(t.tuned)}" for t in self.twins if t.tuned]
        if tuned:
            self.console.print(f"Switched on for speed: {'; '.join(tuned)}", soft_wrap=True)

    def train(self, interrupted: Callable[[], bool]) -> None:
        """Step after step until the end, the stop that was asked for, or an interruption."""
        if self.step >= self.until:
            self.console.print(f"Nothing to do: the run is at step {self.step}.")
            return
        stop = False
        with _progress(self.console) as bar:
            task = bar.add_task("", total=self.until, completed=self.step, figures="")
            while not stop:
                inputs, targets = next(self.loader)
                rows = [self.advance(twin, inputs, targets) for twin in self.twins]
                self.step += 1
                stop = self.step == self.until or interrupted()
                if self.step % self.config.eval_every == 0 or stop:
                    for twin, row in zip(self.twins, rows, strict=True):
                        row["val_loss"] = self.validate(twin)
                for twin, row in zip(self.twins, rows, strict=True):
                    self.log(twin, row)
                if self.step % self.config.checkpoint_every == 0 or stop:
                    self.save()
                self.show(bar, task, rows)
        curves.draw(self.out, self.curves())
        self.summary()

    def advance(self, twin: _Twin, inputs: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        """One step of one framework, as a row of its metrics; ``Stopped`` where it goes wrong."""
        began = time.perf_counter()
        made: Step = twin.trainer.step(inputs, targets)
        seconds = time.perf_counter() - began
        if not (math.isfinite(made.loss) and math.isfinite(made.grad_norm)):
            raise Stopped(self.diagnosis(twin, made, inputs, targets))
        return {
            "step": self.step + 1,
            "loss": made.loss,
            "grad_norm": made.grad_norm,
            "lr": float(learning_rate(self.step, self.config.train.optimizer)),
            "tokens_per_s": round(inputs.size / seconds, 1),
            "peak_bytes": twin.side.runtime.peak_memory(self.device),
        }

    def diagnosis(self, twin: _Twin, made: Step, inputs: np.ndarray, targets: np.ndarray) -> str:
        """At which step and in which tensor the first number went that is none."""
        where = _first_not_finite(twin, inputs, targets) or "dropout, without which all is finite"
        kept = checkpoint.steps(twin.checkpoints)
        last = (
            f"the last checkpoint is {twin.checkpoints}/step-{kept[-1]:06d}"
            if kept
            else ("no checkpoint had been written")
        )
        return (
            f"at step {self.step + 1} in {twin.side.name}: the loss is {made.loss:.4g} and the "
            f"gradients' norm {made.grad_norm:.4g}; it began in {where}. Nothing was updated, and "
            f"{last}. A smaller --learning-rate or more --warmup often helps."
        )

    def validate(self, twin: _Twin) -> float:
        """Mean cross-entropy in nats over the validation batches."""
        total = sum(float(twin.trainer.evaluate(*batch)) for batch in self.validation)
        return total / sum(counted(targets) for _, targets in self.validation)

    def log(self, twin: _Twin, row: dict[str, Any]) -> None:
        """One more line of the metrics."""
        twin.rows.append(row)
        path = twin.folder / runs.METRICS
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise ValueError(
                f"cannot write {path}: {error.strerror}: free space, then --resume"
            ) from None
        if twin.writer is not None:
            for name in row.keys() - {"step"}:
                twin.writer.add_scalar(name, row[name], row["step"])

    def save(self) -> None:
        """A checkpoint of every framework, and the old ones gone."""
        for twin in self.twins:
            state: TrainState = twin.trainer.export()
            made = Checkpoint(
                step=state.step,
                params=dict(state.params),
                first_moment=dict(state.first_moment),
                second_moment=dict(state.second_moment),
                model=self.config.model,
                train=self.config.train,
                framework=twin.side.name,
                data=self.loader.state(),
                tokenizer=self.tokenizer.to_json(),
                random={
                    "generator": "threefry2x32",
                    "seed": self.config.train.seed,
                    "step": state.step,
                    "dropout": self.config.train.dropout,
                },
                extra={"preset": self.config.preset, "corpus": self.corpus.description},
            )
            checkpoint.save(twin.checkpoints, made)
            checkpoint.prune(twin.checkpoints, self.config.keep)

    def curves(self) -> dict[str, list[dict[str, Any]]]:
        """Every framework's metrics in this folder, also of the one that the run began in."""
        rows = {twin.side.name: twin.rows for twin in self.twins}
        for name in sides.NAMES:
            if name not in rows and (self.out / name / runs.METRICS).exists():
                rows[name] = runs.read_metrics(self.out / name / runs.METRICS, self.step)
        return rows

    def show(self, bar: Progress, task: TaskID, rows: list[dict[str, Any]]) -> None:
        """The progress bar's figures; where there is no terminal, a line at each evaluation."""
        figures = "  ".join(
            f"{show.NAMES[twin.side.name]} {row['loss']:.4f}, {row['tokens_per_s']:,.0f} tokens/s"
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
        table = show.table(
            "", "step", "loss", "validation", "tokens/s", "peak memory",
            right=("step", "loss", "validation", "tokens/s", "peak memory"),
        )  # fmt: skip
        for twin in self.twins:
            last = twin.rows[-1]
            pace = np.median([row["tokens_per_s"] for row in twin.rows])
            table.add_row(
                show.NAMES[twin.side.name],
                f"{last['step']:,}",
                f"{last['loss']:.4f}",
                f"{last['val_loss']:.4f}",
                f"{pace:,.0f}",
                f"{last['peak_bytes'] / 1e9:.2f} GB",
            )
        self.console.print(table)
        yardstick = self.corpus.description.get("entropy_rate")
        known = f"; the source's entropy rate is {yardstick:.4f}" if yardstick else ""
        self.console.print(
            f"In nats per token; predicting by frequency alone has {self.unigram:.4f}{known}."
        )
        if len(self.twins) == 2:
            apart = curves.apart(*(twin.rows for twin in self.twins))
            self.console.print(f"The two loss curves are at most {apart:.1e} apart, relatively.")
        if self.step < self.config.steps:
            again = f"twingrad train --out {self.out} --resume"
            self.console.print(
                f"Stopped at step {self.step} of {self.config.steps}; go on with {again}",
                soft_wrap=True,
                markup=False,
            )
        self.console.print(f"Curves in {self.out / runs.PLOT}", soft_wrap=True, markup=False)

    def close(self) -> None:
        """Nothing is left open."""
        for twin in self.twins:
            if twin.writer is not None:
                twin.writer.close()


Start = tuple[runs.RunConfig, Tokenizer, Params | None]


def _fresh(asked: Asked, out: Path) -> Start:
    """Configuration, tokenizer and, where it begins from some, parameters of a new run."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: choose a folder")
    source = asked.given.get("init")
    if source is None:
        config = runs.resolve(asked.given)
        words = _tokenizer(config, asked.given, None)
        if words.vocab_size > config.model.vocab_size:
            sizes = replace(config.model, vocab_size=words.vocab_size)
            config = replace(config, model=sizes)
        return config, words, None
    model, values, stored = released.load(source, asked.given.get("preset"))
    config = runs.resolve(asked.given, model)
    return config, _tokenizer(config, asked.given, stored), values


def _resumed(asked: Asked, out: Path) -> Start:
    """Those of the run in ``out``, which nothing that is asked for may contradict."""
    if not asked.resume:
        raise ValueError(f"{out} holds a run already: --resume it, or choose another --out")
    runs.refuse_links(out)
    stored = runs.stored(out)
    config = runs.changed(stored, asked.given)
    if different := runs.differences(stored, config):
        raise ValueError(
            f"the run in {out} has {'; '.join(different)}: leave that out to resume it, "
            "or begin another in a new --out"
        )
    words = tokenizer.from_json(runs.read_json(out / runs.TOKENIZER))
    return config, words, None


def _tokenizer(
    config: runs.RunConfig, given: Mapping[str, Any], stored: dict[str, Any] | None
) -> Tokenizer:
    """The one asked for by name, else that of the checkpoint the run begins from, else bytes."""
    if given.get("tokenizer") is None and stored is not None:
        return tokenizer.from_json(stored)
    if config.tokenizer != "bpe":
        return tokenizer.make(config.tokenizer)
    count = config.token_count or max(config.model.vocab_size, 512)
    return tokenizer.make("bpe", texts=corpus.texts(config.data), vocab_size=count)


def _check_stop(stop_after: int | None, config: runs.RunConfig) -> None:
    if stop_after is not None and not 1 <= stop_after <= config.steps:
        raise ValueError(f"--stop-after is {stop_after}: expected 1 to --steps {config.steps}")


def _build(
    side: Side,
    config: runs.RunConfig,
    device: str,
    out: Path,
    given: Params | None,
    found: Checkpoint | None,
) -> _Twin:
    """One framework's trainer, with the parameters and moments that the run goes on from."""
    runtime = side.runtime.configure(config.train.dtype, device)
    tuned = side.runtime.tune(device, config.train.dtype, config.model.emb_dim)
    if found is not None:
        start = dict(found.params)
    else:
        start = given or params.init_gpt2(config.model, config.train.seed)
    model = side.params.build(
        lambda: programs.gpt2_model(side, config.model, recompute=config.train.recompute),
        start,
        runtime.master,
    )
    trainer = side.train.Trainer(model, config.train, runtime)
    if found is not None:
        moments = (found.first_moment, found.second_moment)
        trainer.restore(TrainState(found.step, found.params, *moments))
    return _Twin(side=side, trainer=trainer, folder=out / side.name, rows=[], tuned=tuned)


def _first_not_finite(twin: _Twin, inputs: np.ndarray, targets: np.ndarray) -> str | None:
    """The first tensor of a pass, in the order of computation, that holds NaN or infinity."""
    model = twin.trainer.computing_model()
    runtime = twin.trainer.runtime
    for batch in zip(inputs, targets, strict=True):
        seen = twin.side.trace.observe(model, twin.side.gpt2.loss_fn, batch, runtime)
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


def _unigram_nats(text: Corpus, vocab_size: int) -> float:
    """Cross-entropy of the validation part under the training part's token frequencies."""
    parts = [np.ones(vocab_size), np.zeros(vocab_size)]  # one is added: no token is impossible
    for tokens, counts in zip((text.train, text.validation), parts, strict=True):
        for start in range(0, len(tokens), 1 << 24):
            counts += np.bincount(tokens[start : start + (1 << 24)], minlength=vocab_size)
    expected, seen = parts
    return float(-(seen * np.log(expected / expected.sum())).sum() / seen.sum())


def _tensorboard(folder: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ValueError(
            "--tensorboard needs tensorboardX: pip install 'twingrad[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder))


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Within, Ctrl-C and a termination are remembered, not raised; a second one is raised."""
    seen: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    watched = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, remember) for number in watched]
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in zip(watched, before, strict=True):
            signal.signal(number, handler)
