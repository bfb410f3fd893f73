"""What contestants are certified against: a float64 run of our own, from the same parameters.

The two frameworks' float64 results have been shown equal by ``twingrad compare``, so one of them is
enough. A plain run in the dtype under test beside it says what error that dtype owes to rounding.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from bench.harness import frameworks, programs
from shared.config import AdamWConfig, GPTConfig, OptimizerConfig, TrainConfig
from shared.params import Params
from shared.sampling import Sampling
from twingrad import numerics
from twingrad.numerics import Size

Batch = tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be known: losses and gradients on two batches, or the greedy continuation."""

    side: str
    program: str
    config: GPTConfig
    optimizer: OptimizerConfig
    dtype: str
    batches: tuple[Batch, ...] | None = None
    prompts: np.ndarray | None = None
    new_tokens: int = 0


def answer(question: Question, params: Params, folder: Path) -> None:
    """Write the oracle's results under ``folder``: gradients, and ``answer.json``."""
    results = _small if question.program != "gpt2" else _gpt2
    exact = results(question, params, "float64")
    if question.batches is None:
        (folder / "answer.json").write_text(json.dumps({"tokens": exact.tokens}))
        return
    rounded = results(question, params, question.dtype)
    scales = numerics.scales(exact.gradients)
    owed = {
        name: numerics.distance(rounded.gradients[name], exact.gradients[name]) for name in scales
    }
    arrays = {name: np.asarray(value, order="C") for name, value in exact.gradients.items()}
    save_file(arrays, folder / "gradients.safetensors")
    content = {
        "losses": exact.losses,
        "plain_losses": rounded.losses,
        "clip": exact.clip,
        "scales": {name: (size.l2, size.peak) for name, size in scales.items()},
        "owed": {name: size.l2 for name, size in owed.items()},
    }
    (folder / "answer.json").write_text(json.dumps(content))


@dataclass(frozen=True, kw_only=True)
class _Results:
    """Loss of the first batch, and of the second after one update; gradients before clipping."""

    losses: list[float]
    gradients: Params
    clip: float = 1.0
    tokens: list[list[int]] | None = None


def _gpt2(question: Question, params: Params, dtype: str) -> _Results:
    side = frameworks.one(question.side)
    runtime = side.runtime.configure(dtype, "cpu")
    model = side.params.build(
        lambda: side.make_gpt2(question.config, attention="reference_attention"),
        params,
        runtime.master,
    )
    if question.prompts is not None:
        greedy, prompts = Sampling(temperature=0.0), list(question.prompts)
        model.eval()
        found = side.generate.generate(model, prompts, question.new_tokens, greedy, runtime)
        return _Results(losses=[], gradients={}, tokens=np.stack(list(found), axis=1).tolist())
    assert question.batches is not None
    first, second = question.batches
    optimizer = question.optimizer
    assert isinstance(optimizer, AdamWConfig)
    config = TrainConfig(optimizer=optimizer, batch_size=len(first[0]), dtype=dtype)
    trainer = side.train.Trainer(model, config, runtime)
    step = trainer.step(*(part[None] for part in first))
    clip = min(1.0, optimizer.max_grad_norm / step.grad_norm)
    # After one step the first moment is (1 - beta1) of the clipped gradient.
    share = (1 - optimizer.beta1) * clip
    moments = trainer.export().first_moment
    gradients = {name: value / share for name, value in moments.items()}
    after = float(trainer.evaluate(*second)) / second[1].size
    return _Results(losses=[step.loss, after], gradients=gradients, clip=clip)


def _small(question: Question, params: Params, dtype: str) -> _Results:
    """By hand, with no framework at all."""
    program = programs.make(question.program, steps=1)
    assert program.by_hand is not None
    assert question.batches is not None
    kind: Any = np.float64 if dtype == "float64" else np.float32
    start = {name: value.astype(kind) for name, value in params.items()}
    first, second = (tuple(part.astype(kind) for part in batch) for batch in question.batches)
    loss, _, gradients = program.by_hand(start, *first)
    rate = kind(question.optimizer.learning_rate)
    moved = {name: np.asarray(value - rate * gradients[name]) for name, value in start.items()}
    after, _, _ = program.by_hand(moved, *second)
    return _Results(losses=[float(loss), float(after)], gradients=gradients)


class Judge:
    """Holds a contestant's results against an oracle's answer."""

    def __init__(self, folder: Path, dtype: str):
        self.folder, self.dtype = folder, dtype
        self.answer = json.loads((folder / "answer.json").read_text())

    def losses(self, found: list[float]) -> list[dict[str, Any]]:
        """Verdicts on the loss of the first batch and, where there is one, after an update."""
        names = ("loss", "loss after a step")
        exact, plain = self.answer["losses"], self.answer["plain_losses"]
        rows = []
        for name, ours, right, owed in zip(names, found, exact, plain, strict=False):
            error, yardstick = abs(ours - right), abs(owed - right)
            size = Size(abs(right), abs(right))
            rows.append(self._row(name, Size(error, error), yardstick, size, elements=1))
        return rows

    def gradients(self, found: Params, clipped: bool) -> list[dict[str, Any]]:
        """Verdicts on every gradient tensor; parameters that only a peer has are left out."""
        rows = []
        factor = self.answer["clip"] if clipped else 1.0
        with safe_open(self.folder / "gradients.safetensors", "numpy") as exact:
            for name in exact.keys():  # noqa: SIM118 - it is not a dictionary
                right = exact.get_tensor(name)
                ours = found.get(name)
                error = Size(np.inf, np.inf)
                if ours is not None:
                    error = numerics.distance(np.asarray(ours, np.float64) / factor, right)
                scale = Size(*self.answer["scales"][name])
                rows.append(self._row(name, error, self.answer["owed"][name], scale, right.size))
        return rows

    def tokens(self, found: np.ndarray) -> list[dict[str, Any]]:
        """One verdict: how many of the tokens are others than the oracle's."""
        wrong = int((found != np.asarray(self.answer["tokens"])).sum())
        return [{"name": "tokens", "error_u": float(wrong), "limit_u": 0.0, "ok": wrong == 0}]

    def _row(
        self, name: str, error: Size, owed: float, scale: Size, elements: int
    ) -> dict[str, Any]:
        return numerics.judge_contestant(name, error, owed, scale, self.dtype, elements)


def certificate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All verdicts in one: whether every one holds, and the worst of them."""
    worst = max(rows, key=lambda row: (not row["ok"], row["error_u"] / max(row["limit_u"], 1e-9)))
    return {
        "ok": all(row["ok"] for row in rows),
        "judged": len(rows),
        "worst": worst["name"],
        "error_u": worst["error_u"],
        "limit_u": worst["limit_u"],
    }
