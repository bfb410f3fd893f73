"""The configuration of a training run: from options to a validated, stored form."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from shared import corpus, params
from shared.config import (
    DROPOUTS,
    PRESETS,
    TRAINING_DTYPES,
    AdamWConfig,
    GPTConfig,
    TrainConfig,
    preset,
    require_whole,
)
from twingrad.cli.options import option

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

# The preset of a run that names none. It has so many steps for text that one can read, after
# minutes on two cores: `python -m bench.studies writing`.
DEFAULT_PRESET, WRITER_STEPS = "writer", 3000
STEPS = 800  # of any other run
# The peak of the learning rate: of a small model, of a larger one, and of one that goes on from
# parameters that were trained.
SMALL_RATE, LARGE_RATE, INIT_RATE = 3e-3, 6e-4, 1e-4
SMALL_MODEL = 1_000_000  # parameters; from here on a model is larger
FEWEST_TOKENS = 512  # of a tokenizer that is trained on the data
# Headings under which the help of ``train`` lists its options.
RUN, MODEL, DATA = "the run", "the model", "the data"
OPTIMIZER, COMPUTING, PROCESSES = "the optimizer", "how it is computed", "several processes"
# Settings that a resumed run may change: no number depends on them but by rounding.
FREE = {
    *("eval_every", "eval_batches", "checkpoint_every", "keep", "compile"),
    *("data_parallel", "sharded"),
}
# And those that it may change to other numbers, which its folder and the user are told.
RESUMABLE = FREE | {"total_steps"}
# Settings whose field in the configuration has another name.
_FIELDS = {"steps": "total_steps", "warmup": "warmup_steps"}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that decides a run's numbers, and how often it is validated and saved.

    ``length`` is that of the training windows, in tokens. ``token_count`` is how many tokens a
    tokenizer is trained to; None for the others.
    """

    preset: str = DEFAULT_PRESET
    init: str | None = None
    data: str = "python"
    tokenizer: str = "bytes"
    token_count: int | None = None
    length: int
    model: GPTConfig
    train: TrainConfig
    eval_every: int
    eval_batches: int = 20
    checkpoint_every: int
    keep: int = 3

    def __post_init__(self) -> None:
        for name in ("length", "eval_every", "eval_batches", "checkpoint_every", "keep"):
            require_whole(name, getattr(self, name), 1)
        if self.token_count is not None:
            require_whole("token_count", self.token_count, 1)
        for name in ("preset", "data", "tokenizer"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is {getattr(self, name)!r}: expected its name")
        if self.init is not None and not isinstance(self.init, str):
            raise ValueError(f"init is {self.init!r}: expected a name or a path")
        if self.length > self.model.context_length:
            raise ValueError(
                f"length {self.length} is over the model's context_length "
                f"{self.model.context_length}: choose a shorter one"
            )

    @property
    def steps(self) -> int:
        """The length of the whole run."""
        return self.train.optimizer.total_steps


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """A run's settings as the user names them; None leaves one to the run's default.

    What the help says as a default is read from the configuration of a run without settings.
    """

    preset: str | None = option(
        None,
        group=MODEL,
        help="size of GPT-2",
        choices=tuple(PRESETS),
        otherwise=lambda: default_run().preset,
    )
    init: str | None = option(
        None,
        group=MODEL,
        metavar="SOURCE",
        files=True,
        offers=("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"),
        help="begin from gpt2, gpt2-medium, gpt2-large, gpt2-xl, a folder, or another run",
    )
    drop_rate: float | None = option(
        None,
        group=MODEL,
        help="share of units that dropout drops",
        otherwise=lambda: default_run().model.drop_rate,
        rule="0.1 with another preset",
    )
    dropout: str | None = option(
        None,
        group=MODEL,
        help="matched has both frameworks drop the same units",
        choices=DROPOUTS,
        otherwise=lambda: default_run().train.dropout,
    )
    data: str | None = option(
        None,
        group=DATA,
        files=True,
        offers=("python", "markov"),
        help="python (the standard library's sources), markov, hf:NAME, a text file or folder, "
        "or .bin files of nanoGPT or llm.c",
        otherwise=lambda: default_run().data,
    )
    tokenizer: str | None = option(
        None,
        group=DATA,
        files=True,
        offers=("bytes", "gpt2", "bpe"),
        help="bytes, gpt2, bpe (trained on the data), or a tokenizer.json",
        otherwise=lambda: default_run().tokenizer,
        rule="bytes with another preset",
    )
    token_count: int | None = option(
        None,
        group=DATA,
        otherwise=FEWEST_TOKENS,
        rule="the preset's vocabulary where that is larger",
        help="how many tokens bpe is trained to",
    )
    length: int | None = option(
        None,
        group=DATA,
        help="tokens a sequence",
        otherwise=lambda: default_run().length,
        rule="the context length of the model",
    )
    batch_size: int | None = option(
        None,
        group=DATA,
        help="sequences a step",
        otherwise=lambda: default_run().train.batch_size,
    )
    seed: int | None = option(
        None,
        group=DATA,
        metavar="S",
        help="seed of the parameters, the order of the data and dropout",
        otherwise=lambda: default_run().train.seed,
    )
    steps: int | None = option(
        None,
        group=OPTIMIZER,
        help="length of the whole run",
        otherwise=lambda: default_run().steps,
        rule=f"{STEPS} with another preset, or with --init",
    )
    learning_rate: float | None = option(
        None,
        group=OPTIMIZER,
        help="the rate at its peak",
        otherwise=lambda: default_run().train.optimizer.learning_rate,
        rule=f"{LARGE_RATE:g} from a million parameters on, {INIT_RATE:g} with --init",
    )
    min_learning_rate: float | None = option(
        None,
        group=OPTIMIZER,
        help="the rate at the end",
        otherwise=lambda: default_run().train.optimizer.min_learning_rate,
        rule="a tenth of the peak",
    )
    warmup: int | None = option(
        None,
        group=OPTIMIZER,
        help="steps in which the rate climbs to its peak",
        otherwise=lambda: default_run().train.optimizer.warmup_steps,
        rule="a twentieth of --steps",
    )
    weight_decay: float | None = option(
        None,
        group=OPTIMIZER,
        help="decay of matrices; vectors have none",
        otherwise=lambda: default_run().train.optimizer.weight_decay,
    )
    max_grad_norm: float | None = option(
        None,
        group=OPTIMIZER,
        help="norm to which gradients are clipped",
        otherwise=lambda: default_run().train.optimizer.max_grad_norm,
    )
    eval_every: int | None = option(
        None,
        group=RUN,
        help="steps from one validation to the next",
        otherwise=lambda: default_run().eval_every,
        rule="a tenth of --steps",
    )
    eval_batches: int | None = option(
        None,
        group=RUN,
        help="batches a validation",
        otherwise=lambda: default_run().eval_batches,
    )
    checkpoint_every: int | None = option(
        None,
        group=RUN,
        help="steps from one checkpoint to the next",
        otherwise=lambda: default_run().checkpoint_every,
        rule="a fifth of --steps",
    )
    keep: int | None = option(
        None, group=RUN, help="checkpoints kept", otherwise=lambda: default_run().keep
    )
    dtype: str | None = option(
        None,
        group=COMPUTING,
        help="the dtype of the computation",
        choices=TRAINING_DTYPES,
        otherwise=lambda: default_run().train.dtype,
    )
    micro_batches: int | None = option(
        None,
        group=COMPUTING,
        help="parts into which a step is divided, to save memory",
        otherwise=lambda: default_run().train.micro_batches,
    )
    loss_chunk: int | None = option(
        None,
        group=COMPUTING,
        help="positions whose logits exist at once, to save memory; 0 is all",
        otherwise=lambda: default_run().train.loss_chunk,
    )
    recompute: bool | None = option(
        None,
        group=COMPUTING,
        help="compute activations again in the backward pass, to save memory",
    )
    compile: bool | None = option(
        None, group=COMPUTING, help="torch.compile, in PyTorch; JAX is always compiled"
    )
    data_parallel: int | None = option(
        None,
        group=PROCESSES,
        otherwise=lambda: default_run().train.data_parallel,
        help="groups of processes that each have rows of every batch",
    )
    sharded: int | None = option(
        None,
        group=PROCESSES,
        metavar="M",
        otherwise=lambda: default_run().train.sharded,
        help="processes of a group, which hold the model together",
    )

    def given(self) -> dict[str, object]:
        """The settings that the user named, by name."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if value is not None}


def default_run() -> RunConfig:
    """The run of a call that names no setting."""
    return resolve(RunSettings())


def _recipe(settings: RunSettings) -> RunSettings:
    """Settings with which the preset is trained, but for those that the user names."""
    if (settings.preset or DEFAULT_PRESET) != "writer":
        return RunSettings()
    has_text = corpus.holds_text(settings.data or RunConfig.data)
    return RunSettings(tokenizer="bpe" if has_text else None, steps=WRITER_STEPS)


def resolve(settings: RunSettings, model: GPTConfig | None = None) -> RunConfig:
    """The run of these ``settings``, with defaults for those that are not given.

    ``model`` is that of the checkpoint it begins from. Raises ``ValueError``, naming what is wrong.
    """
    is_fresh = model is None
    if is_fresh:
        settings = _with(_recipe(settings), settings.given())
    origin = DEFAULT_PRESET if is_fresh else Path(settings.init or "").name
    name = settings.preset or origin
    sizes = model or preset(name)
    is_small = params.count(params.gpt2_shapes(sizes)) < SMALL_MODEL
    steps = STEPS if settings.steps is None else settings.steps
    if steps < 1:
        raise ValueError(f"--steps is {steps!r}: expected a whole number, 1 or more")
    rate = settings.learning_rate
    if rate is None:
        rate = SMALL_RATE if is_small else LARGE_RATE if is_fresh else INIT_RATE
    lowest, warmup = settings.min_learning_rate, settings.warmup
    _check_warmup(warmup, steps)
    optimizer = AdamWConfig(
        learning_rate=rate,
        min_learning_rate=rate / 10 if lowest is None else lowest,
        warmup_steps=min(steps // 20, steps - 1) if warmup is None else warmup,
        total_steps=steps,
    )
    base = RunConfig(
        preset=name,
        length=sizes.context_length if settings.length is None else settings.length,
        model=sizes,
        train=TrainConfig(optimizer=optimizer),
        eval_every=max(steps // 10, 1),
        checkpoint_every=max(steps // 5, 1),
    )
    return changed(base, settings)


def changed(config: RunConfig, settings: RunSettings) -> RunConfig:
    """``config`` with every setting that is given, in whichever of its parts the field stands."""
    values = {_FIELDS.get(name, name): value for name, value in settings.given().items()}
    schedule = config.train.optimizer
    warmup = schedule.warmup_steps if settings.warmup is None else settings.warmup
    _check_warmup(warmup, schedule.total_steps if settings.steps is None else settings.steps)
    optimizer = _with(config.train.optimizer, values)
    train = _with(config.train, values | {"optimizer": optimizer})
    model = _with(config.model, values)
    return _with(config, values | {"model": model, "train": train})


def _check_warmup(warmup: int | None, steps: int) -> None:
    """Raise ``ValueError``, in words of the command line, unless the rate falls after it climbs."""
    if warmup is not None and not 0 <= warmup < steps:
        raise ValueError(
            f"--warmup is {warmup}: expected from 0 to under --steps, which is {steps}"
        )


def _with(config: Config, values: Mapping[str, object]) -> Config:
    names = {field.name for field in fields(config)}
    return replace(config, **{name: value for name, value in values.items() if name in names})


@dataclass(frozen=True)
class Difference:
    """A field in which two configurations differ."""

    field: str
    stored: object
    asked: object

    def __str__(self) -> str:
        """As ``n_layers 2, asked 4``; a setting has the name of its option, ``--steps``."""
        options = {field: f"--{name}" for name, field in _FIELDS.items()}
        return f"{options.get(self.field, self.field)} {self.stored}, asked {self.asked}"


def differences(stored: Config, asked: Config, free: Collection[str] = FREE) -> list[Difference]:
    """Fields, but for those of ``free``, in which two configurations of one class differ."""
    return [difference for difference in _all(stored, asked) if difference.field not in free]


def _all(stored: "DataclassInstance", asked: "DataclassInstance") -> Iterator[Difference]:
    for field in fields(stored):
        left, right = getattr(stored, field.name), getattr(asked, field.name)
        if is_dataclass(left) and not isinstance(left, type):
            yield from _all(left, right)
        elif left != right:
            yield Difference(field.name, left, right)
