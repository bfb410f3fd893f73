"""Demonstrations that ``compare`` prints: gradients, saturation, step sizes, cost, accumulation."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np

from bench.harness import programs
from bench.harness.foreign import Array, LossFn
from bench.harness.frameworks import Framework, Frameworks
from bench.harness.programs import Program
from bench.parity.program_runs import Say
from shared import by_hand, data
from shared.observation import Observation
from shared.params import Params

SATURATED = (-1000.0, -88.0, 88.0, 1000.0)
STEPS = tuple(10.0**-exponent for exponent in range(1, 15))
POINT = {"x": 1.1, "y": 1.0, "w": 2.2, "b": 0.0}  # where the neuron is looked at

Number = float | str  # a float, or its name where JSON has none


@dataclass(frozen=True)
class NeuronNumbers:
    """Activation, loss and both gradients of the neuron at a point, by how they were computed."""

    point: dict[str, float]
    columns: dict[str, dict[str, float]]


@dataclass(frozen=True)
class LossAndGradient:
    """A loss and its gradient."""

    loss: Number
    gradient: Number


@dataclass(frozen=True)
class SaturatedPoint:
    """Loss and dL/db at one logit, by framework and form of the loss, as in "torch from logit"."""

    z: float
    y: float
    forms: dict[str, LossAndGradient]


@dataclass(frozen=True)
class StepError:
    """Relative error of dL/dw by finite differences of one step."""

    step: float
    forward: float
    central: float


@dataclass(frozen=True)
class StepSizes:
    """The errors step by step, and those of automatic differentiation by framework."""

    sweep: list[StepError]
    automatic: dict[str, float]


@dataclass(frozen=True)
class GradientCost:
    """Median seconds of a program's passes, and what finite differences would take instead."""

    program: str
    framework: str
    parameters: int
    forward_s: float
    forward_backward_s: float
    ratio: float
    finite_differences_forwards: int
    finite_differences_s: float


@dataclass(frozen=True)
class Accumulation:
    """Norms of gradients relative to what they should be.

    The accumulated gradient to that of the summed loss, and the gradient of an uncleared second
    step to the right one.
    """

    accumulated: float
    uncleared: float


@dataclass(frozen=True)
class ParameterShare:
    """How many parameters one part of a model holds."""

    part: str
    parameters: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """The demonstrations of one program; those of other programs are empty."""

    neuron: NeuronNumbers | None = None
    saturation: list[SaturatedPoint] = field(default_factory=list)
    graphs: dict[str, str] = field(default_factory=dict)
    step_sizes: StepSizes | None = None
    cost: list[GradientCost] = field(default_factory=list)
    accumulation: dict[str, Accumulation] = field(default_factory=dict)
    parameters: list[ParameterShare] = field(default_factory=list)

    def as_object(self) -> dict[str, object]:
        """Those that there are, as the JSON contract has them under "lessons"."""
        objects: dict[str, object] = asdict(self)
        objects["saturation"] = [
            {"z": point.z, "y": point.y}
            | {name: asdict(form) for name, form in point.forms.items()}
            for point in self.saturation
        ]
        return {name: demonstration for name, demonstration in objects.items() if demonstration}


def demonstrate(
    program: Program, frameworks: Frameworks, device: str, say: Say, detailed: bool
) -> Demonstrations:
    """The demonstrations of a program; without ``detailed`` the quick ones alone."""
    if program.name == "sigmoid-bce":
        numbers = neuron(frameworks, device)
        if not detailed:
            return Demonstrations(neuron=numbers)
        say("sigmoid-bce: what automatic differentiation is worth")
        return Demonstrations(
            neuron=numbers,
            saturation=saturation(frameworks, device),
            graphs=graphs(frameworks, device),
            step_sizes=step_sizes(frameworks, device),
            cost=cost(frameworks, device),
        )
    if program.name == "simple-net" and detailed:
        return Demonstrations(accumulation=accumulation(frameworks, device))
    if program.name == "gpt2" and detailed:
        return Demonstrations(parameters=parameter_table(program.params))
    return Demonstrations()


def neuron(frameworks: Frameworks, device: str) -> NeuronNumbers:
    """Chapter 8: activation, loss and both gradients, four ways, in float64."""
    program = programs.sigmoid_bce()
    x, y = program.batches[0]
    loss, a, exact = by_hand.neuron(program.params, x, y)
    numeric = by_hand.central_difference(_neuron_loss(x, y), program.params)
    columns = {
        "by hand": _column(a, loss, exact),
        "central differences": _column(a, loss, numeric),
    }
    for framework in frameworks:
        observed = _observe(framework, program, device, "float64")
        columns[framework.name] = _column(observed.output, observed.loss, observed.gradients)
    return NeuronNumbers(point=POINT, columns=columns)


def _column(a: Array, loss: Array, gradients: Params) -> dict[str, float]:
    column = {"a": a, "L": loss, "dL/dw": gradients["w"], "dL/db": gradients["b"]}
    return {name: float(value) for name, value in column.items()}


def _neuron_loss(x: Array, y: Array) -> Callable[[Params], float]:
    return lambda params: float(by_hand.neuron(params, x, y)[0])


