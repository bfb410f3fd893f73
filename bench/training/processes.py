"""The processes of one training run: their layout, how they meet, and how they leave."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from bench.harness import frameworks
from bench.harness.frameworks import Framework
from bench.training import run_folder
from bench.training.config import RunConfig, RunSettings, changed, resolve
from bench.training.setup import RunSetup, TrainOptions
from shared import rendezvous
from shared.config import GPT_CONFIG_124M, TrainConfig, require_whole
from shared.rendezvous import Limits, Rendezvous
from shared.world import World
from twingrad.printable import printable

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("bench", "shared", "torch_impl", "jax_impl")


def resolve_layout(options: TrainOptions, world: World, environ: Mapping[str, str]) -> TrainOptions:
    """The options with ``data_parallel`` and ``sharded`` for the processes of ``world``.

    They are all data-parallel where nothing else is asked for, whatever the run was begun with.
    Where torchrun has started them again, they go on from the newest checkpoint. Raises
    ``ValueError``.
    """
    restarts = environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"
    if restarts and options.out is None:
        raise ValueError(
            "torchrun starts this run again after a failure: name its folder by --out, so that it "
            "finds what it had written"
        )
    is_restarted = environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    data_parallel, sharded = split_processes(options.settings, world.size)
    return replace(
        options,
        settings=replace(options.settings, data_parallel=data_parallel, sharded=sharded),
        resume=options.resume or is_restarted,
        begin=options.begin or is_restarted,
    )


def split_processes(settings: RunSettings, processes: int) -> tuple[int, int]:
    """``data_parallel`` and ``sharded`` of so many ``processes``; ``ValueError`` if none fits."""
    data_parallel, sharded = settings.data_parallel, settings.sharded
    for name, size in (("data_parallel", data_parallel), ("sharded", sharded)):
        require_whole(name, 1 if size is None else size, 1)
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
    return data_parallel, sharded


def require_fit(options: TrainOptions, processes: int) -> None:
    """Raise ``ValueError`` unless a run of ``options`` can be divided among so many ``processes``.

    Asked before any of them is started. Those know more, and refuse what is not seen here.
    """
    settings, out = options.settings, options.out
    data_parallel, sharded = split_processes(settings, processes)
    layout = RunSettings(data_parallel=data_parallel, sharded=sharded)
    if out is not None and (out / run_folder.CONFIG).exists():
        changed(run_folder.stored(out), layout)
        return
    if settings.init is None:
        resolve(replace(settings, data_parallel=data_parallel, sharded=sharded))
        return
    batch = replace(layout, batch_size=settings.batch_size, micro_batches=settings.micro_batches)
    resolve(batch, GPT_CONFIG_124M)  # another model has the same batch


def described(config: TrainConfig) -> str:
    """A sentence's part that says how the processes divide the model and the batch."""
    replicas, shards = config.data_parallel, config.sharded
    if shards == 1:
        return f"{replicas} processes, each with the whole model and a part of every batch"
    groups = f"{replicas} groups of " if replicas > 1 else ""
    return f"{groups}{shards} processes that hold the model together, a part of every batch each"


@contextmanager
def report_setup_error(options: TrainOptions, out: Path, world: World) -> Iterator[None]:
    """Tell the other processes of a ``ValueError`` within, so that none waits for this one."""
    try:
        yield
    except ValueError as error:
        try:
            with _token(out, world) as token:
                limits, port = _limits(options), _port(world)
                rendezvous.meet(world, {}, token, problem=str(error), limits=limits, port=port)
        except ValueError as told:  # the same on all, or why the others could not be told
            if str(error) not in str(told):
                raise ValueError(f"{error}; {told}") from None
            raise
        raise


def meet(options: TrainOptions, setup: RunSetup, world: World, console: Console) -> Rendezvous:
    """Meet the other processes; ``ValueError`` on all if they were not all started alike."""

    def print_end(sentence: str, kept: str | None) -> None:
        console.show_cursor()  # the progress bar had hidden it
        last = f"the newest whole checkpoint is {kept}" if kept else "there is no checkpoint yet"
        again = f"start it again with --out {setup.out} --resume" if kept else "start it again"
        text = printable(f"twingrad: {sentence}; {last}: {again}")
        print(text, file=sys.stderr, flush=True)

    with _token(setup.out, world) as token:
        return rendezvous.meet(
            world,
            RunFacts.of(options, setup).to_json() if world.size > 1 else {},
            token,
            port=_port(world),
            addresses=len(options.frameworks),
            limits=_limits(options),
            on_end=print_end,
        )


def _token(out: Path, world: World) -> AbstractContextManager[Callable[[], str]]:
    """What gives the token of the run in ``out``; a process that is alone needs none."""
    if world.size == 1:
        return nullcontext(str)
    return rendezvous.token.agreed(out, world.rank, os.environ)


def _limits(options: TrainOptions) -> Limits:
    return Limits(patience=options.patience)


def _port(world: World) -> int:
    """The port at which the processes meet: under torchrun the next one, as it listens itself."""
    return world.port + ("TORCHELASTIC_RUN_ID" in os.environ)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Everything in which two processes of a run must not differ."""

    framework: str
    config: RunConfig
    device: str
    stop_after: int | None
    out: str
    checkpoint: list[str]
    data_sha256: object
    tokenizer_sha256: str
    versions: dict[str, str]
    code_sha256: str

    @classmethod
    def of(cls, options: TrainOptions, setup: RunSetup) -> "RunFacts":
        """The facts of this process."""
        tokenizer = json.dumps(setup.tokenizer.to_json(), sort_keys=True).encode()
        return cls(
            framework=options.framework or frameworks.default_choice(),
            config=setup.config,
            device=options.device,
            stop_after=options.stop_after,
            out=str(setup.out),
            checkpoint=[str(stored.path) for stored in setup.checkpoints.values()],
            data_sha256=setup.corpus.description.get("sha256"),
            tokenizer_sha256=hashlib.sha256(tokenizer).hexdigest(),
            versions={name: version(name) for name in ("numpy", *options.frameworks)},
            code_sha256=_code_digest(),
        )

    def to_json(self) -> dict[str, object]:
        """Each fact by the name that users know, settings and versions among them."""
        return dict(_flat(asdict(self)))


def _flat(facts: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in facts.items():
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


def join(chosen: Sequence[Framework], meeting: Rendezvous, device: str) -> str:
    """Have each framework find the other processes by its own means; the device that they use."""
    if meeting.world.size > 1:
        # Before they are asked for their devices: JAX starts with that, and then it is too late.
        for framework, address in zip(chosen, meeting.addresses, strict=True):
            framework.distributed.join(meeting.world, address, device)
    return frameworks.pick_device(device, tuple(chosen))


def leave(chosen: Sequence[Framework], meeting: Rendezvous) -> None:
    """Leave the other processes, with nothing left to be done."""
    if meeting.world.size > 1:
        for framework in chosen:
            framework.distributed.leave()
    meeting.leave()
