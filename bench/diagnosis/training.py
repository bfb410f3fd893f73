"""A training run written out with every choice open: by which recipe does each framework train?

The model's passes are PyTorch's, once they have been shown to be JAX's as well; the rest is done
here, in NumPy. A framework follows a recipe that gives all of its metrics, step by step.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from bench.diagnosis.recipes import Recipe, variants
from bench.harness.foreign import Array, Batch
from bench.harness.frameworks import Framework
from bench.harness.programs import Program
from bench.harness.training_steps import StepMetrics
from shared.config import IGNORED, AdamWConfig, OptimizerConfig, TrainConfig
from shared.params import Params
from shared.schedule import learning_rate
from shared.train_state import TrainState, counted, step_keys
from twingrad import numerics
from twingrad.diagnosis.finding import Cause, Form
from twingrad.diagnosis.hypotheses.rules import NamedRule, Rule


def rule_of(config: OptimizerConfig, steps: int) -> Rule:
    """The optimizer's rule that a configuration stands for."""
    rates = tuple(float(learning_rate(step, config)) for step in range(steps))
    if not isinstance(config, AdamWConfig):
        return Rule(kind="sgd", rates=rates)
    return Rule(
        rates=rates,
        beta1=config.beta1,
        beta2=config.beta2,
        epsilon=config.epsilon,
        decay=config.weight_decay,
        max_norm=config.max_grad_norm,
    )


def schedule_rules(rule: Rule, config: OptimizerConfig) -> Iterator[NamedRule]:
    """The rule with known mistakes in its schedule of learning rates."""
    if not isinstance(config, AdamWConfig):
        return
    steps = range(len(rule.rates))

    def rates_of(changed: AdamWConfig, ahead: int = 0) -> tuple[float, ...]:
        return tuple(float(learning_rate(step + ahead, changed)) for step in steps)

    schedules = {
        "with the schedule one step ahead": rates_of(config, 1),
        "with the schedule one step behind": (rule.rates[0], *rule.rates[:-1]),
        "without warm-up": rates_of(replace(config, warmup_steps=0)),
        "with a rate that falls to 0": rates_of(replace(config, min_learning_rate=0.0)),
        "with a constant rate": (config.learning_rate,) * len(steps),
        "with its rate rounded to float32": tuple(float(np.float32(r)) for r in rule.rates),
    }
    for name, rates in schedules.items():
        yield f"the rule {name}", replace(rule, rates=rates)


class Passes:
    """Loss and gradients of a program's model in float64, by PyTorch; each computed once."""

    def __init__(self, program: Program, framework: Framework):
        self.program, self.framework = program, framework
        self.runtime = framework.runtime.configure("float64", "cpu")
        self.model = program.build(framework, self.runtime)
        self.sites = 0
        if program.training is not None:
            framework.dropout.match(self.model)
            self.sites = len(framework.dropout.sites(self.model))
        self._known: dict[bytes, tuple[float, Params]] = {}

    def __call__(
        self, params: Params, batch: Batch, keys: Array | None = None
    ) -> tuple[float, Params]:
        """The summed loss of a batch where there is a trainer, else its mean, and its gradients.

        With ``keys`` [S, 2] units are dropped.
        """
        arguments = [*params.values(), *batch, *([] if keys is None else [keys])]
        mark = hashlib.sha256(b"".join(x.tobytes() for x in arguments)).digest()
        if mark not in self._known:
            self._known[mark] = self._computed(params, batch, keys)
        return self._known[mark]

    def _computed(self, params: Params, batch: Batch, keys: Array | None) -> tuple[float, Params]:
        model, framework = self.model, self.framework
        model.load_state_dict(
            framework.params.import_tensors(model, params, self.runtime), strict=True
        )
        model.train(keys is not None)
        if keys is not None:
            framework.dropout.set_keys(model, keys)
        tensors = self.runtime.batch(*batch)
        model.zero_grad()
        if self.program.training is not None:
            loss = framework.gpt2.summed_loss(model, *tensors, 0)
        else:
            loss = self.program.loss_fn(framework)(model, *tensors)[0]
        loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        exported = framework.export_gradients(model, gradients)
        return float(loss.detach()), {name: np.array(g) for name, g in exported.items()}


