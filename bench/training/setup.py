"""All that a training run needs before its first step: settings, data, the place to go on from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.harness import frameworks
from bench.harness.foreign import Array
from bench.harness.frameworks import Framework
from bench.training import config as training_config
from bench.training import fine_tuning, pretrained, run_folder
from bench.training.config import PROCESSES, RUN, RunConfig, RunSettings
from bench.training.pretrained import TokenizerJson
from shared import checkpoint, corpus, tokenizer
from shared.checkpoint import StoredCheckpoint
from shared.corpus import Corpus
from shared.loader import Loader, validation_batches
from shared.params import Params
from shared.tokenizer import Tokenizer
from shared.train_state import counted
from shared.world import World
from twingrad.cli.options import option
from twingrad.terminal import progress

Batch = tuple[Array, Array]
# Seconds: system calls that wait take no more than some weeks.
_MOST_PATIENCE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of ``train`` in one process; ``settings`` are those of the run itself."""

    framework: str | None = option(
        None,
        group=RUN,
        help="what to train in",
        choices=frameworks.CHOICES,
        otherwise=frameworks.default_choice,
        rule="what is installed",
    )
    device: str = option(
        "auto",
        group=RUN,
        help="where to train; auto is cuda if the frameworks see a GPU",
        choices=frameworks.DEVICES,
    )
    out: Path | None = option(
        None,
        group=RUN,
        metavar="DIR",
        help="the run's folder",
        otherwise=f"runs/{training_config.DEFAULT_PRESET}",
        rule="after the preset, with a number behind it where that is taken",
    )
    resume: bool = option(
        False, group=RUN, help="go on from the newest checkpoint in --out, of either framework"
    )
    begin: bool = option(
        False, group=RUN, help="with --resume: begin the run where it has no checkpoint yet"
    )
    stop_after: int | None = option(
        None,
        group=RUN,
        metavar="K",
        help="end at step K, with a checkpoint; the schedule stays that of --steps",
    )
    tensorboard: bool = option(False, group=RUN, help="also write TensorBoard's files")
    patience: float = option(
        300.0,
        group=PROCESSES,
        metavar="S",
        help="seconds that a process may be absent or behind the others",
    )
    settings: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        if not 0 < self.patience <= _MOST_PATIENCE:
            raise ValueError(
                f"--patience is {self.patience:g}: expected seconds, over 0 and at most "
                f"{_MOST_PATIENCE:,}, twelve days"
            )

    @property
    def frameworks(self) -> tuple[str, ...]:
        """The names of the frameworks to train in."""
        return frameworks.chosen(self.framework or frameworks.default_choice())


@dataclass(frozen=True, kw_only=True)
class Validation:
    """This process's rows of each batch of a text, and how many targets all processes have."""

    batches: list[Batch]
    targets: int


@dataclass(frozen=True, kw_only=True)
class RunSetup:
    """A run as this process takes part in it; nothing has been written yet.

    It ends at step ``until``. ``validation`` has this process's rows of each batch, and
    ``validation_targets`` is how many targets count over all processes. ``checkpoints`` are those
    to go on from, by framework; ``initial`` the parameters to begin with where those are not drawn.
    ``earlier_steps`` is the length that the run had where ``--steps`` has changed it. ``is_begun``:
    the folder held the run before. ``old_text`` validates on the text of the run that a fine-tuning
    began from.
    """

    config: RunConfig
    out: Path
    until: int
    corpus: Corpus
    tokenizer: Tokenizer
    loader: Loader
    validation: list[Batch]
    validation_targets: int
    checkpoints: Mapping[str, StoredCheckpoint]
    initial: Params | None
    earlier_steps: int | None = None
    is_begun: bool = False
    old_text: Validation | None = None

    @cached_property
    def unigram(self) -> float:
        """Cross-entropy of the validation part under the training part's token frequencies."""
        size = self.config.model.vocab_size
        parts = [np.ones(size), np.zeros(size)]  # one is added: no token is impossible
        rows = (self.corpus.train, self.corpus.validation)
        for tokens, counts in zip(rows, parts, strict=True):
            for start in range(0, len(tokens), 1 << 24):
                counts += np.bincount(tokens[start : start + (1 << 24)], minlength=size)
        expected, seen = parts
        return float(-(seen * np.log(expected / expected.sum())).sum() / seen.sum())


def prepare(
    options: TrainOptions, out: Path, chosen: Sequence[Framework], world: World, console: Console
) -> RunSetup:
    """Read and check everything that the options name; ``ValueError`` if something is wrong."""
    exists = (out / run_folder.CONFIG).exists()
    if options.resume and not options.begin and not exists:
        raise ValueError(
            f"no checkpoint in {out}: give --out the folder of a run, or leave out --resume to "
            "begin one there"
        )
    start = _resumed(options, out) if exists else _fresh(options, out, console)
    config, words, initial, origin = start
    earlier = run_folder.stored(out).steps if exists else config.steps
    with progress(console, "reading the data") as say:
        say("reading the data")
        text = corpus.load(config.data, words, config.model.vocab_size)
    if exists:
        run_folder.check_data(out, text)
    loader = Loader(
        text.train,
        length=config.length,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        micro_batches=config.train.micro_batches,
        shard=(world.rank, world.size),
    )
    validation = _validation(text, config, world)
    checkpoints = run_folder.newest(out, chosen, config, console) if exists else {}
    if checkpoints:
        loader.restore(next(iter(checkpoints.values())).checkpoint.data)
    elif exists and config.init is not None:  # stopped before a checkpoint
        source = pretrained.load(config.init, config.preset)
        initial, origin = source.params, source.origin
    if origin:
        console.print(f"Beginning from {origin}", soft_wrap=True, markup=False)
    return RunSetup(
        config=config,
        out=out,
        until=min(options.stop_after or config.steps, config.steps),
        corpus=text,
        tokenizer=words,
        loader=loader,
        validation=validation.batches,
        validation_targets=validation.targets,
        checkpoints=checkpoints,
        initial=initial,
        is_begun=exists,
        earlier_steps=earlier if earlier != config.steps else None,
        old_text=_old_text(config, words, world, console),
    )


