"""Time of each definition of the twin sources in either framework, on the same inputs, in float32.

PyTorch runs as it is written, op by op. JAX runs compiled, each definition as one program, and the
clock stops when the result is there. Each framework has a process of its own; samples of the two
take turns.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context

import numpy as np

from bench.harness import frameworks, machine, programs, terminal
from bench.harness.foreign import Array, Native, Tensor, TensorFn
from bench.harness.frameworks import Framework
from bench.harness.programs import Program
from bench.harness.records import Json, Record
from bench.harness.side_process import begin_worker
from bench.speed import statistics
from bench.studies.study import Study, StudyOptions, shared, twins
from shared.config import preset

SAMPLES = 11
SHORTEST_S = 5e-3  # a sample is of as many calls as take so long
PRESET, BATCH, LENGTH = "small", 4, 256
WAYS = ("forward", "forward and backward")
# File and definition -> the part of the model that is called, or the function; and its inputs.
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
    """A definition in one framework: ``run`` of parameters and inputs, and what to give it."""

    run: TensorFn
    params: Native
    inputs: tuple[Tensor, ...]


def measure(options: StudyOptions) -> Record:
    """Time every definition on both frameworks."""
    both = frameworks.both()
    settings = {"preset": PRESET, "batch_size": BATCH, "length": LENGTH, "dtype": "float32"}
    body = {
        "settings": {**settings, "samples": SAMPLES, "loss_chunk": CHUNK},
        "rows": _measured(both),
    }
    return Record(machine.environment(both, "cpu"), body)


def lines(record: Record) -> Iterator[str]:
    """The medians of both frameworks, a definition a line."""
    for row in record["rows"]:
        shown = ", ".join(terminal.seconds(row[name]["median_s"]) for name in frameworks.NAMES)
        yield f"{row['room']} {row['definition']}, {row['way']}: {shown}"


def _measured(both: frameworks.Frameworks) -> list[dict[str, Json]]:
    """Medians and quartiles of both frameworks, definition by definition.

    All definitions take turns, and both frameworks of each: what disturbs the machine for a moment
    disturbs one sample of many, and not all samples of one.
    """
    context = get_context("spawn")
    names = [framework.name for framework in both]
    pools = {name: ProcessPoolExecutor(1, context, begin_worker) for name in names}
    times: dict[tuple[str, str, str], dict[str, list[float]]] = {
        (file, definition, way): {name: [] for name in names}
        for file, definition in DEFINITIONS
        for way in WAYS
    }
    for number in range(SAMPLES):
        for key, samples in times.items():
            for name in names[:: -1 if number % 2 else 1]:
                samples[name].append(pools[name].submit(sample, name, *key).result())
    for pool in pools.values():
        pool.shutdown()
    return [
        {
            **dict(zip(("room", "definition", "way"), key, strict=True)),
            **{name: asdict(statistics.summary(taken)) for name, taken in samples.items()},
        }
        for key, samples in times.items()
    ]


def sample(name: str, file: str, definition: str, way: str) -> float:
    """Seconds a call takes, of as many calls as a sample is long."""
    call, calls = _ready(name, file, definition, way)
    if calls > 1:
        call()  # the others' turns have emptied the caches
    begun = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begun) / calls


@cache
def _ready(name: str, file: str, definition: str, way: str) -> tuple[Callable[[], None], int]:
    """The call, compiled and warm, and how many of it make a sample."""
    framework = frameworks.one(name)
    work = _work(framework, file, definition)
    call = (_torch_call if name == "torch" else _jax_call)(work, way == WAYS[1])
    call()
    begun = time.perf_counter()
    call()
    return call, max(1, round(SHORTEST_S / (time.perf_counter() - begun)))


def _program(file: str) -> Program:
    if file != "gpt2":
        return programs.make(file.replace("_", "-"))
    return programs.gpt2(PRESET, size=(BATCH, LENGTH), steps=1)


@cache
def _work(framework: Framework, file: str, definition: str) -> Work:
    """The definition at its program's sizes, with parameters and inputs of that program."""
    program = _program(file)
    runtime = framework.runtime.configure("float32", "cpu")
    model = program.build(framework, runtime)
    model.eval()
    part, inputs = DEFINITIONS[file, definition]
    batch = runtime.batch(*_inputs(program, inputs))
    function = getattr(getattr(framework, file), part, None)
    if function is not None:
        if inputs == "heads":
            none = model.h[0].attn.attn_dropout
            return Work(lambda model, *qkv: function(*qkv, none), None, batch)
        if part == "summed_loss":
            return Work(lambda model, *batch: function(model, *batch, CHUNK), model, batch)
        return Work(lambda model, *batch: function(model, *batch)[0], model, batch)
    for word in part.split(".") if part else []:
        model = model[int(word)] if word.isdigit() else getattr(model, word)
    return Work(lambda model, *x: model(*x), model, batch)


def _inputs(program: Program, kind: str) -> tuple[Array, ...]:
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

    def run(params: Native, *inputs: Tensor) -> Tensor:
        return work.run(nnx.merge(graphdef, params, rest), *inputs)

    def summed(params: Native, *inputs: Tensor) -> Tensor:
        return run(params, *inputs).sum()

    # As in PyTorch, of parameters and of inputs.
    derived = jax.value_and_grad(summed, argnums=(0, *(i + 1 for i in floats)))
    compiled = jax.jit(derived if backward else run)
    return lambda: jax.block_until_ready(compiled(params, *work.inputs))  # type: ignore[no-untyped-call]


STUDY = Study(
    name="definitions",
    claim="What each definition of the twins takes in either framework",
    sources=(
        *twins("gpt2", "loss", "dropout", "params", "runtime", "sigmoid_bce", "simple_net"),
        *shared("config"),
    ),
    measure=measure,
    lines=lines,
)
