"""The command ``convert``: a PyTorch checkpoint for a pair's JAX model, or the way back."""

import gc
import importlib.util
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from twingrad import compile_cache, finding_tables, outcome_tables
from twingrad.cli.imports import without_checkout
from twingrad.cli.options import option
from twingrad.environment import install_command, require_frameworks
from twingrad.outcome import diagnose_hint
from twingrad.pair import LoadedPair, Pair, importing_beside, load
from twingrad.terminal import progress
from twingrad.whole import whole_folder

if TYPE_CHECKING:
    from twingrad.convert.models import Models
    from twingrad.convert.plan import Casting
    from twingrad.convert.source import Source

WAYS = ("jax", "torch")
DTYPES = ("float64", "float32", "bfloat16", "float16")
EXTRA = "convert"
_NEEDS = ("safetensors", "orbax", "ml_dtypes")
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Options of ``convert FILE.py``."""

    file: Path = option(
        Path(), metavar="FILE.py", positional=True, required=True, help="a pair file, which is run"
    )
    weights: Path = option(
        Path(),
        required=True,
        group="what is converted",
        help="a .safetensors file, an index of shards, a pickle (.bin, .pt), or a folder that has "
        "one; with --to torch what --to jax wrote, or a folder that Orbax saved",
    )
    to: str = option(
        "",
        required=True,
        group="what is converted",
        metavar="FRAMEWORK",
        choices=WAYS,
        help="the framework that reads the result",
    )
    out: Path = option(
        Path(),
        required=True,
        group="what is written",
        metavar="DIR",
        help="a new folder for the result",
    )
    dtype: str | None = option(
        None,
        group="what is written",
        choices=DTYPES,
        help="the dtype of floating-point numbers",
        otherwise="that of each tensor",
    )
    lossy: bool = option(
        False,
        group="what is written",
        help="round numbers that the dtype, or functions in the map, cannot hold",
    )
    no_check: bool = option(
        False,
        group="what is checked",
        help="do not compare the two models with the checkpoint and with the result",
    )


def run(options: ConvertOptions, console: Console) -> int:
    """Convert, then compare both models; 0 if they are equal or not compared, else 1.

    Raises ``ValueError`` for what cannot be converted; nothing is written then.
    """
    require_frameworks()
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"{missing[0]} is not installed: {install_command(EXTRA)}")
    from twingrad.convert import folder

    folder.require_new(options.out)
    compile_cache.enable()
    with without_checkout(), importing_beside(options.file):
        with progress(console) as say:
            converted = _converted(load(options.file), options, say)
        for sentence in converted.sentences:
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)
        return 0 if options.no_check else _compare(converted.loaded(), options, console)


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was done, in sentences, and both models with their checkpoints."""

    sentences: Sequence[str]
    loaded: Callable[[], LoadedPair]


def _converted(pair: Pair, options: ConvertOptions, say: Say) -> Converted:
    """Plan, then write; the folder appears whole."""
    from twingrad.convert.models import Models
    from twingrad.convert.plan import Casting
    from twingrad.convert.torch_source import open_torch

    # A checkpoint of PyTorch's can be looked at before the models are.
    source = open_torch(options.weights) if options.to == "jax" else None
    say(f"{pair.name}: names and shapes of both models")
    models = Models.of(pair)
    gc.collect()  # models that had to be made are in circles
    dtype = None if options.dtype is None else np.dtype(options.dtype)
    casting = Casting(dtype=dtype, lossy=options.lossy)
    if source is not None:
        return _to_jax(models, source, options, casting, say)
    return _to_torch(models, options, casting, say)


def _to_jax(
    models: "Models", source: "Source", options: ConvertOptions, casting: "Casting", say: Say
) -> Converted:
    from twingrad.convert import folder
    from twingrad.convert.check import with_numbers
    from twingrad.convert.orbax_folder import write_orbax
    from twingrad.convert.source import Values
    from twingrad.convert.to_jax import found_names, plan_to_jax
    from twingrad.convert.torch_source import SafetensorsFile
    from twingrad.convert.writer import write_safetensors

    plan = plan_to_jax(models, source, casting)
    with whole_folder(options.out) as place:
        say(f"{options.out}: {len(plan.outputs)} tensors")
        size = write_safetensors(place / folder.WEIGHTS, plan.outputs)
        if plan.alone:
            write_safetensors(place / folder.TORCH_ONLY, plan.alone, {"format": "pt"})
        say(f"{options.out}: the same for Orbax")
        write_orbax(place / folder.ORBAX, models.jax.tree, SafetensorsFile(place / folder.WEIGHTS))

    def loaded() -> LoadedPair:
        result = SafetensorsFile(options.out / folder.WEIGHTS)
        torch = Values(casting.of(source), found_names(models.torch, source))
        return with_numbers(models, torch, Values.of(result), "jax")

    what = f"{options.out} holds {len(plan.outputs)} tensors of JAX's, {_megabytes(size)}"
    return Converted(
        sentences=[f"{what}, as {folder.WEIGHTS} and as a checkpoint of Orbax.", *plan.notes],
        loaded=loaded,
    )


def _to_torch(models: "Models", options: ConvertOptions, casting: "Casting", say: Say) -> Converted:
    from twingrad.convert import folder
    from twingrad.convert.check import with_numbers
    from twingrad.convert.orbax_folder import OrbaxFolder
    from twingrad.convert.source import Values
    from twingrad.convert.to_torch import plan_to_torch
    from twingrad.convert.torch_source import SafetensorsFile
    from twingrad.convert.writer import write_safetensors

    source = folder.open_jax(options.weights, models.jax.places)
    plan = plan_to_torch(models, source, folder.open_beside(options.weights), casting)
    with whole_folder(options.out) as place:
        say(f"{options.out}: {len(plan.outputs)} tensors")
        copied: AbstractContextManager[None] = nullcontext()
        if isinstance(source, OrbaxFolder):
            copied = source.copied(place / "copy.safetensors")
        with copied:
            size = write_safetensors(place / folder.WEIGHTS, plan.outputs, {"format": "pt"})

    def loaded() -> LoadedPair:
        result = SafetensorsFile(options.out / folder.WEIGHTS)
        saved = models.torch.saved
        names = {name: file for name, file in saved.items() if file in result.stored}
        torch = Values(result, names)
        return with_numbers(models, torch, Values.of(casting.of(source)), "torch")

    what = f"{options.out} holds {len(plan.outputs)} tensors of PyTorch's, {_megabytes(size)}"
    return Converted(sentences=[f"{what}, as {folder.WEIGHTS}.", *plan.notes], loaded=loaded)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _compare(loaded: LoadedPair, options: ConvertOptions, console: Console) -> int:
    """Compare both models with their own checkpoints' numbers, and print the table."""
    from twingrad import judged

    started = time.perf_counter()
    try:
        with progress(console) as say:
            outcomes, notes = judged.compare(loaded, say=say)
    except ValueError as error:
        raise ValueError(
            f"{options.out} is written, and the models cannot be compared: {error}"
        ) from error
    hint = diagnose_hint(shlex.quote(str(options.file)))
    seconds = time.perf_counter() - started
    outcome_tables.comparison(console, loaded.name, outcomes, seconds, hint)
    finding_tables.notes(console, notes)
    return 0 if all(outcome.ok for outcome in outcomes) else 1
