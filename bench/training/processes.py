"""The processes that one training run is spread over: who does what, their meeting, their end."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.harness import frameworks as harness_frameworks
from bench.harness.frameworks import Framework
from bench.training.setup import Asked, Beginning
from shared import rendezvous
from shared.config import TrainConfig, require_whole
from shared.rendezvous import Limits, Rendezvous
from shared.world import World

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("bench", "shared", "torch_impl", "jax_impl")


def placed(asked: Asked, world: World, environ: Mapping[str, str]) -> Asked:
    """``asked`` as the processes of ``world`` carry it out together.

    They are all data-parallel where nothing else is asked for, whatever the run was begun with.
    Where torchrun has started them again, they go on from the newest checkpoint. Raises
    ``ValueError``.
    """
    restarts = environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"
    if restarts and asked.out is None:
        raise ValueError(
            "torchrun starts this run again after a failure: name its folder by --out, so that it "
            "finds what it had written"
        )
    is_restarted = environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    return replace(
        asked,
        given={**asked.given, **layout(asked.given, world.size)},
        resume=asked.resume or is_restarted,
    )


def layout(given: Mapping[str, Any], processes: int) -> dict[str, int]:
    """``data_parallel`` and ``sharded`` for so many ``processes``; ``ValueError`` if none fits."""
    for name in ("data_parallel", "sharded"):
        require_whole(name, given.get(name, 1), 1)
    data_parallel, sharded = given.get("data_parallel"), given.get("sharded")
    if sharded is None:
        sharded = 1 if data_parallel is None else max(processes // data_parallel, 1)
    if data_parallel is None:
        data_parallel = max(processes // sharded, 1)
    if data_parallel * sharded != processes:
        raise ValueError(
            f"--data-parallel {data_parallel} times --sharded {sharded} make "
            f"{data_parallel * sharded} processes, but {processes} were started: start as many, by "
            "--processes, torchrun or srun"
        )
    return {"data_parallel": data_parallel, "sharded": sharded}


def described(config: TrainConfig) -> str:
    """Who holds what, in words."""
    replicas, shards = config.data_parallel, config.sharded
    if shards == 1:
        return f"{replicas} processes, each with the whole model and a part of every batch"
    groups = f"{replicas} groups of " if replicas > 1 else ""
    return f"{groups}{shards} processes that hold the model together, a part of every batch each"


@contextmanager
def excused(asked: Asked, world: World) -> Iterator[None]:
    """Within, a ``ValueError`` also tells the other processes why this one cannot begin."""
    try:
        yield
    except ValueError as error:
        rendezvous.meet(world, {}, problem=str(error), limits=_limits(asked), port=_port(world))
        raise


def meet(asked: Asked, start: Beginning, world: World, console: Console) -> Rendezvous:
    """Meet the other processes; ``ValueError`` on all if they were not all started alike."""

    def print_end(sentence: str, kept: str | None) -> None:
        console.show_cursor()  # the progress bar had hidden it
        last = f"the newest whole checkpoint is {kept}" if kept else "there is no checkpoint yet"
        again = f"start it again with --out {start.out} --resume" if kept else "start it again"
        print(f"twingrad: {sentence}; {last}: {again}", file=sys.stderr, flush=True)

    return rendezvous.meet(
        world,
        _facts(asked, start) if world.size > 1 else {},
        port=_port(world),
        addresses=len(harness_frameworks.NAMES) if asked.framework == "both" else 1,
        limits=_limits(asked),
        on_end=print_end,
    )


def _limits(asked: Asked) -> Limits:
    return Limits(patience=asked.patience)


def _port(world: World) -> int:
    """Where the processes meet: beside the port of torchrun, which listens there itself."""
    return world.port + ("TORCHELASTIC_RUN_ID" in os.environ)


def _facts(asked: Asked, start: Beginning) -> dict[str, Any]:
    """All in which two processes of a run must not differ, by the names that users know."""
    tokenizer = json.dumps(start.tokenizer.to_json(), sort_keys=True).encode()
    frameworks = harness_frameworks.NAMES if asked.framework == "both" else (asked.framework,)
    return {
        "framework": asked.framework,
        **dict(_flat(asdict(start.config))),
        "device": asked.device,
        "stop_after": asked.stop_after,
        "out": str(start.out),
        "checkpoint": [str(found.path) for found in start.found.values()],
        "data_sha256": start.corpus.description.get("sha256"),
        "tokenizer_sha256": hashlib.sha256(tokenizer).hexdigest(),
        **{name: version(name) for name in ("numpy", *frameworks)},
        "code_sha256": _code_digest(),
    }


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield name, value


def _code_digest() -> str:
    """SHA-256 of the sources that a training runs through."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((_ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(_ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def join(chosen: Sequence[Framework], together: Rendezvous, device: str) -> str:
    """Have each framework find the other processes by its own means; the device that they use."""
    if together.world.size > 1:
        # Before they are asked for their devices: JAX starts with that, and then it is too late.
        for side, address in zip(chosen, together.addresses, strict=True):
            side.distributed.join(together.world, address, device)
    return harness_frameworks.pick_device(device, tuple(chosen))


def part(chosen: Sequence[Framework], together: Rendezvous) -> None:
    """Take leave of the other processes, with nothing left to be done."""
    if together.world.size > 1:
        for side in chosen:
            side.distributed.leave()
    together.leave()
