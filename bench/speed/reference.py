"""The reference that contestants are judged by: our own float64 run, from the same parameters.

The two frameworks' float64 results have been shown equal by ``twingrad compare``, so one of them is
enough. A plain run in the dtype under test beside it says what error that dtype owes to rounding.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from bench.harness import frameworks, programs
from bench.speed.foreign import Array
from bench.speed.json_form import decode
from bench.speed.results import Parity
from shared.config import AdamWConfig, GPTConfig, OptimizerConfig, TrainConfig
from shared.params import Params
from shared.sampling import Sampling
from twingrad import numerics
from twingrad.numerics import Size

Batch = tuple[Array, ...]


@dataclass(frozen=True, kw_only=True)
class ReferenceRequest:
    """A reference to compute: losses and gradients on two batches, or the greedy continuation."""

    framework: str
    program: str
    config: GPTConfig
    optimizer: OptimizerConfig
    dtype: str
    batches: tuple[Batch, ...] | None = None
    prompts: Array | None = None
    new_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """The scalars of a reference, as they are stored; tensors lie beside them.

    ``plain_losses`` and ``owed`` are the losses and the errors (L2) of gradients of a plain run in
    the dtype under test. ``clip`` is the factor by which gradients are clipped, ``scales`` are the
    L2 and maximum norms of the gradients.
    """

    losses: tuple[float, ...] = ()
    plain_losses: tuple[float, ...] = ()
    clip: float = 1.0
    scales: dict[str, tuple[float, ...]] = field(default_factory=dict)
    owed: dict[str, float] = field(default_factory=dict)
    tokens: tuple[tuple[int, ...], ...] = ()


_SCALARS, _GRADIENTS = "reference.json", "gradients.safetensors"


def compute(request: ReferenceRequest, params: Params, folder: Path) -> None:
    """Write the reference under ``folder``: gradients, and the other values as JSON."""
    results = _small if request.program != "gpt2" else _gpt2
    exact = results(request, params, "float64")
    if request.batches is None:
        return _write(folder, _Reference(tokens=exact.tokens))
    rounded = results(request, params, request.dtype)
    scales = numerics.scales(exact.gradients)
    arrays = {name: np.asarray(value, order="C") for name, value in exact.gradients.items()}
    save_file(arrays, folder / _GRADIENTS)
    reference = _Reference(
        losses=exact.losses,
        plain_losses=rounded.losses,
        clip=exact.clip,
        scales={name: (size.l2, size.peak) for name, size in scales.items()},
        owed={
            name: numerics.distance(rounded.gradients[name], exact.gradients[name]).l2
            for name in scales
        },
    )
    return _write(folder, reference)


def _write(folder: Path, reference: _Reference) -> None:
    (folder / _SCALARS).write_text(json.dumps(asdict(reference)))


@dataclass(frozen=True, kw_only=True)
class _Results:
    """Loss of the first batch, and of the second after one update; gradients before clipping."""

    losses: tuple[float, ...] = ()
    gradients: Params = field(default_factory=dict)
    clip: float = 1.0
    tokens: tuple[tuple[int, ...], ...] = ()


def _gpt2(request: ReferenceRequest, params: Params, dtype: str) -> _Results:
    framework = frameworks.one(request.framework)
    runtime = framework.runtime.configure(dtype, "cpu")
    model = framework.params.build(
        lambda: framework.make_gpt2(request.config, attention="reference_attention"),
        params,
        runtime.master,
    )
    if request.prompts is not None:
        greedy, prompts = Sampling(temperature=0.0), list(request.prompts)
        model.eval()
        tokens = framework.generate.generate(model, prompts, request.new_tokens, greedy, runtime)
        rows = np.stack(list(tokens), axis=1).tolist()
        return _Results(tokens=tuple(map(tuple, rows)))
    first, second = _two_batches(request)
    optimizer = request.optimizer
    if not isinstance(optimizer, AdamWConfig):
        raise TypeError(f"GPT-2 is trained by AdamW, not by {type(optimizer).__name__}")
    config = TrainConfig(optimizer=optimizer, batch_size=len(first[0]), dtype=dtype)
    trainer = framework.train.Trainer(model, config, runtime)
    step = trainer.step(*(part[None] for part in first))
    clip = min(1.0, optimizer.max_grad_norm / step.grad_norm)
    # After one step the first moment is (1 - beta1) of the clipped gradient.
    share = (1 - optimizer.beta1) * clip
    moments = trainer.export().first_moment
    gradients = {name: value / share for name, value in moments.items()}
    after = float(trainer.evaluate(*second)) / second[1].size
    return _Results(losses=(step.loss, after), gradients=gradients, clip=clip)


def _small(request: ReferenceRequest, params: Params, dtype: str) -> _Results:
    """By hand, with no framework at all."""
    by_hand = programs.make(request.program, steps=1).by_hand
    if by_hand is None:
        raise ValueError(f"{request.program} has no gradient that was derived by hand")
    kind = "float64" if dtype == "float64" else "float32"
    start = {name: value.astype(kind) for name, value in params.items()}
    first, second = (tuple(part.astype(kind) for part in b) for b in _two_batches(request))
    loss, _, gradients = by_hand(start, *first)
    rate = np.asarray(request.optimizer.learning_rate, kind)[()]
    moved = {name: np.asarray(value - rate * gradients[name]) for name, value in start.items()}
    after, _, _ = by_hand(moved, *second)
    return _Results(losses=(float(loss), float(after)), gradients=gradients)


def _two_batches(request: ReferenceRequest) -> tuple[Batch, Batch]:
    if request.batches is None:
        raise ValueError("a reference of losses and gradients takes two batches")
    first, second = request.batches
    return first, second


@dataclass(frozen=True)
class Judged:
    """One result's error against the reference and its limit, in units of u."""

    name: str
    error_u: float
    limit_u: float
    ok: bool


