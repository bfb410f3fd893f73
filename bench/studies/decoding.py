"""What a token costs at each position, with the cache and without it, in both frameworks.

``python -m bench.decoding --json FILE`` measures it and writes the record. Each framework works in
a process of its own, and while one works the other waits: they would fight over the cores. Anything
else that runs fights too, and costs PyTorch most, whose threads wait for each other: a record holds
the machine's load before and after, and is good for nothing if that is over the number of cores.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.harness import frameworks, machine, programs, records, terminal
from bench.harness.frameworks import Framework
from bench.harness.records import load
from shared.config import GPT_CONFIG_124M, GPTConfig


def decoding(argument: str) -> str:
    """Time a token at the first and the last position, cached, and what attention must cost."""
    lines = [
        "| model | | first position | last position | growth | growth of the bytes to read "
        "| last position without a cache |",
        "|---|---|---|---|---|---|---|",
    ]
    for model in load(argument)["models"]:
        for name in frameworks.NAMES:
            own = [point for point in model["points"] if point["framework"] == name]
            cached = [point for point in own if point["way"] == "cached"]
            whole = [point for point in own if point["way"] == "uncached"]
            fit = {fit["framework"]: fit for fit in model["fits"]}[name]
            first, last = (1e3 * points["median_s"] for points in (cached[0], cached[-1]))
            lines.append(
                f"| {model['model']} | {terminal.NAMES[name]} | {first:.2f} ms | {last:.2f} ms | "
                f"{fit['growth']:.2f}× | {model['needed']['growth_by_bytes']:.2f}× | "
                f"{1e3 * whole[-1]['median_s']:.1f} ms |"
            )
    return "\n".join(lines)


WAYS = ("cached", "uncached")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A model, and where it is timed: ``steps`` tokens from each position, ``rounds`` times."""

    name: str
    config: GPTConfig
    cached: range
    uncached: tuple[int, ...]
    steps: int
    rounds: int


PLANS = (
    Plan(
        name="4 layers, width 256",
        config=GPTConfig(vocab_size=1024, emb_dim=256, n_heads=4, n_layers=4),
        cached=range(0, 1024, 72),
        uncached=(15, 127, 511, 1023),
        steps=16,
        rounds=9,
    ),
    Plan(
        name="124m",
        config=GPT_CONFIG_124M,
        cached=range(0, 1024, 255),
        uncached=(15, 255, 1023),
        steps=4,
        rounds=5,
    ),
)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.decoding", description=__doc__)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(argv)
    pair = frameworks.both()
    device = frameworks.pick_device("auto", pair)
    load = [os.getloadavg()[0]]
    models = [measure(plan, device) for plan in PLANS]
    load.append(os.getloadavg()[0])
    print(f"load of the machine {load[0]:.1f} before, {load[1]:.1f} after")
    for model in models:
        _print(model)
    if asked.json:
        environment = machine.environment(pair, device) | {"load": load}
        content = {"environment": environment, "models": models}
        records.write_json(asked.json, content)
    return 0


def measure(plan: Plan, device: str) -> dict[str, Any]:
    """Seconds a token takes, by framework, way and position, and the lines through them."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    workers = []
    for name in frameworks.NAMES:
        pipes[name], theirs = context.Pipe()
        workers.append(context.Process(target=_work, args=(name, plan, device, theirs)))
        workers[-1].start()
        theirs.close()
    try:
        times = _interleaved(plan, pipes)
    finally:
        for pipe in pipes.values():
            pipe.close()
        for worker in workers:
            worker.join()
    points = [
        {"framework": name, "way": way, "position": position, "median_s": median(chunks)}
        for (name, way, position), chunks in times.items()
    ]
    return {
        "model": plan.name,
        "steps": plan.steps,
        "rounds": plan.rounds,
        "needed": needed(plan.config),
        "fits": [_fit(name, points) for name in frameworks.NAMES],
        "points": points,
    }


def needed(config: GPTConfig) -> dict[str, float]:
    """What a token costs in float32 by counting: attention for each position, and all the rest."""
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


def _fit(name: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    """The line through a framework's cached times; ``growth`` is its last over its first."""
    own = [p for p in points if (p["framework"], p["way"]) == (name, "cached")]
    slope, start = np.polyfit([p["position"] for p in own], [p["median_s"] for p in own], 1)
    end = start + slope * own[-1]["position"]
    return {
        "framework": name,
        "start_s": float(start),
        "slope_s_a_position": float(slope),
        "growth": float(end / start),
    }