def _observe(
    framework: Framework,
    program: Program,
    device: str,
    dtype: str,
    loss_fn: LossFn | None = None,
) -> Observation:
    runtime = framework.runtime.configure(dtype, device)
    model = program.build(framework, runtime)
    loss_fn = loss_fn or program.loss_fn(framework)
    return framework.trace.observe(model, loss_fn, program.batches[0], runtime)


def saturation(frameworks: Frameworks, device: str) -> list[SaturatedPoint]:
    """Loss and dL/db of the neuron where its sigmoid saturates, in float32, label 1.

    From the logit, as this project takes it, and in the textbook form from the activation.
    """
    points = []
    for z in SATURATED:
        program = programs.sigmoid_bce()
        program.params.update(w=np.asarray(0.0), b=np.asarray(z))
        forms: dict[str, LossAndGradient] = {}
        for form in ("logit", "activation"):
            for framework in frameworks:
                module = framework.sigmoid_bce
                loss_fn = module.loss_fn if form == "logit" else module.textbook_loss_fn
                observed = _observe(framework, program, device, "float32", loss_fn)
                forms[f"{framework.name} from {form}"] = LossAndGradient(
                    loss=_number(observed.loss), gradient=_number(observed.gradients["b"])
                )
        points.append(SaturatedPoint(z=z, y=1.0, forms=forms))
    return points


def _number(value: Array) -> Number:
    number = float(value)
    return number if math.isfinite(number) else str(number)


def step_sizes(frameworks: Frameworks, device: str) -> StepSizes:
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
        sweep.append(StepError(step, abs(forward / exact - 1), abs(central / exact - 1)))
    automatic = {}
    for framework in frameworks:
        observed = _observe(framework, program, device, "float64")
        automatic[framework.name] = abs(float(observed.gradients["w"]) / exact - 1)
    return StepSizes(sweep=sweep, automatic=automatic)


def cost(frameworks: Frameworks, device: str, repeats: int = 15) -> list[GradientCost]:
    """Chapter 11, efficiency: one reverse pass against one forward a parameter, in float32."""
    rows = []
    for program in (programs.simple_net(), programs.gpt2("tiny")):
        count = sum(value.size for value in program.params.values())
        for framework in frameworks:
            runtime = framework.runtime.configure("float32", device)
            model = program.build(framework, runtime)
            model.eval()
            batch = runtime.batch(*program.batches[0])
            forward, both = framework.train.passes(model, program.loss_fn(framework))
            forward_s = _median_seconds(partial(forward, *batch), repeats)
            both_s = _median_seconds(partial(both, *batch), repeats)
            rows.append(
                GradientCost(
                    program=program.title,
                    framework=framework.name,
                    parameters=count,
                    forward_s=forward_s,
                    forward_backward_s=both_s,
                    ratio=both_s / forward_s,
                    finite_differences_forwards=count + 1,
                    finite_differences_s=(count + 1) * forward_s,
                )
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


def graphs(frameworks: Frameworks, device: str) -> dict[str, str]:
    """Chapter 7: the neuron's graph as each framework records it."""
    program = programs.sigmoid_bce()
    drawn = {}
    for framework in frameworks:
        runtime = framework.runtime.configure("float32", device)
        model = program.build(framework, runtime)
        batch = runtime.batch(*program.batches[0])
        drawn[framework.name] = framework.sigmoid_bce.graph(model, *batch)
    return drawn


def accumulation(frameworks: Frameworks, device: str) -> dict[str, Accumulation]:
    """Chapter 10: gradients over two batches, and of a step with nothing cleared, in float64."""
    program = programs.simple_net()
    batches = [data.labelled_batch(8, seed) for seed in (1, 2)]
    wide = [(x.astype(np.float64), y.astype(np.float64)) for x, y in batches]
    params = {name: value.astype(np.float64) for name, value in program.params.items()}
    by_batch = [by_hand.simple_net(params, *batch)[2] for batch in wide]
    summed = {name: by_batch[0][name] + by_batch[1][name] for name in params}
    ratios = {}
    for framework in frameworks:
        runtime = framework.runtime.configure("float64", device)
        model = program.build(framework, runtime)
        tensors = [runtime.batch(*batch) for batch in wide]
        net, export = framework.simple_net, framework.export_gradients
        accumulated = export(model, net.accumulated_gradients(model, tensors))
        uncleared = export(model, net.uncleared_gradients(model, *tensors[0]))
        ratios[framework.name] = Accumulation(
            accumulated=_norm(accumulated) / _norm(summed),
            uncleared=_norm(uncleared) / _norm(by_batch[0]),
        )
    return ratios


def _norm(params: Params) -> float:
    return math.hypot(*(float(np.linalg.norm(value)) for value in params.values()))


def parameter_table(params: Params) -> list[ParameterShare]:
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
    shares = []
    for part, marks in parts.items():
        sizes = [value.size for name, value in params.items() if any(m in name for m in marks)]
        if sizes:
            shares.append(ParameterShare(part, sum(sizes), sum(sizes) / total))
    if sum(share.parameters for share in shares) != total:
        raise ValueError("a parameter belongs to no part, or to two")
    return shares
