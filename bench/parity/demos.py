"""Demonstrations that ``compare`` prints: gradients, saturation, step sizes, cost, accumulation."""

import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.harness import programs
from bench.harness.foreign import LossFn
from bench.harness.frameworks import Framework
from bench.harness.programs import Program
from shared import by_hand, data
from shared.params import Params

Frameworks = tuple[Framework, Framework]
SATURATED = (-1000.0, -88.0, 88.0, 1000.0)
STEPS = tuple(10.0**-exponent for exponent in range(1, 15))


def neuron(sides: Frameworks, device: str) -> dict[str, Any]:
    """Chapter 8: activation, loss and both gradients, four ways, in float64."""
    program = programs.sigmoid_bce()
    x, y = program.batches[0]
    loss, a, exact = by_hand.neuron(program.params, x, y)
    numeric = by_hand.central_difference(_neuron_loss(x, y), program.params)
    columns = {
        "by hand": {"a": a, "L": loss, "dL/dw": exact["w"], "dL/db": exact["b"]},
        "central differences": {"a": a, "L": loss, "dL/dw": numeric["w"], "dL/db": numeric["b"]},
    }
    for side in sides:
        seen = _observe(side, program, device, "float64")
        columns[side.name] = {
            "a": seen.output,
            "L": seen.loss,
            "dL/dw": seen.gradients["w"],
            "dL/db": seen.gradients["b"],
        }
    return {
        "point": {"x": 1.1, "y": 1.0, "w": 2.2, "b": 0.0},
        "columns": {
            name: {key: float(value) for key, value in column.items()}
            for name, column in columns.items()
        },
    }


def _neuron_loss(x: np.ndarray, y: np.ndarray) -> Callable[[Params], float]:
    return lambda params: float(by_hand.neuron(params, x, y)[0])


def _observe(
    side: Framework, program: Program, device: str, dtype: str, loss_fn: LossFn | None = None
) -> Any:
    runtime = side.runtime.configure(dtype, device)
    model = program.build(side, runtime)
    return side.trace.observe(model, loss_fn or program.loss_fn(side), program.batches[0], runtime)


def saturation(sides: Frameworks, device: str) -> list[dict[str, Any]]:
    """Loss and dL/db of the neuron where its sigmoid saturates, in float32, label 1.

    From the logit, as this project takes it, and in the textbook form from the activation.
    """
    rows = []
    for z in SATURATED:
        program = programs.sigmoid_bce()
        program.params.update(w=np.asarray(0.0), b=np.asarray(z))
        row: dict[str, Any] = {"z": z, "y": 1.0}
        for form in ("logit", "activation"):
            for side in sides:
                neuron = side.sigmoid_bce
                loss_fn = neuron.loss_fn if form == "logit" else neuron.textbook_loss_fn
                seen = _observe(side, program, device, "float32", loss_fn)
                row[f"{side.name} from {form}"] = {
                    "loss": _number(seen.loss),
                    "gradient": _number(seen.gradients["b"]),
                }
        rows.append(row)
    return rows


def _number(value: np.ndarray) -> float | str:
    """A float, or its name where JSON has none."""
    number = float(value)
    return number if math.isfinite(number) else str(number)


def step_sizes(sides: Frameworks, device: str) -> dict[str, Any]:
    """Chapter 11, accuracy: error of dL/dw by finite differences, step by step, and by autograd."""
    program = programs.sigmoid_bce()
    x, y = program.batches[0]
    exact = float(by_hand.neuron(program.params, x, y)[2]["w"])
    loss = _neuron_loss(x, y)
    w = float(program.params["w"])

    def at(moved: float) -> float:
        return loss({**program.params, "w": np.asarray(moved)})

    sweep = []
    for step in STEPS:
        forward = (at(w + step) - at(w)) / step
        central = (at(w + step) - at(w - step)) / (2 * step)
        sweep.append(
            {
                "step": step,
                "forward": abs(forward / exact - 1),
                "central": abs(central / exact - 1),
            }
        )
    automatic = {
        side.name: abs(float(_observe(side, program, device, "float64").gradients["w"]) / exact - 1)
        for side in sides
    }
    return {"sweep": sweep, "automatic": automatic}


