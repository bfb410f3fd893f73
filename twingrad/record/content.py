"""What a record holds: numbers, names and shapes of one side of a pair, and no code."""

from dataclasses import dataclass, field
from typing import Literal

from twingrad.calls import Key, Pass
from twingrad.decoding import decoded
from twingrad.decoding.decoded import DecodingRecord
from twingrad.diagnosis.hypotheses.rules import Rule
from twingrad.diagnosis.hypotheses.sketches import Scene
from twingrad.foreign import Array
from twingrad.partners import Leaf
from twingrad.sides import Framework

VERSION = 3
# The precisions of a side's runs; "lifted" is float64 with casts to lower precision left out.
Precision = Literal["float64 lifted", "float64", "float32"]


@dataclass(frozen=True, kw_only=True)
class Steps:
    """An optimizer's steps: the gradients it was given, parameters after each, and its rule."""

    gradients: list[dict[str, Array]]
    parameters: list[dict[str, Array]]
    rule: Rule | None


@dataclass(frozen=True, kw_only=True)
class TorchFacts:
    """Of PyTorch's modules by path: rate and key of dropout by a key, and norms' momentum.

    ``scenes`` are what they give with one of their operations changed.
    """

    dropouts: dict[str, tuple[float, Array]] = field(default_factory=dict)
    momenta: dict[str, float] = field(default_factory=dict)
    scenes: list[Scene] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class JaxFacts:
    """Of a JAX model: the calls of a pass with their classes, and paths of its state."""

    calls: dict[Key, str] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    state: list[str] = field(default_factory=list)
    required: list[str] = field(default_factory=list)
    channels_last: bool = True


@dataclass(frozen=True, kw_only=True)
class Run:
    """One side in one precision: its numbers, a pass on each batch, state, and updates.

    ``states`` are those before the first batch and after each of two, which are the first batch
    twice, or where there is a second one, both. ``second_error`` says why that was not taken.
    ``constants`` says whether numbers were met that had been rounded to float32 before.
    """

    leaves: list[Leaf]
    tensors: dict[str, Array]
    trained: list[str]
    first: Pass
    second: Pass | None = None
    second_error: str | None = None
    states_of_one: list[dict[str, Array]] = field(default_factory=list)
    states_of_two: list[dict[str, Array]] = field(default_factory=list)
    steps: Steps | None = None
    casts: dict[str, list[str]] = field(default_factory=dict)
    constants: bool = False
    torch: TorchFacts = field(default_factory=TorchFacts)
    jax: JaxFacts = field(default_factory=JaxFacts)
    decoding: DecodingRecord | None = None


def _require_consistent(run: Run) -> None:
    """Raise ``ValueError`` for a run whose parts do not fit one another."""
    for leaf in run.leaves:
        x = run.tensors.get(leaf.path)
        if x is None or x.shape != leaf.shape:
            raise ValueError(f"{leaf.path} has no tensor of its shape")
    for seen in filter(None, (run.first, run.second)):
        open_calls: list[Key] = []
        for way, key in seen.events:
            if way == "enter":
                open_calls.append(key)
            if key not in seen.calls or not open_calls or open_calls[-1] != key:
                raise ValueError(f"the calls of {key} do not begin and end in order")
            if way == "leave":
                open_calls.pop()
        for key, call in seen.calls.items():
            for own, gradients in (
                (call.inputs, call.input_gradients),
                (call.outputs, call.output_gradients),
            ):
                if [x.shape for x in own] != [g.shape for g in gradients]:
                    raise ValueError(f"{key} has gradients of other shapes than its tensors")


@dataclass(frozen=True, kw_only=True)
class Content:
    """All of a record.

    ``versions`` are those of the packages that made it. ``only`` is the regular expression by which
    modules were chosen. ``tokens`` [B, T] are decoded in the runs in float64, if the side decodes.
    ``failures`` say why a run in a precision is not there, where it was tried.
    """

    side: Framework
    name: str
    versions: dict[str, str]
    train: bool
    copy: bool
    has_loss: bool
    has_optimizer: bool
    only: str | None
    batch: list[Array]
    second: list[Array] | None
    tokens: Array | None
    runs: dict[str, Run]
    failures: dict[str, str]


def require_consistent(content: Content) -> None:
    """Raise ``ValueError`` for a record whose parts do not fit one another."""
    tokens = content.tokens
    if tokens is not None and (tokens.ndim != 2 or tokens.dtype.kind not in "iu"):
        raise ValueError("the tokens that are decoded are no integers of two axes")
    for precision, run in content.runs.items():
        _require_consistent(run)
        decodes = tokens is not None and precision != "float32"
        if decodes != (run.decoding is not None):
            raise ValueError(f"decoding and tokens do not fit in {precision}")
        if tokens is not None and run.decoding is not None:
            decoded.require_consistent(run.decoding, tokens)
