"""What each definition of the twin sources takes on either side, on the same inputs, in float32.

PyTorch runs as it is written, op by op. JAX runs compiled, each definition as one program, and the
clock stops when the result is there. Each framework has a process of its own; samples of the two
take turns. ``python -m bench.definition_times --json bench/results/definitions-cpu.json``.
"""

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import frameworks, machine, programs, records, terminal
from bench.harness.frameworks import Framework
from bench.harness.programs import Program
from bench.speed import statistics
from shared.config import preset

SAMPLES = 11
SHORTEST_S = 5e-3  # a sample is of as many calls as take so long
PRESET, BATCH, LENGTH = "small", 4, 256
WAYS = ("forward", "forward and backward")
# Room and definition -> the part of the model that is called, or the function; and its inputs.
DEFINITIONS: dict[tuple[str, str], tuple[str, str]] = {
    ("gpt2", "reference_attention"): ("reference_attention", "heads"),
    ("gpt2", "fused_attention"): ("fused_attention", "heads"),
    ("gpt2", "CausalSelfAttention"): ("h.0.attn", "features"),
    ("gpt2", "MLP"): ("h.0.mlp", "features"),
    ("gpt2", "Block"): ("h.0", "features"),
    ("gpt2", "GPT2"): ("", "tokens"),
    ("gpt2", "loss_fn"): ("loss_fn", "batch"),
    ("gpt2", "summed_loss"): ("summed_loss", "batch"),
    ("sigmoid_bce", "Neuron"): ("", "x"),
    ("sigmoid_bce", "loss_fn"): ("loss_fn", "batch"),
    ("simple_net", "SimpleNet"): ("", "x"),
    ("simple_net", "loss_fn"): ("loss_fn", "batch"),
}
CHUNK = 256  # positions whose logits ``summed_loss`` has in memory at once


@dataclass(frozen=True)
class Work:
    """A definition on one side: ``run`` of parameters and inputs, and what to give it."""

    run: Callable[..., Any]
    params: Any
    inputs: tuple[Any, ...]


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.definition_times", description=__doc__)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(argv)
    both = frameworks.both()
    rows = _measured(both)
    for row in rows:
        shown = ", ".join(terminal.seconds(row[name]["median_s"]) for name in frameworks.NAMES)
        print(f"{row['room']} {row['definition']}, {row['way']}: {shown}")
    if asked.json:
        settings = {"preset": PRESET, "batch_size": BATCH, "length": LENGTH, "dtype": "float32"}
        content = {
            "environment": machine.environment(both, "cpu"),
            "settings": {**settings, "samples": SAMPLES, "loss_chunk": CHUNK},
            "rows": rows,
        }
        records.write_json(asked.json, content)
    return 0


def _measured(both: frameworks.Frameworks) -> list[dict[str, Any]]:
    """Medians and quartiles of both sides, definition by definition.

    All definitions take turns, and both sides of each: what disturbs the machine for a moment
    disturbs one sample of many, and not all samples of one.
    """
    context = get_context("spawn")
    names = [side.name for side in both]
    pools = {name: ProcessPoolExecutor(1, mp_context=context) for name in names}
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {
        (room, definition, way): {name: [] for name in names}
        for room, definition in DEFINITIONS
        for way in WAYS
    }
    for number in range(SAMPLES):
        for key, samples in found.items():
            for name in names[:: -1 if number % 2 else 1]:
                samples[name].append(pools[name].submit(sample, name, *key).result())
    for pool in pools.values():
        pool.shutdown()
    return [
        {
            **dict(zip(("room", "definition", "way"), key, strict=True)),
            **{name: statistics.summary(taken) for name, taken in samples.items()},
        }
        for key, samples in found.items()
    ]


def sample(name: str, room: str, definition: str, way: str) -> float:
    """Seconds a call takes, of as many calls as a sample is long."""
    call, calls = _ready(name, room, definition, way)
    if calls > 1:
        call()  # the others' turns have emptied the caches
    begun = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begun) / calls


@cache
def _ready(name: str, room: str, definition: str, way: str) -> tuple[Callable[[], None], int]:
    """The call, compiled and warm, and how many of it make a sample."""
    side = frameworks.one(name)
    work = _work(side, room, definition)
    call = (_torch_call if name == "torch" else _jax_call)(work, way == WAYS[1])
    call()
    begun = time.perf_counter()
    call()
    return call, max(1, round(SHORTEST_S / (time.perf_counter() - begun)))


def _program(room: str) -> Program:
    if room != "gpt2":
        return programs.make(room.replace("_", "-"))
    return programs.gpt2(PRESET, size=(BATCH, LENGTH), steps=1)


@cache
def _work(side: Framework, room: str, definition: str) -> Work:
    """The definition at its program's sizes, with parameters and inputs of that program."""
    program = _program(room)
    runtime = side.runtime.configure("float32", "cpu")
    model = program.build(side, runtime)
    model.eval()
    part, inputs = DEFINITIONS[room, definition]
    given = runtime.batch(*_inputs(program, inputs))
    function = getattr(getattr(side, room), part, None)
    if inputs == "heads":
        assert function is not None
        none = model.h[0].attn.attn_dropout
        return Work(lambda model, *qkv: function(*qkv, none), None, given)
    if part == "summed_loss":
        assert function is not None
        return Work(lambda model, *batch: function(model, *batch, CHUNK), model, given)
    if function is not None:
        return Work(lambda model, *batch: function(model, *batch)[0], model, given)
    for word in part.split(".") if part else []:
        model = model[int(word)] if word.isdigit() else getattr(model, word)
    return Work(lambda model, *x: model(*x), model, given)


def _inputs(program: Program, kind: str) -> tuple[np.ndarray, ...]:
    batch = program.batches[0]
    config = preset(PRESET)
    draw = np.random.default_rng(0).standard_normal
    if kind == "features":
        return (draw((BATCH, LENGTH, config.emb_dim)),)
    if kind == "heads":
        shape = (BATCH, LENGTH, config.n_heads, config.emb_dim // config.n_heads)
        return tuple(draw((3, *shape)))
    return batch if kind == "batch" else batch[:1]


def _torch_call(work: Work, backward: bool) -> Callable[[], None]:
    import torch

    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in work.inputs]
    moving = [x for x in inputs if x.requires_grad]
    moving += list(work.params.parameters()) if work.params is not None else []

    def forward() -> None:
        with torch.no_grad():
            work.run(work.params, *inputs)

    def forward_backward() -> None:
        for x in moving:
            x.grad = None
        work.run(work.params, *inputs).sum().backward()

    return forward_backward if backward else forward


def _jax_call(work: Work, backward: bool) -> Callable[[], None]:
    import jax
    import jax.numpy as jnp
    from flax import nnx

    graphdef, params, rest = nnx.split(work.params, nnx.Param, ...)
    floats = tuple(i for i, x in enumerate(work.inputs) if jnp.issubdtype(x.dtype, jnp.floating))

    def run(params: Any, *inputs: Any) -> Any:
        return work.run(nnx.merge(graphdef, params, rest), *inputs)

    def summed(params: Any, *inputs: Any) -> Any:
        return run(params, *inputs).sum()

    # As in PyTorch, of parameters and of inputs.
    derived = jax.value_and_grad(summed, argnums=(0, *(i + 1 for i in floats)))
    compiled = jax.jit(derived if backward else run)
    return lambda: jax.block_until_ready(compiled(params, *work.inputs))


if __name__ == "__main__":
    sys.exit(main())