def cost(sides: Frameworks, device: str, repeats: int = 15) -> list[dict[str, Any]]:
    """Chapter 11, efficiency: one reverse pass against one forward a parameter, in float32."""
    rows = []
    for program in (programs.simple_net(), programs.gpt2("tiny")):
        count = sum(value.size for value in program.params.values())
        for side in sides:
            runtime = side.runtime.configure("float32", device)
            model = program.build(side, runtime)
            model.eval()
            batch = runtime.batch(*program.batches[0])
            loss_fn = program.loss_fn(side)
            forward, both = side.train.passes(model, loss_fn)
            forward_s = _median_seconds(partial(forward, *batch), repeats)
            both_s = _median_seconds(partial(both, *batch), repeats)
            rows.append(
                {
                    "program": program.title,
                    "framework": side.name,
                    "parameters": count,
                    "forward_s": forward_s,
                    "forward_backward_s": both_s,
                    "ratio": both_s / forward_s,
                    "finite_differences_forwards": count + 1,
                    "finite_differences_s": (count + 1) * forward_s,
                }
            )
    return rows


def _median_seconds(run: Callable[[], None], repeats: int) -> float:
    run()  # compiles, and fills caches
    samples = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


def graphs(sides: Frameworks, device: str) -> dict[str, str]:
    """Chapter 7: the neuron's graph as each framework records it."""
    program = programs.sigmoid_bce()
    drawn = {}
    for side in sides:
        runtime = side.runtime.configure("float32", device)
        model = program.build(side, runtime)
        drawn[side.name] = side.sigmoid_bce.graph(model, *runtime.batch(*program.batches[0]))
    return drawn


def accumulation(sides: Frameworks, device: str) -> dict[str, Any]:
    """Chapter 10: gradients over two batches, and what a forgotten clearing does, in float64.

    Each number is a ratio of norms: the accumulated gradient to that of the summed loss, and the
    gradient of an uncleared second step to the right one.
    """
    program = programs.simple_net()
    batches = [data.labelled_batch(8, seed) for seed in (1, 2)]
    wide = [tuple(array.astype(np.float64) for array in batch) for batch in batches]
    params = {name: value.astype(np.float64) for name, value in program.params.items()}
    by_batch = [by_hand.simple_net(params, *batch)[2] for batch in wide]
    summed = {name: by_batch[0][name] + by_batch[1][name] for name in params}
    ratios = {}
    for side in sides:
        runtime = side.runtime.configure("float64", device)
        model = program.build(side, runtime)
        given = [runtime.batch(*batch) for batch in wide]
        net = side.simple_net
        accumulated = side.export_gradients(model, net.accumulated_gradients(model, given))
        uncleared = side.export_gradients(model, net.uncleared_gradients(model, *given[0]))
        ratios[side.name] = {
            "accumulated": _norm(accumulated) / _norm(summed),
            "uncleared": _norm(uncleared) / _norm(by_batch[0]),
        }
    return ratios


def _norm(params: Params) -> float:
    return math.hypot(*(float(np.linalg.norm(value)) for value in params.values()))


def parameter_table(params: Params) -> list[dict[str, Any]]:
    """Chapter 2: which part of a GPT-2 holds how many parameters."""
    parts = {
        "token embedding": ("wte.",),
        "position embedding": ("wpe.",),
        "attention": (".attn.",),
        "MLP": (".mlp.",),
        "layer norms": (".ln_", "ln_f."),
        "output head": ("lm_head.",),
    }
    total = sum(value.size for value in params.values())
    rows: list[dict[str, Any]] = []
    for part, marks in parts.items():
        held = [value.size for name, value in params.items() if any(m in name for m in marks)]
        if held:
            rows.append({"part": part, "parameters": sum(held), "share": sum(held) / total})
    assert sum(int(row["parameters"]) for row in rows) == total, "a parameter belongs to no part"
    return rows