@dataclass(kw_only=True)
class _Run:
    """One training run by a recipe: parameters, moments, and what counts steps."""

    recipe: Recipe
    program: Program
    passes: Passes
    p: Params
    m: Params = field(default_factory=dict)
    v: Params = field(default_factory=dict)
    left: Params = field(default_factory=dict)  # gradients that the last step left behind
    steps: int = 0
    correction: int = 0
    schedule: int = 0
    evaluated: bool = False

    @classmethod
    def begin(cls, recipe: Recipe, program: Program, passes: Passes) -> "_Run":
        """A run at its start."""
        p = {name: np.asarray(x, np.float64) for name, x in program.params.items()}
        run = cls(recipe=recipe, program=program, passes=passes, p=p)
        run._forget()
        return run

    def _forget(self) -> None:
        self.m, self.v = ({n: np.zeros(x.shape) for n, x in self.p.items()} for _ in range(2))
        self.correction = self.schedule = 0

    @property
    def config(self) -> OptimizerConfig:
        """The optimizer's configuration."""
        training = self.program.training
        if training is not None:
            return training.optimizer
        return self.program.optimizers[self.program.trajectory_optimizer]

    def metrics(self) -> Iterator[dict[str, float]]:
        """The metrics of every step."""
        batches = self.program.batches
        if self.program.training is None:
            for batch in batches:
                yield self._step(batches[0] if self.recipe.batches == "first" else batch)
            return
        start = self._export()
        for number, batch in enumerate(batches):
            if number == len(batches) // 2:
                halfway = self._export()
                self._restore(start)
                self._step(batches[0])
                self._restore(halfway)
            step = self._step(batches[0] if self.recipe.batches == "first" else batch)
            yield {**step, "val_loss": self._evaluate(batch, self.program.training)}

    def _step(self, batch: Batch) -> dict[str, float]:
        recipe = self.recipe
        shares = list(self._shares(batch))
        loss = shares[-1][0] if recipe.loss == "last" else sum(part for part, _ in shares)
        gradients = self._gathered([g for _, g in shares])
        rule = rule_of(self.config, 1)
        clipped = rule.clipped(gradients)
        norm = _norm(clipped if recipe.norm == "clipped" else gradients)
        if recipe.norm in ("last share", "last mean"):
            norm = _norm(shares[-1][1])
        if recipe.norm == "last mean":
            norm *= counted(batch[1]) / counted(self._divided(batch)[-1][1])
        for _ in range(recipe.updates):
            self._update(rule, clipped)
        self.left = clipped
        self.steps += 1
        if recipe.loss == "after":
            loss = sum(part for part, _ in self._shares(batch))
        return {"loss": loss, "grad_norm": norm}

    def _update(self, rule: Rule, gradients: Params) -> None:
        if self.recipe.new_optimizer:
            self._forget()
        A = len(self._divided(self.program.batches[0]))
        if self.recipe.counts_micro_batches == "schedule":
            self.schedule = self.steps * A
        if self.recipe.counts_micro_batches == "all":
            self.schedule += A - 1
            self.correction += A - 1
        rate = float(learning_rate(self.schedule, self.config))
        with np.errstate(all="ignore"):
            rule.move(self.p, self.m, self.v, gradients, rate, self.correction)
        self.schedule += 1
        self.correction += 1

    def _divided(self, batch: Batch) -> list[Batch]:
        training = self.program.training
        if training is None:
            return [batch]
        return list(zip(*(x.reshape(training.micro_batches, -1, x.shape[-1]) for x in batch),
                        strict=True))  # fmt: skip

    def _shares(self, batch: Batch) -> Iterator[tuple[float, Params]]:
        """Each micro-batch's share of loss and gradients."""
        parts = list(enumerate(self._divided(batch)))
        choices = {"all": parts, "not the last": parts[:-1], "first twice": parts[:1] + parts}
        for number, part in choices[self.recipe.micro_batches]:
            loss, gradients = self.passes(self.p, part, self._keys(number))
            divisor = self._divisor(batch, part)
            scale = self.recipe.gradient_factor / divisor
            yield loss / divisor, {name: scale * g for name, g in gradients.items()}

    def _divisor(self, batch: Batch, part: Batch) -> float:
        training = self.program.training
        if training is None:
            return 1.0
        return {
            "counted": counted(batch[1]),
            "all": batch[1].size,
            "own": counted(part[1]) * training.micro_batches,
        }[self.recipe.divisor]

    def _gathered(self, shares: list[Params]) -> Params:
        config = self.config
        top = config.max_grad_norm if isinstance(config, AdamWConfig) else math.inf
        if self.recipe.clip == "each":
            shares = [_scaled(g, min(1.0, top / _norm(g))) for g in shares]
        if self.recipe.gradients == "last":
            return shares[-1]
        zeros = {name: np.zeros(x.shape) for name, x in self.p.items()}
        total = self.left if self.recipe.carries_gradients and self.left else zeros
        for share in shares:
            total = {name: total[name] + g for name, g in share.items()}
            if self.recipe.clip == "sum":
                total = _scaled(total, min(1.0, top / (_norm(total) + 1e-6)))
        return total

    def _keys(self, micro_batch: int) -> Array | None:
        training, how = self.program.training, self.recipe.keys
        if training is None or not self.recipe.drops:
            return None
        if how == "until evaluation" and self.evaluated:
            return None
        step = 0 if how == "first step" else self.steps
        keys: Array = step_keys(training.seed, step, training.micro_batches, self.passes.sites)
        if how == "first layer":
            keys[:] = keys[:, :1]
        of_micro_batch: Array = keys[0 if how == "first micro-batch" else micro_batch]
        return of_micro_batch

    def _evaluate(self, batch: Batch, training: TrainConfig) -> float:
        self.evaluated = True
        how, keys = self.recipe.evaluates, None
        if how in ("last keys", "zero keys"):
            self.steps -= 1
            keys = self._keys(training.micro_batches - 1)
            self.steps += 1
        if how == "zero keys" and keys is not None:
            keys = np.zeros_like(keys)
        if how == "without last chunk" and training.loss_chunk:
            inputs, targets = batch[0], batch[1].copy()
            last = (targets.size - 1) // training.loss_chunk * training.loss_chunk
            targets.reshape(-1)[last:] = IGNORED
            batch = (inputs, targets)
        return self.passes(self.p, batch, keys)[0]

    def _export(self) -> TrainState:
        parts: list[Params] = [dict(part) for part in (self.p, self.m, self.v)]
        if self.recipe.rounds_checkpoint:
            with np.errstate(over="ignore"):
                parts = [
                    {n: x.astype(np.float16).astype(float) for n, x in part.items()}
                    for part in parts
                ]
        return TrainState(self.steps, *parts)

    def _restore(self, state: TrainState) -> None:
        keeps, zeroes, recipe = self.recipe.keeps, self.recipe.zeroes, self.recipe
        first, second = state.first_moment, state.second_moment
        if recipe.swaps_moments:
            first, second = second, first
        zeros = {name: np.zeros(x.shape) for name, x in self.p.items()}
        self.p = self.p if keeps == "parameters" else dict(state.params)
        self.m = self.m if keeps == "first" else dict(zeros if zeroes == "first" else first)
        self.v = self.v if keeps == "second" else dict(zeros if zeroes == "second" else second)
        done = state.step - recipe.steps_behind
        if keeps != "correction":
            self.correction = 0 if zeroes == "correction" else done
        if keeps != "schedule":
            self.schedule = 0 if zeroes == "schedule" else done
        if keeps != "keys":
            self.steps = state.step


