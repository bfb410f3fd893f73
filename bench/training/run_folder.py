"""The folder of a training run: its configuration, its metrics, the checkpoints to go on from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from bench.harness import frameworks
from bench.harness.frameworks import Framework
from bench.training.config import FREE, RunConfig
from shared import checkpoint, files
from shared.checkpoint import StoredCheckpoint
from shared.config import AdamWConfig, GPTConfig, TrainConfig, differences, is_number
from shared.corpus import Corpus

CONFIG, TOKENIZER, METRICS, PLOT = "config.json", "tokenizer.json", "metrics.jsonl", "loss.png"
# What every line of the metrics holds.
_FIGURES = {"step", "loss", "grad_norm", "lr", "tokens_per_s"}


def free_folder(name: str) -> Path:
    """``runs/NAME``, or with a number behind it where that is taken."""
    number = 1
    while (folder := Path("runs") / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``; ``ValueError`` if it is not one."""
    return files.read_object(path, "restore what train wrote there")


def stored(out: Path) -> RunConfig:
    """The configuration of the run in ``out``; ``ValueError`` if its file is not one."""
    raw = read_json(out / CONFIG).get("run")
    try:
        assert isinstance(raw, dict)
        raw = raw | {"model": GPTConfig(**raw["model"])}
        optimizer = AdamWConfig(**raw["train"]["optimizer"])
        raw["train"] = TrainConfig(**raw["train"] | {"optimizer": optimizer})
        return RunConfig(**raw)
    except (KeyError, TypeError, AssertionError):
        raise ValueError(
            f"{out / CONFIG} does not describe a run: restore it, or begin another in --out DIR"
        ) from None


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
    stored = read_json(out / CONFIG).get("corpus")
    if not isinstance(stored, dict):
        raise ValueError(f"{out / CONFIG} does not say what data the run is of: restore it")
    if stored.get("sha256") != text.description.get("sha256"):
        raise ValueError(
            f"the data has changed since the run in {out} began: its SHA-256 is "
            f"{text.description.get('sha256')}, that of the run {stored.get('sha256')}; restore "
            "the data, or begin another run"
        )


def newest(
    out: Path, chosen: Sequence[Framework], config: RunConfig, console: Console
) -> dict[str, StoredCheckpoint]:
    """By framework, the checkpoint to go on from; none if the run had not come to its first.

    One framework takes the newest there is, whoever wrote it. Two take the newest step that each
    has a checkpoint of its own for, and if there is none, one and the same.
    """
    folders = {name: out / name / "checkpoints" for name in frameworks.NAMES}
    own = [folders[side.name] for side in chosen]
    if len(own) == 2:
        common = set(checkpoint.steps(own[0])) & set(checkpoint.steps(own[1]))
        for step in sorted(common, reverse=True):
            paths = [folder / f"step-{step:06d}" for folder in own]
            try:
                found = [
                    StoredCheckpoint(path=path, checkpoint=checkpoint.load(path)) for path in paths
                ]
            except ValueError as error:
                console.print(f"Passed over: {escape(str(error))}", soft_wrap=True)
                continue
            return {
                side.name: _checked(one, config) for side, one in zip(chosen, found, strict=True)
            }
    others = [folder for folder in folders.values() if folder not in own]
    newest, passed_over = checkpoint.newest([*own, *others])
    for reason in passed_over:
        console.print(f"Passed over: {escape(reason)}", soft_wrap=True)
    if newest is None and passed_over:
        raise ValueError(f"no checkpoint in {out} is whole: {passed_over[0]}")
    if newest is None:
        return {}
    origin = escape(f"{newest.path}, written by {newest.checkpoint.framework}")
    console.print(f"Going on from {origin}")
    return {side.name: _checked(newest, config) for side in chosen}


def _checked(found: StoredCheckpoint, config: RunConfig) -> StoredCheckpoint:
    stored = found.checkpoint
    different = differences(stored.model, config.model)
    different += differences(stored.train, config.train)
    if different := [text for text in different if text.split()[0] not in FREE]:
        raise ValueError(
            f"the checkpoint of step {stored.step} is of another configuration: "
            f"{'; '.join(different)}; remove it, or restore the run's {CONFIG}"
        )
    return found


def read_metrics(path: Path, step: int) -> list[dict[str, Any]]:
    """The metrics up to ``step``; what a killed run wrote after its last checkpoint is left out.

    Raises ``ValueError`` if the file cannot be read.
    """
    try:
        lines = files.read_bytes(path).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}: restore or remove it") from None
    rows = []
    for line in lines:
        try:
            row = files.parse_json(line)
        except ValueError:
            break  # the line that the run was killed in
        if not _is_row(row):
            break
        if row["step"] <= step:
            rows.append(row)
    return rows


def _is_row(row: Any) -> bool:
    """Whether ``row`` is a step's metrics: numbers, and all of them that are drawn or summed up."""
    if not isinstance(row, dict) or not row.keys() >= _FIGURES:
        return False
    return all(is_number(value) for value in row.values())


def write_json(path: Path, value: dict[str, Any]) -> None:
    """``value`` in ``path``, whole or not at all; ``ValueError`` if it cannot be written."""
    files.write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())
