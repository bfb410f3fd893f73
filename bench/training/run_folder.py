"""The folder of a training run: its configuration, its data, the checkpoints to go on from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench.harness import frameworks
from bench.harness.frameworks import Framework
from bench.training.config import RESUMABLE, RunConfig, differences
from shared import checkpoint, files
from shared.checkpoint import StoredCheckpoint
from shared.config import AdamWConfig, GPTConfig, TrainConfig
from shared.corpus import Corpus
from twingrad.files import write_json

CONFIG, TOKENIZER, PLOT = "config.json", "tokenizer.json", "loss.png"


def free_folder(name: str) -> Path:
    """``runs/NAME``, or with a number behind it where that is taken."""
    number = 1
    while (folder := Path("runs") / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder


def read_json(path: Path) -> dict[str, object]:
    """The object in ``path``; ``ValueError`` if it is not one."""
    return files.read_object(path, "restore what train wrote there")


def stored(out: Path) -> RunConfig:
    """The configuration of the run in ``out``; ``ValueError`` if its file is not one."""
    refusal = ValueError(
        f"{out / CONFIG} does not describe a run: restore it, or begin another in --out DIR"
    )
    values = read_json(out / CONFIG).get("run")
    if not isinstance(values, dict) or values.keys() != {field.name for field in fields(RunConfig)}:
        raise refusal
    try:
        optimizer = AdamWConfig(**values["train"]["optimizer"])
        train = TrainConfig(**values["train"] | {"optimizer": optimizer})
        return RunConfig(**values | {"model": GPTConfig(**values["model"]), "train": train})
    except (KeyError, TypeError):
        raise refusal from None


def write(out: Path, config: RunConfig, corpus: Mapping[str, object], step: int) -> None:
    """Write the configuration of the run in ``out`` and what is known of its data.

    ``earlier_horizons`` are the lengths that it was planned with before, each with the last step
    whose learning rate followed from it.
    """
    path = out / CONFIG
    earlier: list[object] = []
    if path.exists():
        horizons = read_json(path).get("earlier_horizons")
        earlier += horizons if isinstance(horizons, list) else []
        if (steps := stored(out).steps) != config.steps:
            earlier.append({"steps": steps, "until_step": step})
    described = {"run": asdict(config), "corpus": dict(corpus)}
    write_json(path, described | ({"earlier_horizons": earlier} if earlier else {}))


def refuse_links(out: Path) -> None:
    """Refuse a run folder through whose links what is written would end up elsewhere."""
    for folder in (out, *(out / name for name in frameworks.NAMES)):
        for path in sorted(folder.glob("*")):
            if path.is_symlink():
                raise ValueError(
                    f"{path} is a link, and a run writes inside its own folder: put there what it "
                    "leads to, or make the whole folder a link"
                )


def check_data(out: Path, text: Corpus) -> None:
    """Refuse to resume on other data than the run was begun with."""
    began_with = read_json(out / CONFIG).get("corpus")
    if not isinstance(began_with, dict):
        raise ValueError(f"{out / CONFIG} does not say what data the run is of: restore it")
    if began_with.get("sha256") != text.description.get("sha256"):
        raise ValueError(
            f"the data has changed since the run in {out} began: its SHA-256 is "
            f"{text.description.get('sha256')}, that of the run {began_with.get('sha256')}; "
            "restore the data, or begin another run"
        )


def newest(
    out: Path, chosen: Sequence[Framework], config: RunConfig, console: Console
) -> dict[str, StoredCheckpoint]:
    """By framework, the checkpoint to go on from; none if the run had not come to its first.

    One framework takes the newest there is, whoever wrote it. Two take the newest step that each
    has a checkpoint of its own for, and if there is none, one and the same.
    """
    folders = {name: out / name / "checkpoints" for name in frameworks.NAMES}
    first = [folders[framework.name] for framework in chosen]
    if len(first) == 2 and (pair := _newest_pair(first, console)):
        names = (framework.name for framework in chosen)
        return {name: _checked(own, config) for name, own in zip(names, pair, strict=True)}
    others = [folder for folder in folders.values() if folder not in first]
    newest, passed_over = checkpoint.newest([*first, *others])
    for reason in passed_over:
        _tell_passed_over(reason, console)
    if newest is None and passed_over:
        raise ValueError(f"no checkpoint in {out} is whole: {passed_over[0]}")
    if newest is None:
        return {}
    origin = escape(f"{newest.path}, written by {newest.checkpoint.framework}")
    console.print(f"Going on from {origin}")
    return {framework.name: _checked(newest, config) for framework in chosen}


def _newest_pair(folders: Sequence[Path], console: Console) -> list[StoredCheckpoint]:
    """Checkpoints of the newest step of which both ``folders`` have a whole one; else none."""
    common = set(checkpoint.steps(folders[0])) & set(checkpoint.steps(folders[1]))
    for step in sorted(common, reverse=True):
        paths = [folder / f"step-{step:06d}" for folder in folders]
        try:
            return [StoredCheckpoint(path=path, checkpoint=checkpoint.load(path)) for path in paths]
        except ValueError as error:
            _tell_passed_over(str(error), console)
    return []


def _tell_passed_over(reason: str, console: Console) -> None:
    console.print(f"Passed over: {escape(reason)}", soft_wrap=True)


def _checked(candidate: StoredCheckpoint, config: RunConfig) -> StoredCheckpoint:
    """``candidate``; ``ValueError`` if it is of another configuration than ``config``."""
    stored = candidate.checkpoint
    different = [
        *differences(stored.model, config.model),
        *differences(stored.train, config.train, RESUMABLE),
    ]
    if different:
        raise ValueError(
            f"the checkpoint of step {stored.step} is of another configuration: "
            f"{'; '.join(map(str, different))}; remove it, or restore the run's {CONFIG}"
        )
    return candidate
