"""The configuration of a training run: from options to a validated, stored form."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from shared import params
from shared.config import (
    AdamWConfig,
    GPTConfig,
    TrainConfig,
    preset,
    require_whole,
)
from shared.config import differences as config_differences

# What a resumed run may be asked to do otherwise, since no number depends on it but by rounding.
FREE = {
    *("eval_every", "eval_batches", "checkpoint_every", "keep", "compile"),
    *("data_parallel", "sharded"),
}
# What the command line calls otherwise than the configuration does.
_FIELDS = {"steps": "total_steps", "warmup": "warmup_steps"}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a run is: all that decides its numbers, and how often it is looked at and saved.

    ``length`` is that of the windows it is trained on, in tokens.
    """

    preset: str
    init: str | None
    data: str
    tokenizer: str
    token_count: int | None  # how many tokens a tokenizer is trained to; None for the others
    length: int
    model: GPTConfig
    train: TrainConfig
    eval_every: int
    eval_batches: int
    checkpoint_every: int
    keep: int

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


# What is asked for becomes a configuration


def resolve(given: Mapping[str, Any], model: GPTConfig | None = None) -> RunConfig:
    """The run that ``given`` asks for, with what it leaves open filled in.

    ``model`` is that of the checkpoint it begins from. Raises ``ValueError``, naming what is wrong.
    """
    fresh = model is None
    name = given.get("preset") or ("tiny" if fresh else Path(given["init"]).name)
    sizes = model or preset(name)
    tiny = params.count(params.gpt2_shapes(sizes)) < 1_000_000
    steps = given.get("steps", 800)
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps is {steps!r}: expected a whole number, 1 or more")
    rate = given.get("learning_rate", 3e-3 if tiny else 6e-4 if fresh else 1e-4)
    optimizer = AdamWConfig(
        learning_rate=rate,
        min_learning_rate=given.get("min_learning_rate", rate / 10),
        warmup_steps=given.get("warmup", min(steps // 20, steps - 1)),
        total_steps=steps,
    )
    base = RunConfig(
        preset=name,
        init=given.get("init"),
        data=given.get("data", "python"),
        tokenizer=given.get("tokenizer", "bytes"),
        token_count=None,
        length=given.get("length", sizes.context_length),
        model=sizes,
        train=TrainConfig(optimizer=optimizer, batch_size=8),
        eval_every=max(steps // 10, 1),
        eval_batches=20,
        checkpoint_every=max(steps // 5, 1),
        keep=3,
    )
    return changed(base, {key: value for key, value in given.items() if value is not None})


def changed(config: RunConfig, given: Mapping[str, Any]) -> RunConfig:
    """``config`` with every field that ``given`` names, wherever in it that stands."""
    named = {_FIELDS.get(key, key): value for key, value in given.items()}

    def of(part: Any) -> dict[str, Any]:
        own = {field.name for field in fields(part)}
        return {key: value for key, value in named.items() if key in own}

    optimizer = replace(config.train.optimizer, **of(config.train.optimizer))
    train = replace(config.train, **of(config.train) | {"optimizer": optimizer})
    model = replace(config.model, **of(config.model))
    return replace(config, **of(config) | {"model": model, "train": train})


def differences(stored: RunConfig, asked: RunConfig) -> list[str]:
    """Fields in which the two would compute otherwise, as ``n_layers 2, asked 4``."""
    found = config_differences(stored.train, asked.train)
    found += config_differences(stored.model, asked.model)
    for field in fields(stored):
        was, wanted = getattr(stored, field.name), getattr(asked, field.name)
        if field.name not in ("model", "train") and was != wanted:
            found.append(f"{field.name} {was}, asked {wanted}")
    return [text for text in found if text.split()[0] not in FREE]
