"""Tests of the tests: bugs planted in one side, each of which a gate must catch.

A mutant is a real edit of one source file of one side. That side is loaded again from the edited
text and judged against the other as ``compare`` judges them, gate by gate, until one trips. The
bugs themselves stand at the end of this file.
"""

import gc
import importlib.util
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.machinery import ModuleSpec
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.markup import escape

from bench import programs, show
from bench.compare import Comparison, Gate, Outcome
from bench.programs import Program
from bench.sides import NAMES, Side, Sides
from shared import data, params
from shared.config import GPTConfig
from shared.observation import Observation
from shared.params import Params

T = TypeVar("T")
DTYPES = ("float64", "float32")
CRASH = "crash"  # stands for a gate where the edited program raised instead of computing


@dataclass(frozen=True)
class Edit:
    """``old`` becomes ``new``; ``old`` must occur exactly ``times`` times.

    Lines after the first are indented as the line of the file is in which the edit is made.
    """

    old: str
    new: str
    times: int = 1

    def made_in(self, text: str) -> str:
        """``text`` with the edit made everywhere; ``AssertionError`` where it does not fit."""
        places = []
        for found in re.finditer(re.escape(self.old.partition("\n")[0]), text):
            line = text[text.rfind("\n", 0, found.start()) + 1 :]
            indent = "\n" + " " * (len(line) - len(line.lstrip(" ")))
            old = self.old.replace("\n", indent)
            if text.startswith(old, found.start()):
                places.append((found.start(), old, self.new.replace("\n", indent)))
        assert len(places) == self.times, (
            f"{self.old!r} occurs {len(places)} times, expected {self.times}"
        )
        for start, old, new in reversed(places):
            text = text[:start] + new + text[start + len(old) :]
        return text


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One bug, as edits of the file of that name on each side where the framework allows it."""

    name: str
    about: str
    file: str
    edits: Mapping[str, tuple[Edit, ...]]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one bug on one side: the gate that tripped, how far, and where first."""

    name: str
    side: str
    about: str
    caught: bool
    gate: str | None = None
    dtype: str | None = None
    factor: float | None = None
    first: str | None = None


@dataclass(kw_only=True)
class Report:
    """The program without a bug, and every bug on every side."""

    clean: list[Outcome]
    results: list[Result] = field(default_factory=list)

    @property
    def clean_ok(self) -> bool:
        """Whether every gate holds where nothing was planted."""
        return bool(self.clean) and all(outcome.ok for outcome in self.clean)

    @property
    def caught(self) -> int:
        """How many of the planted bugs a gate caught."""
        return sum(result.caught for result in self.results)

    @property
    def ok(self) -> bool:
        """Whether every planted bug was caught, and nothing where there was none."""
        return self.clean_ok and bool(self.results) and self.caught == len(self.results)


def program() -> Program:
    """A GPT-2 small enough to be compiled a hundred times, and awkward enough to hide no bug.

    No two of its sizes are equal. The position embedding has a mean, as the residual stream of a
    trained model does, without which a careless variance costs nothing. The gradients' norm is
    about 1, so that some training steps are clipped and some are not: where all are, a gradient of
    the wrong size trains as the right one does.
    """
    config = GPTConfig(
        vocab_size=61, context_length=16, emb_dim=24, n_heads=4, n_layers=2, qkv_bias=True
    )
    given = params.init_gpt2(config, spread=programs.SPREAD)
    given["wpe.weight"] += np.float32(0.3)
    tokens = data.token_batch(config, 3, 13, seed=0)
    return programs.gpt2("small", config=config, given=given, tokens=tokens, steps=8)


