"""The gates of mixed precision hold without a bug, and each of these bugs trips one.

The bugs are of mixed precision alone: in float64 and float32 nothing is computed otherwise.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pytest

from bench.harness.frameworks import NAMES, Frameworks
from bench.harness.programs import Program
from bench.mutation import compile_cache, programs
from bench.mutation.cached_runs import CachedRuns, CleanResults, Key
from bench.mutation.mutants import parse, planted
from bench.parity import mixed_gate, mixed_runs
from bench.parity.comparison import Comparison
from bench.parity.program_runs import LiveRuns
from twingrad.numerics import UNIT_ROUNDOFF, Gaps, Size, counted_in, judge_rounded
from twingrad.outcome import Outcome

T = TypeVar("T")

BUGS = """
widened-late (train.py): micro-batches are added up in bfloat16
torch
- loss.backward()
- self._widen()
+ loss.backward()
- return self.grid.total(torch.stack(losses).sum())
+ self._widen()
+ return self.grid.total(torch.stack(losses).sum())
jax
- return jax.tree.map(jnp.add, total, gradient(params, *micro_batch)), None
+ added = jax.tree.map(jnp.add, total, gradient(params, *micro_batch))
+ narrow = self.runtime.dtype
+ return (added[0], jax.tree.map(lambda g: g.astype(narrow).astype(g.dtype), added[1])), None

