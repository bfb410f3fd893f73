"""How long the first commands of a newcomer take, from the start of the process to its end.

Each is called twice with a fresh folder for what JAX compiles: the first call fills it, the second
finds it filled. Python keeps bytecode of the sources in both, as it does for everybody who has not
turned that off; the first of the repeated calls may have to write it. Importing the frameworks is
timed beside them, since no call can take less. Every time comes with the cores that other work kept
busy meanwhile: a record of a busy machine is worthless.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from statistics import median

from bench.harness import machine, records
from bench.harness.records import Json, Record
from bench.studies.study import Study, StudyOptions, of_record, shared, twins
from twingrad import compile_cache
from twingrad.environment import environment

REPEATS = 3
FLOORS = {
    "importing PyTorch": "import torch",
    "importing JAX, Flax and optax": "import jax, flax.nnx, optax",
}
# Arguments, and the status that the call ends with: the last is a name that is none.
CALLS: tuple[tuple[tuple[str, ...], int], ...] = (
    (("tensors",), 0),
    (("compare", "sigmoid-bce"), 0),
    (("compare", "simple-net"), 0),
    (("compare", "gpt2", "--preset", "tiny"), 0),
    (("compare",), 0),
    (("mutants", "--only", "gelu-err"), 2),
)
PACKAGES = ("torch", "jax", "jaxlib", "flax", "optax")
# Variables that turn one of the two caches off; many container images set the second.
_TURN_OFF = (compile_cache.SWITCH, compile_cache.JAX_SWITCH, "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class Timed:
    """Seconds of a process, and how many cores other work kept busy meanwhile."""

    seconds: float
    others_cores: float


def markdown(record: Record) -> str:
    """A table of the first and the second call, under the times of the imports."""
    rows = [
        "| | first call | a second one |",
        "|---|---|---|",
    ]
    rows += [f"| {row['name']} alone | {_shown(row['samples'])} | |" for row in record["floors"]]
    rows += [
        f"| twingrad {row['call']} | {_shown(row['first'])} | {_shown(row['second'])} |"
        for row in record["calls"]
    ]
    return "\n".join(rows)


def _shown(samples: Sequence[Mapping[str, float]]) -> str:
    return f"{median(sample['seconds'] for sample in samples):.1f} s"


def measure(options: StudyOptions) -> Record:
    """Time every import and call, in turns, so that a slow minute slows all of them."""
    floors: dict[str, list[Timed]] = {name: [] for name in FLOORS}
    first: list[list[Timed]] = [[] for _ in CALLS]
    second: list[list[Timed]] = [[] for _ in CALLS]
    for _ in range(REPEATS):
        for name, statement in FLOORS.items():
            floors[name].append(_timed(("-c", statement), 0, {}))
        for i, (arguments, status) in enumerate(CALLS):
            with tempfile.TemporaryDirectory(prefix="twingrad-") as folder:
                for samples in (first[i], second[i]):
                    words = ("-m", "bench", *arguments)
                    samples.append(_timed(words, status, {"XDG_CACHE_HOME": folder}))
    # Versions by their metadata: a framework that is loaded here would be of no use.
    versions = {name: version(name) for name in PACKAGES}
    return Record(
        environment("cpu", versions),
        {
            "repeats": REPEATS,
            "floors": [
                {"name": name, "samples": _objects(samples)} for name, samples in floors.items()
            ],
            "calls": [
                {
                    "call": " ".join(arguments),
                    "first": _objects(first[i]),
                    "second": _objects(second[i]),
                }
                for i, (arguments, _) in enumerate(CALLS)
            ],
        },
    )


def _objects(samples: Sequence[Timed]) -> list[dict[str, Json]]:
    return [asdict(sample) for sample in samples]


def _timed(words: Sequence[str], status: int, variables: Mapping[str, str]) -> Timed:
    """Run Python with ``words``; ``RuntimeError`` where it ends with another status.

    Both caches are on, whatever the variables of this process say.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _TURN_OFF}
    load, started = machine.Load(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words],
        cwd=records.ROOT,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode != status:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]}")
    return Timed(seconds, load.others(seconds))


def lines(record: Record) -> Iterator[str]:
    """Every median, a line each."""
    for row in record["floors"]:
        yield f"{_shown(row['samples']):>8}  {row['name']}"
    for row in record["calls"]:
        first, second = _shown(row["first"]), _shown(row["second"])
        yield f"{first:>8}, then {second:>8}  twingrad {row['call']}"


STUDY = Study(
    name="first-look",
    claim="The first commands answer in seconds, and sooner when called again",
    sources=(
        *twins("gpt2", "loss", "optim", "sigmoid_bce", "simple_net", "tensors", "trace", "train"),
        *twins("params", "runtime"),
        *shared("config", "data", "params", "tensors"),
        *("bench/parity/*.py", "bench/harness/*.py", "twingrad/compile_cache.py"),
    ),
    measure=measure,
    lines=lines,
    blocks={"first-look": of_record(markdown)},
)
