"""The reference that contestants are judged by: our own float64 run, from the same parameters.

The two frameworks' float64 results have been shown equal by ``twingrad compare``, so one of them is
enough. A plain run in the dtype under test beside it says what error that dtype owes to rounding.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from bench.harness import frameworks, programs
from bench.harness.frameworks import Framework
from bench.speed.foreign import Array, Model, Native
from bench.speed.json_form import decode
from bench.speed.results import Parity
from shared import data
from shared import params as parameters
from shared.config import AdamWConfig, GPTConfig, OptimizerConfig, TrainConfig, preset
from shared.params import Params
from shared.sampling import Sampling
from twingrad import numerics
from twingrad.numerics import Size

Batch = tuple[Array, ...]
# Sequences that a reference computes at once: all of a large batch would not fit into memory.
MICRO_BATCH = 4
# The dtype whose rounding leaves greedy decoding its tokens, so that these are compared.
SAME_TOKENS = "float32"


@dataclass(frozen=True, kw_only=True)
class ReferenceRequest:
    """A reference to compute: losses and gradients on two batches, or the greedy continuation."""

    framework: str
    program: str
    config: GPTConfig
    optimizer: OptimizerConfig
    dtype: str
    device: str = "cpu"
    batches: tuple[Batch, ...] | None = None
    prompts: Array | None = None
    new_tokens: int = 0

    @property
    def digest(self) -> str:
        """A name that no other request has."""
        arrays = [part for batch in self.batches or () for part in batch]
        arrays += [] if self.prompts is None else [self.prompts]
        name = hashlib.sha256(repr(replace(self, batches=None, prompts=None)).encode())
        for array in arrays:
            name.update(repr((array.shape, array.dtype)).encode() + array.tobytes())
        return name.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """The scalars of a reference, as they are stored; tensors lie beside them.

    ``plain_losses`` and ``owed`` are the losses and the errors (L2) of gradients of a plain run in
    the dtype under test, ``owed_logits`` the largest error of its logits. ``clip`` is the factor by
    which gradients are clipped, ``scales`` are the L2 and maximum norms of the gradients.
    """

    losses: tuple[float, ...] = ()
    plain_losses: tuple[float, ...] = ()
    clip: float = 1.0
    scales: dict[str, tuple[float, ...]] = field(default_factory=dict)
    owed: dict[str, float] = field(default_factory=dict)
    owed_logits: float = 0.0
    tokens: tuple[tuple[int, ...], ...] = ()


_SCALARS, _GRADIENTS = "reference.json", "gradients.safetensors"
_LOGITS = "logits.safetensors"


def compute(request: ReferenceRequest, params: Params, folder: Path) -> None:
    """Write the reference under ``folder``: gradients or logits, and the other values as JSON.

    Raises ``ValueError`` where the device computes other float64 values than a CPU.
    """
    if request.device != "cpu" and request.program == "gpt2":
        check_device(request.framework, request.device)
    results = _small if request.program != "gpt2" else _gpt2
    exact = results(request, params, "float64")
    if request.batches is None:
        return _write_decoding(request, params, exact.tokens, folder)
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


def _write_decoding(
    request: ReferenceRequest, params: Params, tokens: tuple[tuple[int, ...], ...], folder: Path
) -> None:
    """Write the greedy continuation and, for a dtype that may leave it, the logits it is by."""
    if request.dtype == SAME_TOKENS:
        return _write(folder, _Reference(tokens=tokens))
    exact, rounded = (
        _logits(request, params, dtype, tokens) for dtype in ("float64", request.dtype)
    )
    save_file({"logits": exact.astype(np.float32)}, folder / _LOGITS)
    return _write(
        folder, _Reference(tokens=tokens, owed_logits=float(np.abs(rounded - exact).max()))
    )


def check_device(framework: str, device: str) -> None:
    """Raise ``ValueError`` unless a small model's float64 values are the same as on a CPU.

    The reference is computed where the contestants are: this keeps a device from being judged by
    its own mistakes.
    """
    config = replace(preset("tiny"), drop_rate=0.0)
    values = parameters.init_gpt2(config, 0, programs.SPREAD)
    batches = tuple(data.split_tokens(data.token_batch(config, 2, 16, seed)) for seed in range(2))
    request = ReferenceRequest(
        framework=framework,
        program="gpt2",
        config=config,
        optimizer=AdamWConfig(),
        dtype="float64",
        batches=batches,
    )
    right, found = (
        _gpt2(replace(request, device=name), values, "float64") for name in ("cpu", device)
    )
    compared = {"the loss": (np.asarray(found.losses), np.asarray(right.losses))}
    compared |= {
        f"the gradient of {name}": (found.gradients[name], value)
        for name, value in right.gradients.items()
    }
    scale = numerics.size(np.concatenate([g.ravel() for g in right.gradients.values()])).l2
    for name, (value, expected) in compared.items():
        error = numerics.distance(value, expected).l2
        # A gradient that is nearly zero has an error relative to all of them.
        size = max(numerics.size(expected).l2, 1e-2 * scale)
        if not error <= numerics.FLOAT64_RELATIVE * size:
            raise ValueError(
                f"{framework} on {device} computes other float64 values than on a CPU: {name} is "
                f"{error / size:.2g} off, relative to its size"
            )


@dataclass(frozen=True, kw_only=True)
class _Results:
    """Loss of the first batch, and of the second after one update; gradients before clipping."""

    losses: tuple[float, ...] = ()
    gradients: Params = field(default_factory=dict)
    clip: float = 1.0
    tokens: tuple[tuple[int, ...], ...] = ()


def _model(
    request: ReferenceRequest, params: Params, dtype: str, master: bool = True
) -> tuple[Framework, Native, Model]:
    """The framework, configured; its runtime; and the model, in the dtype of the master."""
    framework = frameworks.one(request.framework)
    runtime = framework.runtime.configure(dtype, request.device)
    model = framework.params.build(
        lambda: framework.make_gpt2(request.config, attention="reference_attention"),
        params,
        runtime.master if master else runtime,
    )
    return framework, runtime, model


def _logits(
    request: ReferenceRequest, params: Params, dtype: str, tokens: tuple[tuple[int, ...], ...]
) -> Array:
    """The logits that each of ``tokens`` is chosen by, [B, N, V], float64, by whole passes."""
    if request.prompts is None:
        raise ValueError("logits of a continuation take its prompts")
    framework, runtime, model = _model(request, params, dtype, master=False)
    model.eval()
    prompts, following = request.prompts, np.asarray(tokens)
    texts = np.concatenate([prompts, following[:, :-1]], axis=1)
    rows = []
    for text in texts:
        logits = model(*runtime.batch(text[None]))
        rows.append(framework.params.to_numpy(logits)[0, prompts.shape[1] - 1 :])
    return np.stack(rows).astype(np.float64)


def _gpt2(request: ReferenceRequest, params: Params, dtype: str) -> _Results:
    framework, runtime, model = _model(request, params, dtype)
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
    count = _micro_batches(len(first[0]))
    config = TrainConfig(
        optimizer=optimizer, batch_size=len(first[0]), micro_batches=count, dtype=dtype
    )
    trainer = framework.train.Trainer(model, config, runtime)
    step = trainer.step(*(part.reshape(count, -1, part.shape[1]) for part in first))
    clip = min(1.0, optimizer.max_grad_norm / step.grad_norm)
    # After one step the first moment is (1 - beta1) of the clipped gradient.
    share = (1 - optimizer.beta1) * clip
    moments = trainer.export().first_moment
    gradients = {name: value / share for name, value in moments.items()}
    parts = zip(*(np.split(part, count) for part in second), strict=True)
    after = sum(float(trainer.evaluate(*part)) for part in parts) / second[1].size
    return _Results(losses=(step.loss, after), gradients=gradients, clip=clip)


def _micro_batches(batch_size: int) -> int:
    """Into how many parts a batch is divided, each of ``MICRO_BATCH`` sequences at most."""
    return next(
        n
        for n in range(1, batch_size + 1)
        if batch_size % n == 0 and batch_size // n <= MICRO_BATCH
    )


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
        """One verdict on a greedy continuation [B, N].

        In float32, how many tokens differ from the reference's. A narrower dtype may rightly choose
        another token where two logits are nearly equal, and from there on continues another text.
        So each row is judged up to its first other token, by the reference's logits of that very
        text: half of what this token's logit lacks to the largest is the least error that the
        contestant's logits can have.
        """
        expected = np.asarray(self.reference.tokens)
        other = tokens != expected
        if self.dtype == SAME_TOKENS:
            wrong = int(other.sum())
            return [Judged("tokens", float(wrong), 0.0, wrong == 0)]
        logits = load_file(self.folder / _LOGITS)["logits"].astype(np.float64)
        rows = np.flatnonzero(other.any(axis=1))
        at = other.argmax(axis=1)
        lacks = [
            logits[row, at[row]].max() - logits[row, at[row], tokens[row, at[row]]] for row in rows
        ]
        judged = tokens.size - sum(tokens.shape[1] - 1 - at[row] for row in rows)
        error, peak = max(lacks, default=0.0) / 2, float(np.abs(logits).max())
        name = f"logits of {judged} of {tokens.size} tokens"
        owed, scale = self.reference.owed_logits, Size(peak, peak)
        return [self._judged(name, Size(error, error), owed, scale, logits.size)]

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