class Judge:
    """Judges a contestant's results by the reference in a folder."""

    def __init__(self, folder: Path, dtype: str):
        self.folder, self.dtype = folder, dtype
        content = json.loads((folder / _SCALARS).read_text())
        self.reference = decode(_Reference, content, "the reference")

    def losses(self, losses: Sequence[float]) -> list[Judged]:
        """Verdicts on the loss of the first batch and, where there is one, after an update."""
        names = ("loss", "loss after a step")
        exact, plain = self.reference.losses, self.reference.plain_losses
        verdicts = []
        for name, loss, right, rounded in zip(names, losses, exact, plain, strict=False):
            error, owed = abs(loss - right), abs(rounded - right)
            scale = Size(abs(right), abs(right))
            verdicts.append(self._judged(name, Size(error, error), owed, scale, elements=1))
        return verdicts

    def gradients(self, gradients: Params, clipped: bool) -> list[Judged]:
        """Verdicts on every gradient tensor; parameters that only a peer has are left out."""
        verdicts = []
        clip = self.reference.clip if clipped else 1.0
        with safe_open(self.folder / _GRADIENTS, "numpy") as exact:
            for name in exact.keys():  # noqa: SIM118 - it is not a dictionary
                right = exact.get_tensor(name)
                value = gradients.get(name)
                error = Size(np.inf, np.inf)
                if value is not None:
                    error = numerics.distance(np.asarray(value, np.float64) / clip, right)
                scale = Size(*self.reference.scales[name])
                owed = self.reference.owed[name]
                verdicts.append(self._judged(name, error, owed, scale, right.size))
        return verdicts

    def tokens(self, tokens: Array) -> list[Judged]:
        """One verdict: how many of the tokens differ from the reference's."""
        wrong = int((tokens != np.asarray(self.reference.tokens)).sum())
        return [Judged("tokens", float(wrong), 0.0, wrong == 0)]

    def _judged(self, name: str, error: Size, owed: float, scale: Size, elements: int) -> Judged:
        row = numerics.judge_contestant(name, error, owed, scale, self.dtype, elements)
        return Judged(name, row["error_u"], row["limit_u"], row["ok"])


def parity_check(verdicts: Sequence[Judged]) -> Parity:
    """All verdicts in one: whether every one holds, and the worst of them."""
    parities = [
        Parity(ok=v.ok, judged=len(verdicts), worst=v.name, error_u=v.error_u, limit_u=v.limit_u)
        for v in verdicts
    ]
    worst = max(parities, key=lambda parity: (not parity.ok, parity.error_ratio))
    return replace(worst, ok=all(verdict.ok for verdict in verdicts))
