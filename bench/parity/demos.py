"""Demonstrations that ``compare`` prints: gradients, saturation, step sizes, cost, accumulation."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial

import numpy as np

from bench.harness import programs
from bench.harness.foreign import Array, LossFn
from bench.harness.frameworks import NAMES, Framework, Frameworks
from bench.harness.programs import Program
from bench.parity.places import Place, in_each
from bench.parity.program_runs import Say
from shared import by_hand, data
from shared.config import preset
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
    program: Program, pair: Frameworks, place: Place, device: str, say: Say, detailed: bool
) -> Demonstrations:
    """The demonstrations of a program; without ``detailed`` the quick ones alone."""
    if program.name == "sigmoid-bce":
        numbers = neuron(pair, place, device)
        if not detailed:
            return Demonstrations(neuron=numbers)
        say("sigmoid-bce: what automatic differentiation is worth")
        return Demonstrations(
            neuron=numbers,
            saturation=saturation(pair, place, device),
            graphs=in_each(place, pair, graph, device),
            step_sizes=step_sizes(numbers),
            cost=cost(pair, place, device),
        )
    if program.name == "simple-net" and detailed:
        return Demonstrations(accumulation=in_each(place, pair, accumulation, device))
    if program.name == "gpt2" and detailed:
        return Demonstrations(parameters=parameter_table(program.params))
    return Demonstrations()


def neuron(pair: Frameworks, place: Place, device: str) -> NeuronNumbers:
    """Chapter 8: activation, loss and both gradients, four ways, in float64."""
    program = programs.sigmoid_bce()
    x, y = program.batches[0]
    loss, a, exact = by_hand.neuron(program.params, x, y)
    numeric = by_hand.central_difference(_neuron_loss(x, y), program.params)
    columns = {
        "by hand": _column(a, loss, exact),
        "central differences": _column(a, loss, numeric),
        **in_each(place, pair, _neuron_column, device),
    }
    return NeuronNumbers(point=POINT, columns=columns)


def _neuron_column(framework: Framework, device: str) -> dict[str, float]:
    observed = _observe(framework, programs.sigmoid_bce(), device, "float64")
    return _column(observed.output, observed.loss, observed.gradients)


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


def saturation(pair: Frameworks, place: Place, device: str) -> list[SaturatedPoint]:
    """Loss and dL/db of the neuron where its sigmoid saturates, in float32, label 1.

    From the logit, as this project takes it, and in the textbook form from the activation.
    """
    points = [SaturatedPoint(z=z, y=1.0, forms={}) for z in SATURATED]
    for form in ("logit", "activation"):
        for name, found in in_each(place, pair, _saturated, device, form).items():
            for point, numbers in zip(points, found, strict=True):
                point.forms[f"{name} from {form}"] = numbers
    return points


def _saturated(framework: Framework, device: str, form: str) -> list[LossAndGradient]:
    module, found = framework.sigmoid_bce, []
    loss_fn = module.loss_fn if form == "logit" else module.textbook_loss_fn
    for z in SATURATED:
        program = programs.sigmoid_bce()
        program.params.update(w=np.asarray(0.0), b=np.asarray(z))
        observed = _observe(framework, program, device, "float32", loss_fn)
        gradient = _number(observed.gradients["b"])
        found.append(LossAndGradient(loss=_number(observed.loss), gradient=gradient))
    return found


def _number(value: Array) -> Number:
    number = float(value)
    return number if math.isfinite(number) else str(number)


def step_sizes(numbers: NeuronNumbers) -> StepSizes:
    """Chapter 11, accuracy: error of dL/dw by finite differences, step by step, and by autograd.

    ``numbers`` has what automatic differentiation gave.
    """
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
    automatic = {name: abs(numbers.columns[name]["dL/dw"] / exact - 1) for name in NAMES}
    return StepSizes(sweep=sweep, automatic=automatic)


def cost(pair: Frameworks, place: Place, device: str) -> list[GradientCost]:
    """Chapter 11, efficiency: one reverse pass against one forward a parameter, in float32."""
    in_each(place, pair, _ready_passes, device)
    # In turn: each has the processor for itself while it is timed.
    torch, jax = in_each(place, pair, _costs, device, together=False).values()
    return [row for rows in zip(torch, jax, strict=True) for row in rows]


def _ready_passes(framework: Framework, device: str) -> None:
    """Have the passes compiled, and caches filled."""
    for timed in _timed_passes(framework, device):
        for run in (timed.forward, timed.both):
            run()


@dataclass(frozen=True)
class _TimedPasses:
    """Forward pass of a program, and forward with backward, on its first batch."""

    program: str
    parameters: int
    forward: Callable[[], None]
    both: Callable[[], None]


@cache
def _timed_passes(framework: Framework, device: str) -> list[_TimedPasses]:
    # One block: compiling is most of the time that this takes, and a second shows nothing more.
    block = replace(preset("tiny"), n_layers=1)
    passes = []
    for program in (programs.simple_net(), programs.gpt2("tiny, one block", config=block)):
        runtime = framework.runtime.configure("float32", device)
        model = program.build(framework, runtime)
        model.eval()
        batch = runtime.batch(*program.batches[0])
        forward, both = framework.train.passes(model, program.loss_fn(framework))
        count = sum(value.size for value in program.params.values())
        runs = (partial(forward, *batch), partial(both, *batch))
        passes.append(_TimedPasses(program.title, count, *runs))
    return passes


def _costs(framework: Framework, device: str, repeats: int = 15) -> list[GradientCost]:
    rows = []
    for timed in _timed_passes(framework, device):
        forward_s, both_s = (_median_seconds(run, repeats) for run in (timed.forward, timed.both))
        rows.append(
            GradientCost(
                program=timed.program,
                framework=framework.name,
                parameters=timed.parameters,
                forward_s=forward_s,
                forward_backward_s=both_s,
                ratio=both_s / forward_s,
                finite_differences_forwards=timed.parameters + 1,
                finite_differences_s=(timed.parameters + 1) * forward_s,
            )
        )
    return rows


def _median_seconds(run: Callable[[], None], repeats: int) -> float:
    samples = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


def graph(framework: Framework, device: str) -> str:
    """Chapter 7: the neuron's graph as the framework records it."""
    program = programs.sigmoid_bce()
    runtime = framework.runtime.configure("float32", device)
    model = program.build(framework, runtime)
    return framework.sigmoid_bce.graph(model, *runtime.batch(*program.batches[0]))


def accumulation(framework: Framework, device: str) -> Accumulation:
    """Chapter 10: gradients over two batches, and of a step with nothing cleared, in float64."""
    program = programs.simple_net()
    batches = [data.labelled_batch(8, seed) for seed in (1, 2)]
    wide = [(x.astype(np.float64), y.astype(np.float64)) for x, y in batches]
    params = {name: value.astype(np.float64) for name, value in program.params.items()}
    by_batch = [by_hand.simple_net(params, *batch)[2] for batch in wide]
    summed = {name: by_batch[0][name] + by_batch[1][name] for name in params}
    runtime = framework.runtime.configure("float64", device)
    model = program.build(framework, runtime)
    tensors = [runtime.batch(*batch) for batch in wide]
    net, export = framework.simple_net, framework.export_gradients
    accumulated = export(model, net.accumulated_gradients(model, tensors))
    uncleared = export(model, net.uncleared_gradients(model, *tensors[0]))
    return Accumulation(
        accumulated=_norm(accumulated) / _norm(summed),
        uncleared=_norm(uncleared) / _norm(by_batch[0]),
    )


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