def _norm(gradients: Params) -> float:
    return math.hypot(*(numerics.size(g).l2 for g in gradients.values()))


def _scaled(gradients: Params, factor: float) -> Params:
    return {name: factor * g for name, g in gradients.items()}


def followed(
    program: Program, framework: Framework, torch: StepMetrics, jax: StepMetrics
) -> Cause | None:
    """The recipe that gives PyTorch's metrics and the one that gives JAX's, if they differ."""
    passes = Passes(program, framework)
    training = program.training
    recipes: dict[str, str] = {}
    for name, recipe in variants(training.micro_batches if training else 1, plain=not training):
        unexplained = {
            other: metrics
            for other, metrics in (("torch", torch), ("jax", jax))
            if other not in recipes
        }
        for other in _fits(_Run.begin(recipe, program, passes), unexplained):
            recipes[other] = name
        if len(recipes) == 2:
            if recipes["torch"] == recipes["jax"]:
                return None
            return Cause(recipes["torch"], recipes["jax"], Form.RECIPES)
    return None


def _fits(run: _Run, runs: dict[str, StepMetrics]) -> list[str]:
    """The names of the ``runs`` whose metrics the recipe gives; it stops where there are none."""
    for step, predicted in enumerate(run.metrics()):
        runs = {
            name: metrics
            for name, metrics in runs.items()
            if all(_near(predicted[key], values[step]) for key, values in metrics.items())
        }
        if not runs:
            break
    return list(runs)


def _near(predicted: float, actual: float) -> bool:
    if not math.isfinite(predicted):
        return not math.isfinite(actual)
    return abs(predicted - actual) <= numerics.FLOAT64_TRAJECTORY_RELATIVE * abs(actual)