def run(
    sides: Sides,
    device: str = "cpu",
    names: Sequence[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
    mutants: Sequence[Mutant] | None = None,
) -> Report:
    """Judge the program without a bug, then with each bug of ``mutants`` on each of its sides.

    ``names`` chooses among them; ``ValueError`` lists the choices if one is unknown.
    """
    chosen = _chosen(MUTANTS if mutants is None else mutants, names)
    trials = [(mutant, side) for mutant in chosen for side in mutant.edits]
    for mutant, side in trials:
        edited(mutant, side)  # an edit that no longer fits is found now, not after minutes
    clean: dict[tuple[str, ...], Any] = {}
    comparison = partial(_Trial, program=program(), sides=sides, device=device, clean=clean)
    with _compiled_once(), _quick_collection():
        say("the program without a bug")
        report = Report(clean=list(_outcomes(comparison())))
        for number, (mutant, side) in enumerate(trials, start=1):
            say(f"bug {number} of {len(trials)}: {mutant.name} in {side}")
            report.results.append(_judged(mutant, side, comparison(planted=side)))
    return report


def _chosen(mutants: Sequence[Mutant], names: Sequence[str] | None) -> list[Mutant]:
    known = [mutant.name for mutant in mutants]
    for name in names or ():
        if name not in known:
            raise ValueError(f"unknown mutant {name!r}: choose from {', '.join(known)}")
    return [mutant for mutant in mutants if names is None or mutant.name in names]


def _outcomes(comparison: Comparison) -> Iterator[Outcome]:
    """float64 and, where that holds, float32."""
    for dtype in DTYPES:
        outcome = comparison.run(dtype)
        yield outcome
        if not outcome.ok:
            return


def _judged(mutant: Mutant, side: str, comparison: Comparison) -> Result:
    result = partial(Result, name=mutant.name, side=side, about=mutant.about)
    try:
        with planted(mutant, side):
            outcome = list(_outcomes(comparison))[-1]
    except Exception as error:  # whatever the edited program raises is what the bug does
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return result(caught=True, gate=CRASH, first=text)
    if outcome.ok:
        return result(caught=False)
    gate = outcome.gates[-1]
    return result(
        caught=True,
        gate=gate.name,
        dtype=outcome.dtype,
        factor=float(gate.worst.factor),
        first=next(tensor.name for tensor in gate.tensors if not tensor.ok),
    )


@dataclass(kw_only=True)
class _Trial(Comparison):
    """A comparison that computes the ``planted`` side, and the other one once for all trials."""

    planted: str | None = None
    clean: dict[tuple[str, ...], Any]

    def observe(self, side: Side, dtype: str) -> Observation:
        """One pass of one side, from ``clean`` where nothing is planted."""
        return self._once(side, ("pass", dtype), partial(super().observe, side, dtype))

    def _pass(self, dtype: str) -> Gate:
        gate = super()._pass(dtype)
        # Once float64 holds, both results can be the oracle. The clean one stays it, since the
        # gradients that are injected into the optimizers are made from it.
        self._oracle = self.clean.get((self.sides[0].name, "pass", "float64"), self._oracle)
        return gate

    def _stepped(self, side: Side, dtype: str, name: str) -> dict[int, Params]:
        key = ("optimizer", dtype, name)
        return self._once(side, key, partial(super()._stepped, side, dtype, name))

    def _losses(self, side: Side, dtype: str, params: Params | None = None) -> np.ndarray:
        compute = partial(super()._losses, side, dtype, params)
        return compute() if params else self._once(side, ("trajectory", dtype), compute)

    def _once(self, side: Side, key: tuple[str, ...], compute: Callable[[], T]) -> T:
        if side.name == self.planted:
            return compute()
        key = (side.name, *key)
        if key not in self.clean:
            self.clean[key] = compute()
        return self.clean[key]


def edited(mutant: Mutant, side: str) -> str:
    """The text of the mutant's file on ``side`` with its edits made.

    ``AssertionError``, naming the mutant, where an edit does not fit the file exactly.
    """
    text = _file(mutant, side).read_text(encoding="utf-8")
    for edit in mutant.edits[side]:
        try:
            text = edit.made_in(text)
        except AssertionError as error:
            where = f"{_package(side)}/{mutant.file}"
            raise AssertionError(f"mutant {mutant.name}, {where}: {error}") from None
    return text


def _package(side: str) -> str:
    return f"{side}_impl"


def _file(mutant: Mutant, side: str) -> Path:
    spec = importlib.util.find_spec(_package(side))
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name(mutant.file)


@contextmanager
def planted(mutant: Mutant, side: str) -> Iterator[Side]:
    """Within, ``side`` is a second copy of its modules, one of them loaded from the edited text.

    The frameworks stay as they are; afterwards, so are the modules.
    """
    package = _package(side)
    name = f"{package}.{mutant.file.removesuffix('.py')}"
    finder = _Finder(name, edited(mutant, side), str(_file(mutant, side)))
    originals = _taken_out(package)
    sys.meta_path.insert(0, finder)
    try:
        yield Side(side)
    finally:
        sys.meta_path.remove(finder)
        _taken_out(package)
        sys.modules.update(originals)


def _taken_out(package: str) -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    return {name: sys.modules.pop(name) for name in names}


class _Finder:
    """Finds one module, and loads it from the text given."""

    def __init__(self, name: str, text: str, origin: str):
        self.name, self.text, self.origin = name, text, origin

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_loader(name, self, origin=self.origin)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.text, f"{self.origin} (planted)", "exec"), module.__dict__)


@contextmanager
def _compiled_once() -> Iterator[None]:
    """Within, XLA compiles no program twice: what a bug leaves alone was compiled before."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    wanted: dict[str, Any] = {
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    with tempfile.TemporaryDirectory(prefix="twingrad-") as folder:
        wanted["jax_compilation_cache_dir"] = folder
        before = {key: getattr(jax.config, key) for key in wanted}
        _configure(wanted)
        compilation_cache.reset_cache()
        try:
            yield
        finally:
            _configure(before)
            compilation_cache.reset_cache()


@contextmanager
def _quick_collection() -> Iterator[None]:
    """Within, the engine's garbage collections pass over what both frameworks have loaded."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _configure(values: dict[str, Any]) -> None:
    import jax

    for key, value in values.items():
        jax.config.update(key, value)


def report_object(report: Report) -> dict[str, Any]:
    """The report as the JSON contract has it."""
    rows = []
    for result in report.results:
        factor = None if result.factor is None else float(f"{result.factor:.6g}")
        rows.append({**vars(result), "factor": factor})
    return {"ok": report.ok, "clean_ok": report.clean_ok, "mutants": rows}