def _validation(text: Corpus, config: RunConfig, world: World) -> Validation:
    """The batches of ``text`` on which the run of ``config`` is validated."""
    batches = list(
        validation_batches(
            text.validation,
            length=config.length,
            batch_size=config.train.batch_size // config.train.micro_batches,
            limit=config.eval_batches,
        )
    )
    return Validation(
        batches=[(_rows(inputs, world), _rows(targets, world)) for inputs, targets in batches],
        targets=sum(counted(targets) for _, targets in batches),
    )


def _old_text(
    config: RunConfig, words: Tokenizer, world: World, console: Console
) -> Validation | None:
    """Validation on what the run that this one began from was trained on, if that is at hand."""
    try:
        text = fine_tuning.old_text(config, words)
        return None if text is None else _validation(text, config, world)
    except ValueError as error:
        reason = f"The loss on the text of {config.init} is left out: {error}"
        console.print(reason, soft_wrap=True, markup=False)
        return None


def _rows(batch: Array, world: World) -> Array:
    """The rows of ``batch``, [B, T], that are this process's: those after the ranks' before it."""
    return np.split(batch, world.size)[world.rank]


# Configuration, tokenizer, and, where a run begins from some, parameters and where they are from.
Start = tuple[RunConfig, Tokenizer, Params | None, str]


def _fresh(options: TrainOptions, out: Path, console: Console) -> Start:
    """What a new run begins with."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: choose a folder")
    settings = options.settings
    if settings.init is None:
        config = training_config.resolve(settings)
        _check_stop(options.stop_after, config)
        words = _tokenizer(config, settings, None, console)
        if words.vocab_size > config.model.vocab_size:
            config = replace(config, model=replace(config.model, vocab_size=words.vocab_size))
        return config, words, None, ""
    source = pretrained.load(settings.init, settings.preset)
    config = training_config.resolve(settings, source.config)
    _check_stop(options.stop_after, config)
    words = _tokenizer(config, settings, source.tokenizer, console)
    if settings.tokenizer is None:
        config = replace(config, tokenizer=words.name)
    return config, words, source.params, source.origin


def _resumed(options: TrainOptions, out: Path) -> Start:
    """What the run in ``out`` goes on with; no given setting but ``--steps`` may contradict it."""
    if not options.resume:
        raise ValueError(f"{out} holds a run already: --resume it, or choose another --out")
    run_folder.refuse_links(out)
    stored = run_folder.stored(out)
    folders = (out / name / "checkpoints" for name in frameworks.NAMES)
    done = max((step for folder in folders for step in checkpoint.steps(folder)), default=0)
    if not done and not options.begin:
        raise ValueError(
            f"no checkpoint in {out}: restore one, or add --begin to train this run from its first "
            "step, which writes its metrics anew"
        )
    _check_steps(options.settings.steps, done, stored, out)
    config = training_config.changed(stored, options.settings)
    if different := training_config.differences(stored, config, training_config.RESUMABLE):
        raise ValueError(
            f"the run in {out} has {'; '.join(map(str, different))}: leave that out to resume it, "
            "or begin another in a new --out"
        )
    _check_stop(options.stop_after, config)
    words = tokenizer.from_json(run_folder.read_json(out / run_folder.TOKENIZER))
    return config, words, None, ""


def _check_steps(steps: int | None, done: int, stored: RunConfig, out: Path) -> None:
    """Refuse a new length for the run in ``out`` that is under the steps it has ``done``."""
    warmup = stored.train.optimizer.warmup_steps
    if steps is None or steps == stored.steps:
        return
    if steps < done:
        raise ValueError(
            f"--steps is {steps}, and the run in {out} has done {done} already: give --steps "
            f"{done} or more, or begin another run in a new --out"
        )
    if steps <= warmup:
        raise ValueError(
            f"--steps is {steps}, and the learning rate of the run in {out} climbs for {warmup}: "
            f"give over {warmup}"
        )


def _tokenizer(
    config: RunConfig, settings: RunSettings, stored: TokenizerJson | None, console: Console
) -> Tokenizer:
    """The one asked for by name, else that of the checkpoint the run begins from, else bytes."""
    if settings.tokenizer is None and stored is not None:
        return tokenizer.from_json(stored)
    if config.tokenizer != "bpe":
        return tokenizer.make(config.tokenizer)
    count = config.token_count or max(config.model.vocab_size, training_config.FEWEST_TOKENS)
    with progress(console, "training the tokenizer") as say:
        say("training the tokenizer")
        return tokenizer.make("bpe", texts=corpus.texts(config.data), vocab_size=count)


def _check_stop(stop_after: int | None, config: RunConfig) -> None:
    if stop_after is not None and not 1 <= stop_after <= config.steps:
        raise ValueError(f"--stop-after is {stop_after}: expected 1 to --steps {config.steps}")
