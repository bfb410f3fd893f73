"""Time of a token at each position, with the cache and without it, in both frameworks.

Each framework works in a process of its own, and while one works the other waits: they would fight
over the cores. Anything else that runs fights too, and costs PyTorch most, whose threads wait for
each other: a record holds the machine's load before and after, and is worthless if that is over the
number of cores.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from statistics import median

import numpy as np

from bench.harness import frameworks, machine, programs, terminal
from bench.harness.foreign import Model
from bench.harness.frameworks import Framework, Runtime
from bench.harness.records import Json, Record
from bench.studies.study import Study, StudyOptions, of_record, shared, twins
from shared.config import GPT_CONFIG_124M, GPTConfig
from twingrad import lifeline


def markdown(record: Record) -> str:
    """A table of times a token at the first and the last position, and their growth."""
    lines = [
        "| model | | first position | last position | growth | growth of the bytes to read "
        "| last position without a cache |",
        "|---|---|---|---|---|---|---|",
    ]
    for model in record["models"]:
        for name in frameworks.NAMES:
            points = [point for point in model["points"] if point["framework"] == name]
            cached = [point for point in points if point["way"] == "cached"]
            whole = [point for point in points if point["way"] == "uncached"]
            fit = {fit["framework"]: fit for fit in model["fits"]}[name]
            first, last = (1e3 * point["median_s"] for point in (cached[0], cached[-1]))
            lines.append(
                f"| {model['model']} | {terminal.NAMES[name]} | {first:.2f} ms | {last:.2f} ms | "
                f"{fit['growth']:.2f}× | {model['needed']['growth_by_bytes']:.2f}× | "
                f"{1e3 * whole[-1]['median_s']:.1f} ms |"
            )
    return "\n".join(lines)


WAYS = ("cached", "uncached")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A model, and where it is timed: ``steps`` tokens from each position, ``rounds`` times."""

    name: str
    config: GPTConfig
    cached: range
    uncached: tuple[int, ...]
    steps: int
    rounds: int


