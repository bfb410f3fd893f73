"""All that a training run needs before its first step: settings, data, the place to go on from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bench.harness.frameworks import Framework
from bench.training import config as training_config
from bench.training import pretrained, run_folder
from shared import corpus, params, tokenizer
from shared.checkpoint import StoredCheckpoint
from shared.corpus import Corpus
from shared.loader import Loader, validation_batches
from shared.params import Params
from shared.tokenizer import Tokenizer
from shared.train_state import TrainState, counted
from shared.world import World


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
    patience: float = 300.0


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A run as this process will take part in it; nothing has been written yet.

    ``validation`` are this process's rows of each batch, of which ``validated`` targets count over
    all processes. ``found`` are the checkpoints to go on from, ``start`` the parameters to begin
    with where those are not drawn.
    """

    config: training_config.RunConfig
    out: Path
    until: int
    corpus: Corpus
    tokenizer: Tokenizer
    loader: Loader
    validation: list[tuple[np.ndarray, np.ndarray]]
    validated: int
    found: Mapping[str, StoredCheckpoint]
    start: Params | None

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
    asked: Asked, out: Path, chosen: Sequence[Framework], world: World, console: Console
) -> Beginning:
    """Read and check everything that ``asked`` names; ``ValueError`` if something is wrong."""
    exists = (out / run_folder.CONFIG).exists()
    config, words, start = _resumed(asked, out) if exists else _fresh(asked, out)
    _check_stop(asked.stop_after, config)
    with console.status("reading the data"):
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
    batches = list(
        validation_batches(
            text.validation,
            length=config.length,
            batch_size=config.train.batch_size // config.train.micro_batches,
            limit=config.eval_batches,
        )
    )
    found = run_folder.newest(out, chosen, config, console) if exists else {}
    if found:
        loader.restore(next(iter(found.values())).checkpoint.data)
    if not found and start is None and config.init is not None:
        start = pretrained.load(config.init, config.preset)[1]  # stopped before a checkpoint
    return Beginning(
        config=config,
        out=out,
        until=min(asked.stop_after or config.steps, config.steps),
        corpus=text,
        tokenizer=words,
        loader=loader,
        validation=[(_rows(inputs, world), _rows(targets, world)) for inputs, targets in batches],
        validated=sum(counted(targets) for _, targets in batches),
        found=found,
        start=start,
    )


def _rows(batch: np.ndarray, world: World) -> np.ndarray:
    """The rows of ``batch``, [B, T], that are this process's: those after the ranks' before it."""
    return np.split(batch, world.size)[world.rank]


def build(side: Framework, beginning: Beginning, device: str) -> tuple[Any, list[str]]:
    """One framework's trainer, where the run goes on from, and what was switched on for speed."""
    config, found = beginning.config, beginning.found.get(side.name)
    runtime = side.runtime.configure(config.train.dtype, device)
    tuned = side.runtime.tune(device, config.train.dtype, config.model.emb_dim)
    if found is not None:
        start = dict(found.checkpoint.params)
    else:
        start = beginning.start or params.init_gpt2(config.model, config.train.seed)
    model = side.params.build(
        lambda: side.make_gpt2(config.model, recompute=config.train.recompute),
        start,
        runtime.master,
    )
    trainer = side.train.Trainer(model, config.train, runtime)
    if found is not None:
        stored = found.checkpoint
        moments = (stored.first_moment, stored.second_moment)
        trainer.restore(TrainState(stored.step, stored.params, *moments))
    return trainer, tuned


Start = tuple[training_config.RunConfig, Tokenizer, Params | None]


def _fresh(asked: Asked, out: Path) -> Start:
    """Configuration, tokenizer and, where it begins from some, parameters of a new run."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: choose a folder")
    source = asked.given.get("init")
    if source is None:
        config = training_config.resolve(asked.given)
        words = _tokenizer(config, asked.given, None)
        if words.vocab_size > config.model.vocab_size:
            sizes = replace(config.model, vocab_size=words.vocab_size)
            config = replace(config, model=sizes)
        return config, words, None
    model, values, stored = pretrained.load(source, asked.given.get("preset"))
    config = training_config.resolve(asked.given, model)
    return config, _tokenizer(config, asked.given, stored), values


def _resumed(asked: Asked, out: Path) -> Start:
    """Those of the run in ``out``, which nothing that is asked for may contradict."""
    if not asked.resume:
        raise ValueError(f"{out} holds a run already: --resume it, or choose another --out")
    run_folder.refuse_links(out)
    stored = run_folder.stored(out)
    config = training_config.changed(stored, asked.given)
    if different := training_config.differences(stored, config):
        raise ValueError(
            f"the run in {out} has {'; '.join(different)}: leave that out to resume it, "
            "or begin another in a new --out"
        )
    words = tokenizer.from_json(run_folder.read_json(out / run_folder.TOKENIZER))
    return config, words, None


def _tokenizer(
    config: training_config.RunConfig, given: Mapping[str, Any], stored: dict[str, Any] | None
) -> Tokenizer:
    """The one asked for by name, else that of the checkpoint the run begins from, else bytes."""
    if given.get("tokenizer") is None and stored is not None:
        return tokenizer.from_json(stored)
    if config.tokenizer != "bpe":
        return tokenizer.make(config.tokenizer)
    count = config.token_count or max(config.model.vocab_size, 512)
    return tokenizer.make("bpe", texts=corpus.texts(config.data), vocab_size=count)


def _check_stop(stop_after: int | None, config: training_config.RunConfig) -> None:
    if stop_after is not None and not 1 <= stop_after <= config.steps:
        raise ValueError(f"--stop-after is {stop_after}: expected 1 to --steps {config.steps}")