def _interleaved(
    plan: Plan, pipes: dict[str, Connection]
) -> dict[tuple[str, str, int], list[float]]:
    """Seconds a token of every chunk, taken in turns, so that a slow minute slows all of them."""
    jobs = [
        (name, way, position)
        for way in WAYS
        for position in getattr(plan, way)
        for name in frameworks.NAMES
    ]
    times: dict[tuple[str, str, int], list[float]] = {job: [] for job in jobs}
    for turn in range(plan.rounds + 1):
        for name, way, position in jobs:
            pipes[name].send((way, position))
            seconds = pipes[name].recv()
            if turn:  # the first is for compiling and for the first touch of memory
                times[name, way, position].append(seconds)
    return times


def _work(name: str, plan: Plan, device: str, pipe: Connection) -> None:
    """Answer each (way, position) with the seconds that one token took there."""
    side = frameworks.one(name)
    runtime = side.runtime.configure("float32", device)
    program = programs.gpt2(config=plan.config, steps=1)
    model = program.build(side, runtime)
    model.eval()
    step, forward = _functions(side, model, runtime)
    while True:
        try:
            way, position = pipe.recv()
        except EOFError:
            return
        # The last position has no room for more than one.
        count = min(plan.steps, plan.config.context_length - position) if way == "cached" else 1
        begun = time.perf_counter()
        for i in range(count):
            step(position + i) if way == "cached" else forward(position)
        pipe.send((time.perf_counter() - begun) / count)


def _functions(
    side: Framework, model: Any, runtime: Any
) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """The logits at a position, by one step over a cache in use so far, or by the whole forward.

    What the cache holds does not change what a step costs, so it starts as zeros.
    """
    length = model.wpe.num_embeddings
    decode = side.decoder(model, runtime, side.generate.new_cache(model, 1, length))
    logits = side.last_logits(model)
    whole = np.zeros((1, length), np.int64)

    # Both bring the logits to NumPy, as ``generate`` does, so that a step ends when it has ended.
    def step(position: int) -> None:
        batch = runtime.batch(whole[:, :1], np.array([[position]]), np.array([0]))
        side.params.to_numpy(decode(*batch))

    def forward(position: int) -> None:
        side.params.to_numpy(logits(*runtime.batch(whole[:, : position + 1])))

    return step, forward


def _print(model: dict[str, Any]) -> None:
    print(f"{model['model']}: milliseconds a token")
    for way in WAYS:
        points = [p for p in model["points"] if p["way"] == way]
        for position in dict.fromkeys(p["position"] for p in points):
            here = {p["framework"]: p["median_s"] for p in points if p["position"] == position}
            said = "  ".join(f"{name} {1e3 * here[name]:9.2f}" for name in frameworks.NAMES)
            print(f"  {way:>8} at {position:4}: {said}")
    needed = model["needed"]
    for fit in model["fits"]:
        print(
            f"  {fit['framework']}: {1e3 * fit['start_s']:.2f} ms + "
            f"{1e6 * fit['slope_s_a_position']:.2f} µs a position: the last costs "
            f"{fit['growth']:.2f} times the first"
        )
    print(
        f"  attention makes it {needed['growth_by_bytes']:.2f} times by bytes to read, "
        f"{needed['growth_by_flops']:.2f} times by arithmetic"
    )


if __name__ == "__main__":
    sys.exit(main())