TIMINGS = (
    Timing(
        name="4 layers, width 256",
        config=GPTConfig(vocab_size=1024, emb_dim=256, n_heads=4, n_layers=4),
        cached=range(0, 1024, 72),
        uncached=(15, 127, 511, 1023),
        steps=16,
        rounds=9,
    ),
    Timing(
        name="124m",
        config=GPT_CONFIG_124M,
        cached=range(0, 1024, 255),
        uncached=(15, 255, 1023),
        steps=4,
        rounds=5,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """The median time of a token at one position."""

    framework: str
    way: str
    position: int
    median_s: float


def measure(options: StudyOptions) -> Record:
    """Time every model in both frameworks."""
    pair = frameworks.both()
    device = frameworks.pick_device("auto", pair)
    load = [os.getloadavg()[0]]
    models = [_measured(timing, device) for timing in TIMINGS]
    load.append(os.getloadavg()[0])
    environment = {**machine.environment(pair, device), "load": load}
    return Record.of({"environment": environment, "models": models}, "decoding")


def _measured(timing: Timing, device: str) -> dict[str, Json]:
    """Seconds a token takes, by framework, way and position, and the lines through them."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection[tuple[str, int], float]] = {}
    workers = []
    for name in frameworks.NAMES:
        pipes[name], worker_end = context.Pipe()
        workers.append(context.Process(target=_work, args=(name, timing, device, worker_end)))
        workers[-1].start()
        worker_end.close()
    try:
        times = _interleaved(timing, pipes)
    finally:
        for pipe in pipes.values():
            pipe.close()
        for worker in workers:
            worker.join()
    points = [
        Point(framework=name, way=way, position=position, median_s=median(chunks))
        for (name, way, position), chunks in times.items()
    ]
    return {
        "model": timing.name,
        "steps": timing.steps,
        "rounds": timing.rounds,
        "needed": needed(timing.config),
        "fits": [_fit(name, points) for name in frameworks.NAMES],
        "points": [asdict(point) for point in points],
    }


def needed(config: GPTConfig) -> dict[str, float]:
    """Arithmetic and bytes of a token in float32: attention for each position, and all the rest."""
    L, C = config.n_layers, config.emb_dim
    weights = 12 * L * C * C + config.vocab_size * C
    attention = {"flops": 4 * L * C, "bytes": 2 * L * C * 4}
    rest = {"flops": 2 * weights, "bytes": 4 * weights}
    end = config.context_length
    return {
        **{f"attention_{unit}_a_position": count for unit, count in attention.items()},
        **{f"other_{unit}": count for unit, count in rest.items()},
        **{f"growth_by_{unit}": 1 + end * attention[unit] / rest[unit] for unit in rest},
    }


def _fit(name: str, points: list[Point]) -> dict[str, Json]:
    """The line through a framework's cached times; ``growth`` is its last over its first."""
    cached = [point for point in points if (point.framework, point.way) == (name, "cached")]
    slope, start = np.polyfit(
        [point.position for point in cached], [point.median_s for point in cached], 1
    )
    end = start + slope * cached[-1].position
    return {
        "framework": name,
        "start_s": float(start),
        "slope_s_a_position": float(slope),
        "growth": float(end / start),
    }


def _interleaved(
    timing: Timing, pipes: "dict[str, Connection[tuple[str, int], float]]"
) -> dict[tuple[str, str, int], list[float]]:
    """Seconds a token of every chunk, taken in turns, so that a slow minute slows all of them."""
    jobs = [
        (name, way, position)
        for way, positions in (("cached", timing.cached), ("uncached", timing.uncached))
        for position in positions
        for name in frameworks.NAMES
    ]
    times: dict[tuple[str, str, int], list[float]] = {job: [] for job in jobs}
    for turn in range(timing.rounds + 1):
        for name, way, position in jobs:
            pipes[name].send((way, position))
            seconds = pipes[name].recv()
            if turn:  # the first is for compiling and for the first touch of memory
                times[name, way, position].append(seconds)
    return times


def _work(
    name: str, timing: Timing, device: str, pipe: "Connection[float, tuple[str, int]]"
) -> None:
    """Answer each (way, position) with the seconds that one token took there."""
    lifeline.end_with_parent()
    framework = frameworks.one(name)
    runtime = framework.runtime.configure("float32", device)
    program = programs.gpt2(config=timing.config, steps=1)
    model = program.build(framework, runtime)
    model.eval()
    step, forward = _functions(framework, model, runtime)
    while True:
        try:
            way, position = pipe.recv()
        except EOFError:
            return
        # The last position has no room for more than one.
        count = min(timing.steps, timing.config.context_length - position) if way == "cached" else 1
        begun = time.perf_counter()
        for i in range(count):
            step(position + i) if way == "cached" else forward(position)
        pipe.send((time.perf_counter() - begun) / count)


def _functions(
    framework: Framework, model: Model, runtime: Runtime
) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """The logits at a position, by one step over a cache in use so far, or by the whole forward.

    What the cache holds does not change what a step costs, so it starts as zeros.
    """
    length = model.wpe.num_embeddings
    decode = framework.decoder(model, runtime, framework.generate.new_cache(model, 1, length))
    logits = framework.last_logits(model)
    whole = np.zeros((1, length), np.int64)

    # Both bring the logits to NumPy, as ``generate`` does, so that a step ends when it has ended.
    def step(position: int) -> None:
        batch = runtime.batch(whole[:, :1], np.array([[position]]), np.array([0]))
        framework.params.to_numpy(decode(*batch))

    def forward(position: int) -> None:
        framework.params.to_numpy(logits(*runtime.batch(whole[:, : position + 1])))

    return step, forward


def lines(record: Record) -> Iterator[str]:
    """The load of the machine, every time, and the line through the cached ones."""
    before, after = record.as_object()["environment"]["load"]
    yield f"load of the machine {before:.1f} before, {after:.1f} after"
    for model in record["models"]:
        yield f"{model['model']}: milliseconds a token"
        for way in WAYS:
            points = [p for p in model["points"] if p["way"] == way]
            for position in dict.fromkeys(p["position"] for p in points):
                here = {p["framework"]: p["median_s"] for p in points if p["position"] == position}
                times = "  ".join(f"{name} {1e3 * here[name]:9.2f}" for name in frameworks.NAMES)
                yield f"  {way:>8} at {position:4}: {times}"
        for fit in model["fits"]:
            yield (
                f"  {fit['framework']}: {1e3 * fit['start_s']:.2f} ms + "
                f"{1e6 * fit['slope_s_a_position']:.2f} µs a position: the last costs "
                f"{fit['growth']:.2f} times the first"
            )
        growth = model["needed"]
        yield (
            f"  attention makes it {growth['growth_by_bytes']:.2f} times by bytes to read, "
            f"{growth['growth_by_flops']:.2f} times by arithmetic"
        )


STUDY = Study(
    name="decoding",
    claim="With a cache, a token costs no more at later positions than attention must",
    sources=(*twins("gpt2", "generate", "params", "runtime"), *shared("config")),
    measure=measure,
    lines=lines,
    blocks={"decoding": of_record(markdown)},
)