def render(console: Console, report: Report) -> None:
    """The table of bugs, what caught each on either side, and the sum of it in one line."""
    by_name: dict[str, dict[str, Result]] = {}
    for result in report.results:
        by_name.setdefault(result.name, {})[result.side] = result
    table = show.table("planted bug", *(show.NAMES[side] for side in NAMES))
    for name, found in by_name.items():
        about = next(iter(found.values())).about
        cells = [_cell(found.get(side)) for side in NAMES]
        table.add_row(f"{escape(name)}  [dim]{escape(about)}[/dim]", *cells)
    console.print(table)
    for outcome in report.clean:
        if not outcome.ok:
            gate = outcome.gates[-1]
            console.print(
                f"[red]The program without a bug fails[/red] gate {gate.name} in {outcome.dtype} "
                f"at {escape(gate.worst.name)}."
            )
    clean = "is clean" if report.clean_ok else "is not"
    console.print(
        f"{report.caught} of {len(report.results)} planted bugs caught; the clean program {clean}."
    )


def _cell(result: Result | None) -> str:
    if result is None:
        return "[dim]–[/dim]"
    if not result.caught:
        return "[red]not caught[/red]"
    if result.factor is None:
        return f"{result.gate}"
    where = result.gate if result.gate == result.dtype else f"{result.gate}, {result.dtype}"
    return f"{where} ×{show.units(result.factor)}"


_HEAD = re.compile(r"(?P<name>\S+) \((?P<file>\w+\.py)\): (?P<about>.+)")


def parse(text: str) -> tuple[Mutant, ...]:
    """Mutants out of ``text``, which is written as ``BUGS`` is; comments start with #."""
    blocks = (block for block in text.strip().split("\n\n") if not block.startswith("#"))
    return tuple(_parsed(block.splitlines()) for block in blocks)


def _parsed(lines: list[str]) -> Mutant:
    head = _HEAD.fullmatch(lines[0])
    assert head is not None, f"not the head of a mutant: {lines[0]!r}"
    edits: dict[str, list[Edit]] = {}
    for sign, run in groupby(lines[1:], key=lambda line: line[:1] if line[:1] in "-+" else ""):
        named = list(run)
        text = "\n".join(line[2:] for line in named)
        if not sign:
            sides = NAMES if named == ["both"] else named
            edits |= {side: [] for side in sides}
        for side in sides:
            if sign == "-":
                edits[side].append(Edit(text, ""))
            elif sign == "+":
                edits[side][-1] = replace(edits[side][-1], new=text)
    return Mutant(**head.groupdict(), edits={side: tuple(made) for side, made in edits.items()})