gradients-lost (train.py): a micro-batch's gradients replace those before
torch
- torch._foreach_add_(*map(
+ torch._foreach_copy_(*map(

copy-not-refreshed (train.py): after an update the copy is what it was
torch
- self._narrow()
- self.steps += 1
+ self.steps += 1

copy-not-restored (train.py): the copy stays as it was when a checkpoint is read
torch
- self.optimizer.restore(first, second, state.step)
- self._narrow()
+ self.optimizer.restore(first, second, state.step)

master-not-updated (train.py): the update moves the copy alone
torch
- norm = self.optimizer.step(loss)
- self._narrow()
+ kept = [p.detach().clone() for p in self._masters]
+ norm = self.optimizer.step(loss)
+ self._narrow()
+ with torch.no_grad():
+     torch._foreach_copy_(self._masters, kept)
jax
- after = nnx.state((model, optimizer))
+ after = nnx.state((nnx.merge(self.graphdef, state, copy=True)[0], optimizer))

master-in-bfloat16 (train.py): the updated parameters are rounded
torch
- self._narrow()
- self.steps += 1
+ self._narrow()
+ with torch.no_grad():
+     torch._foreach_copy_(self._masters, [p.to(self.runtime.dtype) for p in self._masters])
+ self.steps += 1
jax
- optimizer.update(model, gradients)
- after
+ optimizer.update(model, gradients)
+ narrow = self.runtime.dtype
+ params = nnx.state(model, nnx.Param)
+ nnx.update(model, jax.tree.map(lambda p: p.astype(narrow).astype(p.dtype), params))
+ after

moment-in-bfloat16 (optim.py): the first moment is kept in 8 bits
torch
- self.inner.step()
+ self.inner.step()
+ for state in self.inner.state.values():
+     state["exp_avg"].copy_(state["exp_avg"].bfloat16())

second-moment-in-bfloat16 (train.py): the second moment is kept in 8 bits
torch
- self._narrow()
- self.steps += 1
+ self._narrow()
+ for average in self.optimizer.moments()[1].values():
+     average.copy_(average.to(self.runtime.dtype))
+ self.steps += 1
jax
- optimizer.update(model, gradients)
- after
+ optimizer.update(model, gradients)
+ average, narrow = optimizer.moments()[1], self.runtime.dtype
+ nnx.update(average, jax.tree.map(lambda v: v.astype(narrow).astype(v.dtype), average))
+ after

norm-in-bfloat16 (optim.py): gradients are clipped by a rounded norm
torch
- norm = _joint_norm(gradients)
+ norm = _joint_norm(gradients).bfloat16().float()
jax
- optax.clip_by_global_norm(config.max_grad_norm),
+ optax.stateless(
+     lambda tree, _: (
+         lambda norm: jax.tree.map(
+             lambda g: g * jnp.minimum(1.0, config.max_grad_norm / norm), tree
+         )
+     )(optax.tree.norm(tree).astype(jnp.bfloat16).astype(jnp.float32))
+ ),
"""
# The gate that each trips, and what stands in the name of its first tensor over the limit.
CAUGHT = {
    "widened-late": ("mixed pass", ", added up"),
    "gradients-lost": ("mixed pass", ", all logits at once"),
    "copy-not-refreshed": ("mixed pass", ", 6 steps"),
    "copy-not-restored": ("mixed pass", ", added up"),
    # PyTorch's next pass is that of a copy which has left its parameters.
    "torch-master-not-updated": ("mixed pass", ", 6 steps"),
    "jax-master-not-updated": ("mixed update", "adamw[0] wte.weight"),
    "master-in-bfloat16": ("mixed update", "adamw[0] wte.weight"),
    # The gradients that are found again from it are rounded too.
    "moment-in-bfloat16": ("mixed pass", ", added up"),
    "second-moment-in-bfloat16": ("mixed update", "second moment[0] wte.weight"),
    "norm-in-bfloat16": ("mixed update", "clipped norm["),
}
MUTANTS = {mutant.name: mutant for mutant in parse(BUGS)}


@dataclass(frozen=True, kw_only=True)
class NarrowRuns(CachedRuns):
    """Of a framework with a bug, only what is in bfloat16 is computed anew."""

    def _once(self, known: dict[Key, T], key: Key, compute: Callable[[], T]) -> T:
        if key[2] == mixed_gate.NARROW:
            return super()._once(known, key, compute)
        return replace(self, planted=None)._computed(known, key, compute)

    def _computed(self, known: dict[Key, T], key: Key, compute: Callable[[], T]) -> T:
        return super()._once(known, key, compute)


@dataclass
class Bench:
    """One layer of the small GPT-2 of the planted bugs, judged in bfloat16 with and without one."""

    frameworks: Frameworks
    program: Program
    clean: CleanResults = field(default_factory=CleanResults)

    def outcome(self, framework: str | None = None) -> Outcome:
        """The outcome in bfloat16, with a bug planted in ``framework``."""
        live = LiveRuns(program=self.program, device="cpu")
        runs = NarrowRuns(live=live, clean=self.clean, planted=framework, file="train.py")
        compared = Comparison(
            program=self.program, frameworks=self.frameworks, device="cpu", runs=runs
        )
        assert compared.run("float64").ok
        return compared.run(mixed_gate.NARROW)


@pytest.fixture(scope="module")
def small(frameworks: Frameworks) -> Iterator[Bench]:
    """The same for all tests, what is right of it computed once."""
    with compile_cache.compiled_once():
        yield Bench(frameworks, programs.small_gpt2(layers=1))


def test_nothing_trips_without_a_bug(small: Bench) -> None:
    outcome = small.outcome()
    assert outcome.ok, outcome
    names = [gate.name for gate in outcome.gates]
    assert names == ["bfloat16", "mixed pass", "mixed update", "mixed trajectory"]
    mixed, update, _ = outcome.gates[1:]
    labels = {tensor.name for tensor in mixed.tensors}
    for suffix in (" in float64", ", all logits at once", ", added up", ", 6 steps"):
        assert {f"loss{suffix}", f"h.0.attn.c_attn.bias{suffix}"} <= labels
    assert {f"clipped norm[{step}]" for step in range(6)} <= {t.name for t in update.tensors}


@pytest.mark.slow(
    "jax-[!m]*",
    "jax-master-n*",
    "torch-copy-*",
    "torch-g*",
    "torch-m[!o]*-in-*",
    "jax-master-in-bfloat16",
    "torch-second-moment-in-bfloat16",
    "torch-widened-late",
)
@pytest.mark.parametrize(
    ("side", "name"),
    [(side, name) for name, mutant in MUTANTS.items() for side in NAMES if side in mutant.edits],
)
def test_each_bug_trips_its_gate(small: Bench, side: str, name: str) -> None:
    small.outcome()
    with planted(MUTANTS[name], side):
        outcome = small.outcome(side)
    assert not outcome.ok
    failed = outcome.gates[-1]
    first = next(tensor.name for tensor in failed.tensors if not tensor.ok)
    gate, label = CAUGHT.get(name) or CAUGHT[f"{side}-{name}"]
    assert failed.name == gate
    assert label in first


def test_other_counts_of_micro_batches_have_no_exact_mean(small: Bench) -> None:
    training = small.program.training
    assert training is not None
    batch = small.program.batches[0]
    three = replace(training, micro_batches=3)

    class Untouched:
        def export(self) -> None:
            return None

    assert not list(mixed_runs.by_micro_batch(Untouched(), batch, three))  # type: ignore[arg-type]


def test_a_verdict_in_other_units_says_the_same() -> None:
    apart = Gaps(*(Size(error, error) for error in (1e-6, 2e-6, 3e-6)))
    verdict = judge_rounded("x", "update", apart, Size(1.0, 1.0), "float32", 100)
    counted = counted_in(verdict, "float32", "bfloat16")
    assert counted.ok == verdict.ok
    assert counted.error_ratio == verdict.error_ratio
    assert counted.torch_error_u == pytest.approx(1e-6 / UNIT_ROUNDOFF["bfloat16"])
    assert counted.limit_u * 2**16 == verdict.limit_u
    assert counted_in(verdict, "float32", "float32") is verdict