# One block a bug: its name, file and what it is, then for one side or for both the lines that go
# and those that come. Every module's call is kept, so that no bug is given away by a tensor that is
# missing. JAX computes float64 attention by the written-out form, so its bugs are planted there.
BUGS = """
# The block and its parts

layer-norm-epsilon-1e-6 (gpt2.py): LayerNorm with Flax's default epsilon
both
- from shared.config import LAYER_NORM_EPSILON, GPTConfig
+ from shared.config import GPTConfig
+
+ LAYER_NORM_EPSILON = 1e-6

layer-norm-epsilon-1e-12 (gpt2.py): LayerNorm with BERT's epsilon
both
- from shared.config import LAYER_NORM_EPSILON, GPTConfig
+ from shared.config import GPTConfig
+
+ LAYER_NORM_EPSILON = 1e-12

unbiased-variance (gpt2.py): LayerNorm divides the squares by C - 1
torch
- self.ln_1 = nn.LayerNorm(C, eps=LAYER_NORM_EPSILON)
+ class Norm(nn.LayerNorm):
+     def forward(self, x):
+         mean = x.mean(-1, keepdim=True)
+         variance = x.var(-1, keepdim=True)
+         return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
+
+ self.ln_1 = Norm(C, eps=LAYER_NORM_EPSILON)
jax
- self.ln_1 = nnx.LayerNorm(C, epsilon=LAYER_NORM_EPSILON, use_fast_variance=False, rngs=rngs)
+ class Norm(nnx.LayerNorm):
+     def __call__(self, x):
+         mean = x.mean(-1, keepdims=True)
+         variance = x.var(-1, keepdims=True, ddof=1)
+         x = (x - mean) * jax.lax.rsqrt(variance + self.epsilon)
+         return x * self.scale[...] + self.bias[...]
+
+ self.ln_1 = Norm(C, epsilon=LAYER_NORM_EPSILON, use_fast_variance=False, rngs=rngs)

fast-variance (gpt2.py): variance as E[x²] - E[x]², which cancels
torch
- self.ln_1 = nn.LayerNorm(C, eps=LAYER_NORM_EPSILON)
+ class Norm(nn.LayerNorm):
+     def forward(self, x):
+         mean = x.mean(-1, keepdim=True)
+         variance = x.square().mean(-1, keepdim=True) - mean.square()
+         return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
+
+ self.ln_1 = Norm(C, eps=LAYER_NORM_EPSILON)
jax
- self.ln_1 = nnx.LayerNorm(C, epsilon=LAYER_NORM_EPSILON, use_fast_variance=False, rngs=rngs)
+ self.ln_1 = nnx.LayerNorm(C, epsilon=LAYER_NORM_EPSILON, use_fast_variance=True, rngs=rngs)

gelu-erf (gpt2.py): GELU by erf, PyTorch's default
torch
- x = F.gelu(x, approximate="tanh")
+ x = F.gelu(x)
jax
- x = nnx.gelu(x, approximate=True)
+ x = nnx.gelu(x, approximate=False)

gelu-sigmoid (gpt2.py): GELU as x sigmoid(1.702 x)
torch
- x = F.gelu(x, approximate="tanh")
+ x = x * torch.sigmoid(1.702 * x)
jax
- x = nnx.gelu(x, approximate=True)
+ x = x * nnx.sigmoid(1.702 * x)

relu (gpt2.py): ReLU where GPT-2 has GELU
torch
- x = F.gelu(x, approximate="tanh")
+ x = F.relu(x)
jax
- x = nnx.gelu(x, approximate=True)
+ x = nnx.relu(x)

no-residual (gpt2.py): the MLP's output replaces the stream
both
- x = x + self.mlp(self.ln_2(x))
+ x = self.mlp(self.ln_2(x))

residual-sign (gpt2.py): attention is subtracted
both
- x = x + self.attn(self.ln_1(x))
+ x = x - self.attn(self.ln_1(x))

post-norm-residual (gpt2.py): the residual starts after the norm
both
- x = x + self.attn(self.ln_1(x))
+ x = self.ln_1(x)
+ x = x + self.attn(x)

parallel-block (gpt2.py): the MLP reads what attention reads, as in GPT-J
both
- x = x + self.attn(self.ln_1(x))
- x = x + self.mlp(self.ln_2(x))
+ x = x + self.attn(self.ln_1(x)) + self.mlp(self.ln_2(x))

one-norm-twice (gpt2.py): the MLP is given ln_1's output
both
- x = x + self.mlp(self.ln_2(x))
+ x = x + self.mlp(self.ln_1(x) + 0.0 * self.ln_2(x))

norms-swapped (gpt2.py): ln_1 and ln_2 change places
both
- x = x + self.attn(self.ln_1(x))
+ x = x + self.attn(self.ln_2(x))
- x = x + self.mlp(self.ln_2(x))
+ x = x + self.mlp(self.ln_1(x))

no-final-norm (gpt2.py): the head reads the stream without ln_f
both
- x = self.ln_f(x)
+ x = x + 0.0 * self.ln_f(x)

no-bias (gpt2.py): the MLP's first bias is dropped
both
- x = self.c_fc(x)
+ x = self.c_fc(x) - self.c_fc.bias[...]

blocks-reversed (gpt2.py): the last block runs first
both
- for block in self.h:
+ for block in reversed(self.h):

# Attention

attention-unscaled (gpt2.py): scores are not divided by sqrt(D)
torch
- is_causal=True, dropout_p=rate
+ is_causal=True, scale=1.0, dropout_p=rate
jax
- jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D)
+ jnp.einsum("bqhd,bkhd->bhqk", q, k)

attention-scale-head (gpt2.py): scores are divided by D
torch
- is_causal=True, dropout_p=rate
+ is_causal=True, scale=1 / q.shape[3], dropout_p=rate
jax
- jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D)
+ jnp.einsum("bqhd,bkhd->bhqk", q, k) / D

attention-scale-width (gpt2.py): scores are divided by sqrt(C)
torch
- is_causal=True, dropout_p=rate
+ is_causal=True, scale=(q.shape[1] * q.shape[3]) ** -0.5, dropout_p=rate
jax
- jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D)
+ jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[2] * D)

attention-unscaled-in-float32 (gpt2.py): a kernel that float64 has no use for forgets the scale
torch
- y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
+ scale = 1.0 if q.dtype == torch.float32 else None
+ y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, dropout_p=rate)
jax
- return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=kernel)
+ return jax.nn.dot_product_attention(q, k, v, is_causal=True, scale=1.0, implementation=kernel)

no-mask (gpt2.py): every position sees every other one
torch
- is_causal=True, dropout_p=rate
+ is_causal=False, dropout_p=rate
jax
- scores = jnp.where(causal, scores, -jnp.inf)
+ del causal

mask-one-ahead (gpt2.py): the mask lets one future token through
torch
- y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
+ mask = q.new_ones(q.shape[2], q.shape[2], dtype=torch.bool).tril(1)
+ y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
jax
- causal = jnp.tril(jnp.ones((T, T), dtype=bool))
+ causal = jnp.tril(jnp.ones((T, T), dtype=bool), k=1)

mask-without-self (gpt2.py): no position but the first sees itself
torch
- y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
+ mask = q.new_ones(q.shape[2], q.shape[2], dtype=torch.bool).tril(-1)
+ mask[:, 0] = True
+ y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
jax
- causal = jnp.tril(jnp.ones((T, T), dtype=bool))
+ causal = jnp.tril(jnp.ones((T, T), dtype=bool), k=-1).at[:, 0].set(True)

softmax-over-queries (gpt2.py): the softmax runs over the wrong axis
torch
- y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
+ scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[3])
+ causal = torch.ones_like(scores[0, 0], dtype=torch.bool).tril()
+ scores = torch.where(causal, scores, -torch.inf)
+ y = torch.softmax(scores, dim=-2) @ v
jax
- jax.nn.softmax(scores, axis=-1)
+ jax.nn.softmax(scores, axis=-2)

query-key-swapped (gpt2.py): c_attn holds keys before queries
torch
- q, k, v = self.c_attn(x).chunk(3, dim=-1)
+ k, q, v = self.c_attn(x).chunk(3, dim=-1)
jax
- q, k, v = jnp.split(self.c_attn(x), 3, axis=-1)
+ k, q, v = jnp.split(self.c_attn(x), 3, axis=-1)

key-value-swapped (gpt2.py): c_attn holds values before keys
torch
- q, k, v = self.c_attn(x).chunk(3, dim=-1)
+ q, v, k = self.c_attn(x).chunk(3, dim=-1)
jax
- q, k, v = jnp.split(self.c_attn(x), 3, axis=-1)
+ q, v, k = jnp.split(self.c_attn(x), 3, axis=-1)

qkv-per-head (gpt2.py): c_attn is cut into heads first, as in Megatron
torch
- q, k, v = self.c_attn(x).chunk(3, dim=-1)
+ q, k, v = self.c_attn(x).reshape(B, T, self.n_heads, -1).chunk(3, dim=-1)
jax
- q, k, v = jnp.split(self.c_attn(x), 3, axis=-1)
+ q, k, v = jnp.split(self.c_attn(x).reshape(B, T, self.n_heads, -1), 3, axis=-1)

heads-interleaved (gpt2.py): heads are split as (D, H)
both
- q, k, v = (z.reshape(B, T, self.n_heads, -1) for z in (q, k, v))
+ q, k, v = (z.reshape(B, T, -1, self.n_heads).swapaxes(2, 3) for z in (q, k, v))

heads-merged-interleaved (gpt2.py): heads are merged as (D, H)
both
- y = y.reshape(B, T, C)
+ y = y.swapaxes(2, 3).reshape(B, T, C)

heads-merged-over-time (gpt2.py): heads are merged before they go behind time
both
- y = y.reshape(B, T, C)
+ y = y.swapaxes(1, 2).reshape(B, T, C)

# Parameters

projection-transposed (params.py): attention's square projection is read transposed
torch
- return linear - {"lm_head.weight"}
+ kept = ("lm_head.weight", "attn.c_proj.weight")
+ return {name for name in linear if not name.endswith(kept)}
jax
- return name == "lm_head.weight"
+ return name.endswith(("lm_head.weight", "attn.c_proj.weight"))

parameters-through-float16 (params.py): the checkpoint passes through float16
torch
- torch.tensor(value).to(
+ torch.tensor(value).half().to(
jax
- value.astype(runtime.dtype
+ value.astype("float16").astype(runtime.dtype

# Both ends of the model

positions-from-one (gpt2.py): the first position is number 1
torch
- x = self.wte(tokens) + self.wpe(torch.arange(T, device=tokens.device))
+ x = self.wte(tokens) + self.wpe(torch.arange(1, T + 1, device=tokens.device))
jax
- x = self.wte(tokens) + self.wpe(jnp.arange(T))
+ x = self.wte(tokens) + self.wpe(jnp.arange(1, T + 1))

no-positions (gpt2.py): positions are not added
both
- self.wte(tokens) + self.wpe(
+ self.wte(tokens) + 0.0 * self.wpe(

embedding-scaled (gpt2.py): token embeddings are multiplied by sqrt(C)
both
- x = self.wte(tokens) +
+ x = self.wte(tokens)
+ x = math.sqrt(x.shape[-1]) * x +

dropout-left-on (gpt2.py): dropout in evaluation
torch
- x = self.drop(x)
+ x = F.dropout(x, self.drop.p)
jax
- x = self.drop(x)
+ on = {"deterministic": False, "rngs": nnx.Rngs(0)}
+ x = nnx.Dropout(self.drop.rate, **on)(x)

untied-gradient (gpt2.py): the head's part of the tied gradient is lost
torch
- F.linear(x, self.wte.weight)
+ F.linear(x, self.wte.weight.detach())
jax
- self.wte.attend(x)
+ x @ jax.lax.stop_gradient(self.wte.embedding[...]).T

padding-row (gpt2.py): one token is taken for padding: its row gets no gradient
torch
- self.wte = nn.Embedding(V, C)
+ self.wte = nn.Embedding(V, C, padding_idx=16)
jax
- x = self.wte(tokens) +
+ x = self.wte(tokens)
+ x = jnp.where(tokens[..., None] == 16, jax.lax.stop_gradient(x), x) +

no-position-gradient (gpt2.py): nothing flows back into the position embedding
torch
- x = self.wte(tokens) + self.wpe(torch.arange(T, device=tokens.device))
+ positions = self.wpe(torch.arange(T, device=tokens.device))
+ x = self.wte(tokens) + positions.detach() + 0.0 * positions
jax
- x = self.wte(tokens) + self.wpe(jnp.arange(T))
+ positions = self.wpe(jnp.arange(T))
+ x = self.wte(tokens) + jax.lax.stop_gradient(positions) + 0.0 * positions

no-norm-bias-gradient (gpt2.py): the last LayerNorm's bias gets no gradient
torch
- x = self.ln_f(x)
+ x = self.ln_f(x) - self.ln_f.bias + self.ln_f.bias.detach()
jax
- x = self.ln_f(x)
+ x = self.ln_f(x) - self.ln_f.bias[...] + jax.lax.stop_gradient(self.ln_f.bias[...])

# The loss

loss-summed (gpt2.py): the loss is a sum
torch
- F.cross_entropy(wide.flatten(0, 1), targets.flatten())
+ F.cross_entropy(wide.flatten(0, 1), targets.flatten(), reduction="sum")
jax
- optax.softmax_cross_entropy_with_integer_labels(wide, targets).mean()
+ optax.softmax_cross_entropy_with_integer_labels(wide, targets).sum()

loss-over-batch (gpt2.py): the sum is divided by B
torch
- F.cross_entropy(wide.flatten(0, 1), targets.flatten())
+ F.cross_entropy(wide.flatten(0, 1), targets.flatten(), reduction="sum") / len(targets)
jax
- optax.softmax_cross_entropy_with_integer_labels(wide, targets).mean()
+ optax.softmax_cross_entropy_with_integer_labels(wide, targets).sum() / len(targets)

loss-over-shifted (gpt2.py): the sum is divided by B (T - 1)
torch
- F.cross_entropy(wide.flatten(0, 1), targets.flatten())
+ F.cross_entropy(wide.flatten(0, 1), targets.flatten(), reduction="sum") / targets[:, 1:].numel()
jax
- optax.softmax_cross_entropy_with_integer_labels(wide, targets).mean()
+ optax.softmax_cross_entropy_with_integer_labels(wide, targets).sum() / targets[:, 1:].size

loss-without-last (gpt2.py): the last position is not counted
torch
- F.cross_entropy(wide.flatten(0, 1), targets.flatten())
+ F.cross_entropy(wide[:, :-1].flatten(0, 1), targets[:, :-1].flatten())
jax
- optax.softmax_cross_entropy_with_integer_labels(wide, targets).mean()
+ optax.softmax_cross_entropy_with_integer_labels(wide[:, :-1], targets[:, :-1]).mean()

targets-not-shifted (gpt2.py): every position predicts itself
torch
- F.cross_entropy(wide.flatten(0, 1), targets.flatten())
+ F.cross_entropy(wide.flatten(0, 1), inputs.flatten())
jax
- optax.softmax_cross_entropy_with_integer_labels(wide, targets).mean()
+ optax.softmax_cross_entropy_with_integer_labels(wide, inputs).mean()

gradient-times-1.01 (gpt2.py): the loss is right and its gradient 1 % too large
torch
- return loss, logits
+ loss = loss + 0.01 * (loss - loss.detach())
+ return loss, logits
jax
- return loss, logits
+ loss = loss + 0.01 * (loss - jax.lax.stop_gradient(loss))
+ return loss, logits

gradient-sign (gpt2.py): the loss is right and its gradient points up
torch
- return loss, logits
+ loss = 2 * loss.detach() - loss
+ return loss, logits
jax
- return loss, logits
+ loss = 2 * jax.lax.stop_gradient(loss) - loss
+ return loss, logits

# Precision: float64 cannot see these

attention-in-tf32 (gpt2.py): in float32, q, k and v keep 11 bits
torch
- y = self.attention(q, k, v, self.attn_dropout)
+ if x.dtype == torch.float32:
+     q, k, v = (z.half().float() for z in (q, k, v))
+ y = self.attention(q, k, v, self.attn_dropout)
jax
- y = self.attention(q, k, v, self.attn_dropout)
+ if x.dtype == jnp.float32:
+     q, k, v = (z.astype(jnp.float16).astype(x.dtype) for z in (q, k, v))
+ y = self.attention(q, k, v, self.attn_dropout)

mlp-in-bfloat16 (gpt2.py): in float32, the MLP's input keeps 8 bits
torch
- x = self.c_fc(x)
+ x = self.c_fc(x.bfloat16().float() if x.dtype == torch.float32 else x)
jax
- x = self.c_fc(x)
+ low = jnp.bfloat16 if x.dtype == jnp.float32 else x.dtype
+ x = self.c_fc(x.astype(low).astype(x.dtype))

softmax-in-bfloat16 (gpt2.py): in float32, attention's softmax keeps 8 bits
torch
- y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
+ scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[3])
+ causal = torch.ones_like(scores[0, 0], dtype=torch.bool).tril()
+ scores = torch.where(causal, scores, -torch.inf)
+ low = torch.bfloat16 if q.dtype == torch.float32 else q.dtype
+ y = torch.softmax(scores.to(low), dim=-1).to(v.dtype) @ v
jax
- return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=kernel)
+ scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[3])
+ scores = jnp.where(jnp.tril(jnp.ones_like(scores[0, 0], dtype=bool)), scores, -jnp.inf)
+ weights = jax.nn.softmax(scores.astype(jnp.bfloat16), axis=-1).astype(v.dtype)
+ return jnp.einsum("bhqk,bkhd->bqhd", weights, v)

logits-in-float16 (gpt2.py): in float32, logits are rounded to float16
torch
- logits = model(inputs)
+ logits = model(inputs)
+ logits = logits.half().float() if logits.dtype == torch.float32 else logits
jax
- logits = model(inputs)
+ logits = model(inputs)
+ low = jnp.float16 if logits.dtype == jnp.float32 else logits.dtype
+ logits = logits.astype(low).astype(logits.dtype)

loss-in-bfloat16 (gpt2.py): in float32, the cross-entropy keeps 8 bits
torch
- wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
+ wide = logits.bfloat16() if logits.dtype == torch.float32 else logits
jax
- wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
+ wide = logits.astype(jnp.bfloat16 if logits.dtype == jnp.float32 else logits.dtype)

moments-in-bfloat16 (optim.py): in float32, AdamW's first moment keeps 8 bits
torch
- self.inner.step()
+ self.inner.step()
+ for state in self.inner.state.values():
+     if state["exp_avg"].dtype == torch.float32:
+         state["exp_avg"].copy_(state["exp_avg"].bfloat16())
jax
- eps=config.epsilon,
+ eps=config.epsilon,
+ mu_dtype=None if jax.config.jax_enable_x64 else jnp.bfloat16,

# The optimizer

adam-epsilon-in-root (optim.py): AdamW's epsilon stands inside the root
torch
- return optim.AdamW(
+ class ByHand(optim.AdamW):
+     @torch.no_grad()
+     def step(self):
+         for group in self.param_groups:
+             b1, b2 = group["betas"]
+             for p in group["params"]:
+                 m, v, t = self.state.setdefault(
+                     p, [torch.zeros_like(p), torch.zeros_like(p), torch.zeros(())]
+                 )
+                 t += 1
+                 m.lerp_(p.grad, 1 - b1)
+                 v.mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
+                 update = m / (1 - b1**t) / (v / (1 - b2**t) + group["eps"]).sqrt()
+                 p -= group["lr"] * (update + group["weight_decay"] * p)
+
+ return ByHand(
jax
- eps=config.epsilon,
- eps_root=0.0
+ eps=0.0,
+ eps_root=config.epsilon

adam-epsilon-1e-6 (optim.py): AdamW's epsilon is 1e-6
both
- eps=config.epsilon
+ eps=1e-6

no-bias-correction (optim.py): AdamW's moments start at zero, uncorrected
torch
- return optim.AdamW(
+ class ByHand(optim.AdamW):
+     @torch.no_grad()
+     def step(self):
+         for group in self.param_groups:
+             b1, b2 = group["betas"]
+             for p in group["params"]:
+                 m, v, t = self.state.setdefault(
+                     p, [torch.zeros_like(p), torch.zeros_like(p), torch.zeros(())]
+                 )
+                 t += 1
+                 m.lerp_(p.grad, 1 - b1)
+                 v.mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
+                 update = m / (v.sqrt() + group["eps"])
+                 p -= group["lr"] * (update + group["weight_decay"] * p)
+
+ return ByHand(
jax
- return optax.chain(
+ def by_hand(rate, b1, b2, eps, eps_root, weight_decay, mask):
+     def init(params):
+         return tuple(jax.tree.map(jnp.zeros_like, params) for _ in range(2))
+
+     def update(g, moments, params=None):
+         m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, moments[0], g)
+         v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, moments[1], g)
+         return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), m, v), (m, v)
+
+     return optax.chain(
+         optax.GradientTransformation(init, update),
+         optax.add_decayed_weights(weight_decay, mask),
+         optax.scale_by_learning_rate(rate),
+     )
+
+ return optax.chain(
- optax.adamw(
+ by_hand(

beta2-0.999 (optim.py): AdamW's second beta is both frameworks' default
both
- config.beta2
+ 0.999

betas-swapped (optim.py): AdamW's betas change places
torch
- betas=(config.beta1, config.beta2)
+ betas=(config.beta2, config.beta1)
jax
- b1=config.beta1,
- b2=config.beta2
+ b1=config.beta2,
+ b2=config.beta1

decay-everything (optim.py): gains and biases decay too
torch
- return p.ndim >= 2
+ return True
jax
- jax.tree.map(lambda p: p.ndim >= 2, params)
+ jax.tree.map(lambda p: True, params)

decay-nothing (optim.py): nothing decays
torch
- return p.ndim >= 2
+ return False
jax
- jax.tree.map(lambda p: p.ndim >= 2, params)
+ jax.tree.map(lambda p: False, params)

decay-default (optim.py): the framework's own weight decay
torch
- "weight_decay": config.weight_decay,
jax
- weight_decay=config.weight_decay,

decay-in-gradient (optim.py): L2 in the gradient instead of decoupled decay
torch
- return optim.AdamW(
+ return optim.Adam(
jax
- optax.adamw(
+ optax.add_decayed_weights(config.weight_decay, _decays),
+ optax.adam(
- weight_decay=config.weight_decay,
- mask=_decays,

no-clipping (optim.py): gradients are not clipped
torch
- _clip([p.grad for p in self.model.parameters()], self.config.max_grad_norm)
+ pass
jax
- optax.clip_by_global_norm(config.max_grad_norm)
+ optax.identity()

clip-by-value (optim.py): each number is clipped, not the norm
torch
- scale = (max_norm / norm).clamp(max=1.0)
+ scale = 1.0
+ for gradient in gradients:
+     gradient.clamp_(-max_norm, max_norm)
jax
- optax.clip_by_global_norm(config.max_grad_norm)
+ optax.clip(config.max_grad_norm)

clip-per-tensor (optim.py): each tensor is clipped to the norm by itself
torch
- _clip([p.grad for p in self.model.parameters()], self.config.max_grad_norm)
+ for p in self.model.parameters():
+     _clip([p.grad], self.config.max_grad_norm)
jax
- optax.clip_by_global_norm(config.max_grad_norm)
+ optax.stateless_with_tree_map(
+     lambda g, p: g * jnp.minimum(1, config.max_grad_norm / jnp.linalg.norm(g))
+ )

clip-norm-plus-1e-6 (optim.py): the norm is made 1e-6 larger, as clip_grad_norm_ does
torch
- scale = (max_norm / norm).clamp(max=1.0)
+ scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
jax
- return optax.chain(
+ def scaled(g, params):
+     scale = jnp.minimum(1, config.max_grad_norm / (optax.global_norm(g) + 1e-6))
+     return jax.tree.map(lambda x: x * scale, g)
+
+ return optax.chain(
- optax.clip_by_global_norm(config.max_grad_norm)
+ optax.stateless(scaled)

rate-one-step-ahead (optim.py): the schedule counts steps from 1
torch
- float(learning_rate(self.steps, self.config))
+ float(learning_rate(self.steps + 1, self.config))
jax
- partial(learning_rate, config=config, xp=jnp)
+ lambda step: learning_rate(step + 1, config, jnp)

no-warm-up (optim.py): the rate starts at its peak
torch
- from shared.config import AdamWConfig
+ from dataclasses import replace
+
+ from shared.config import AdamWConfig
- float(learning_rate(self.steps, self.config))
+ float(learning_rate(self.steps, replace(self.config, warmup_steps=0)))
jax
- from shared.config import AdamWConfig
+ from dataclasses import replace
+
+ from shared.config import AdamWConfig
- partial(learning_rate, config=config, xp=jnp)
+ partial(learning_rate, config=replace(config, warmup_steps=0), xp=jnp)

rate-decays-to-zero (optim.py): the rate falls to 0
torch
- from shared.config import AdamWConfig
+ from dataclasses import replace
+
+ from shared.config import AdamWConfig
- float(learning_rate(self.steps, self.config))
+ float(learning_rate(self.steps, replace(self.config, min_learning_rate=0.0)))
jax
- from shared.config import AdamWConfig
+ from dataclasses import replace
+
+ from shared.config import AdamWConfig
- partial(learning_rate, config=config, xp=jnp)
+ partial(learning_rate, config=replace(config, min_learning_rate=0.0), xp=jnp)

rate-constant (optim.py): the schedule is never read
torch
- float(learning_rate(self.steps, self.config))
+ self.config.learning_rate
jax
- partial(learning_rate, config=config, xp=jnp)
+ config.learning_rate

rate-in-float32 (optim.py): the rate is rounded to float32
torch
- float(learning_rate(self.steps, self.config))
+ torch.tensor(learning_rate(self.steps, self.config)).float().item()
jax
- partial(learning_rate, config=config, xp=jnp)
+ lambda step: learning_rate(step, config, jnp).astype(jnp.float32)

# The training loop

gradients-not-cleared (train.py): last step's gradients are added to; JAX keeps none
torch
- optimizer.zero_grad()

optimizer-state-lost (train.py): every step begins with a new optimizer
torch
- optimizer.step()
+ Optimizer(model, optimizer.config).step()
jax
- optimizer.update(model, gradients)
+ nnx.Optimizer(model, optimizer.tx, wrt=nnx.Param).update(model, gradients)

no-update (train.py): the parameters never move
torch
- optimizer.step()
+ model.zero_grad()
jax
- optimizer.update(model, gradients)
+ nnx.clone(optimizer).update(nnx.clone(model), gradients)

update-twice (train.py): every step is taken twice
torch
- optimizer.step()
+ optimizer.step()
+ optimizer.step()
jax
- optimizer.update(model, gradients)
+ optimizer.update(model, gradients)
+ optimizer.update(model, gradients)

same-batch (train.py): every step sees the first batch
both
- for batch in batches
+ for batch in (lambda every: every[:1] * len(every))(list(batches))

loss-after-update (train.py): the loss is taken after the update
torch
- return loss.detach()
+ return loss_fn(model, *batch)[0].detach()
jax
- optimizer.update(model, gradients)
- return loss
+ optimizer.update(model, gradients)
+ return loss_fn(model, *batch)[0]

gradients-summed (train.py): gradients twice too large, as of two micro-batches added up
torch
- loss.backward()
- optimizer
+ (2 * loss).backward()
+ optimizer
jax
- optimizer.update(model, gradients)
+ optimizer.update(model, jax.tree.map(lambda g: 2 * g, gradients))
"""

MUTANTS = parse(BUGS)
