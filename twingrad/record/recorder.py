"""Runs one side of a pair, where its framework is, and keeps what the judgement needs of it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from twingrad import batches
from twingrad.arithmetic import arithmetic
from twingrad.calls import Pass, Plain
from twingrad.casts import log
from twingrad.casts.lifting import lifted
from twingrad.casts.log import CastLog
from twingrad.decoding.decoded import DecodingRecord
from twingrad.decoding.recording import recorded
from twingrad.decoding.runner import Runner
from twingrad.decoding.runs import tokens_of
from twingrad.decoding.sessions import decode_of, on_model
from twingrad.diagnosis.hypotheses import optimizer
from twingrad.diagnosis.hypotheses.sketches import Scene
from twingrad.environment import installed_versions
from twingrad.exact import Say, Unrepeatable, require_same_loss, require_same_pass, silent
from twingrad.foreign import Array
from twingrad.live import live_jax, live_torch, run_foreign
from twingrad.pair import Pair
from twingrad.record.codec import Tensors, encode
from twingrad.record.content import Content, JaxFacts, Run, Steps, TorchFacts
from twingrad.record.files import require_small
from twingrad.sides import TITLES, Framework

if TYPE_CHECKING:
    from twingrad import jax_probe, torch_subject

T = TypeVar("T")
States = list[dict[str, Array]]
# How much of a whole record the first pass is: then come a second batch, and float32.
PASSES = 2.5
FAR = 0.3  # how far a parameter that is one number everywhere is moved, at most
PACKAGES: dict[Framework, tuple[str, ...]] = {
    "torch": ("twingrad", "numpy", "torch"),
    "jax": ("twingrad", "numpy", "jax", "jaxlib", "flax", "optax"),
}


def record(
    pair: Pair,
    side: Framework,
    say: Say = silent,
    only: str | None = None,
    most_gib: float = 4.0,
    like: dict[str, Array] | None = None,
) -> Content:
    """Run ``side`` of ``pair`` in float64 and in float32, on two batches.

    With ``only``, a regular expression, tensors are kept of the calls of modules whose paths it
    finds, and of the model's. What the side decodes is kept in float64. The model has the numbers
    of ``like``, by its own names, or those that it is made with. Of these, where they will be
    copied, JAX's parameters that are one number everywhere are moved by small draws: a mistake in
    their use would not show. Raises ``ValueError`` for a side that is not there or cannot be run,
    for tokens that cannot be decoded, and where a record would have more than ``most_gib`` GiB.
    """
    if getattr(pair, side) is None:
        raise ValueError(f"the pair has no {side}: give {TITLES[side]}'s model as Pair({side}=...)")
    alone = _of_one_side(pair, side)
    decodes = getattr(pair, f"{side}_decode") is not None
    tokens = tokens_of(pair) if decodes else None
    recorder = _Recorder(alone, side, say, only, most_gib, batches.second(alone), tokens, like)
    runs, failures = _all_runs(recorder)
    loss, update = (getattr(pair, f"{side}_{what}") for what in ("loss", "optimizer"))
    return Content(
        side=side,
        name=pair.name,
        versions=installed_versions(PACKAGES[side]),
        train=pair.train,
        copy=pair.copy,
        has_loss=loss is not None,
        has_optimizer=update is not None,
        only=only,
        batch=list(alone.batch),
        second=list(recorder.second.batch) if recorder.second else None,
        tokens=tokens,
        runs=runs,
        failures=failures,
    )


def _of_one_side(pair: Pair, side: Framework) -> Pair:
    """The pair without the other side, its batch the one that this side is given."""
    if side == "torch":
        return replace(
            pair, jax=None, jax_loss=None, jax_optimizer=None, jax_decode=None, jax_batch=None
        )
    batch = pair.jax_batch or pair.batch
    return replace(
        pair, torch=None, torch_loss=None, torch_optimizer=None, torch_decode=None, batch=batch,
        jax_batch=None,
    )  # fmt: skip


def _all_runs(recorder: "_Recorder") -> tuple[dict[str, Run], dict[str, str]]:
    """Runs by precision: without casts to a lower one, with them if there are any, and float32."""
    runs: dict[str, Run] = {}
    failures: dict[str, str] = {}
    with arithmetic("float64"):
        try:
            runs["float64 lifted"] = recorder.run("float64", lift=True)
        except Unrepeatable:
            raise
        except ValueError as error:
            failures["float64 lifted"] = str(error)
        lifted_run = runs.get("float64 lifted")
        if lifted_run is None or lifted_run.casts:
            try:
                runs["float64"] = recorder.run("float64", like=lifted_run)
            except ValueError as error:
                failures["float64"] = str(error)
    if not runs:
        raise ValueError(failures["float64 lifted"])
    with arithmetic("float32"):
        try:
            runs["float32"] = recorder.run("float32", like=next(iter(runs.values())))
        except ValueError as error:
            failures["float32"] = str(error)
    return runs, failures


@dataclass(frozen=True)
class _Recorder:
    """What is recorded of ``pair``, which has one side alone, and of a ``second`` batch of it.

    ``tokens`` are those that the side decodes, if it does.
    """

    pair: Pair
    side: Framework
    say: Say
    only: str | None
    most_gib: float
    second: Pair | None
    tokens: Array | None
    numbers: dict[str, Array] | None

    def run(self, dtype: str, lift: bool = False, like: Run | None = None) -> Run:
        """One run, with the numbers of ``like`` if it is given and numbers are copied."""
        without = ", without casts" if lift else ""
        self.say(f"{self.pair.name}, {dtype}{without}: recording")
        live: _Live = (_Torch if self.side == "torch" else _Jax)(self.pair, dtype, lift, self.only)
        if self.pair.copy:
            live.give(self.numbers if like is None else like.tensors)
        run = live.described(live.observe(self.pair))
        if dtype == "float64":
            tensors = Tensors()
            encode(run.first, tensors)
            require_small(int(PASSES * tensors.size), self.most_gib)
            live.require_repeatable(run.first)
            run = self._continued(live, run)
            if isinstance(live, _Torch) and like is None:
                self.say(f"{self.pair.name}, {dtype}{without}: every module with changes")
                run = replace(run, torch=replace(run.torch, scenes=live.scenes(run.first)))
        casts = {path: sorted(dtypes) for path, dtypes in live.casts.seen.items()}
        return replace(run, casts=casts, constants=live.casts.constants)

    def _continued(self, live: "_Live", run: Run) -> Run:
        """The run with a second batch, state, updates and decoding."""
        both = [self.pair] if self.second is None else [self.pair, self.second]
        second: Pass | None = None
        error: str | None = None
        try:
            second = live.observe(self.second) if self.second else None
        except ValueError as raised:
            error = str(raised)
        return replace(
            run,
            second=second,
            second_error=error,
            states_of_one=live.states([self.pair, self.pair]) if self.pair.train else [],
            states_of_two=live.states(both) if self.pair.train and second else [],
            steps=live.steps(run.first),
            decoding=self._decoding(live),
        )

    def _decoding(self, live: "_Live") -> DecodingRecord | None:
        """What the side decodes, if it does."""
        if self.tokens is None:
            return None
        self.say(f"{self.pair.name}, {live.dtype}: decoding with a cache")
        return recorded(live.decoder, self.side, self.tokens, live.dtype)


@dataclass
class _Live(ABC):
    """One side, live in one precision."""

    pair: Pair
    dtype: str
    lift: bool
    only: str | None
    casts: CastLog = field(default_factory=CastLog)

    @abstractmethod
    def give(self, numbers: dict[str, Array] | None) -> None:
        """Have the model hold these numbers, or such as are fit to be copied to the other."""

    @abstractmethod
    def observe(self, of: Pair) -> Pass:
        """One pass on the batch of ``of``; ``ValueError`` if it fails or is not finite."""

    @abstractmethod
    def require_repeatable(self, once: Pass) -> None:
        """Raise ``Unrepeatable`` if a further pass has another loss."""

    @abstractmethod
    def described(self, first: Pass) -> Run:
        """The run with this pass, and what is known of the model."""

    @abstractmethod
    def states(self, of: Sequence[Pair]) -> States:
        """The state before the first of these batches and after each of them in a row."""

    @abstractmethod
    def steps(self, seen: Pass) -> Steps | None:
        """The steps of the pair's optimizer on the gradients of a pass, if it has one."""

    @abstractmethod
    def decoder(self, use: Callable[[Runner], T]) -> T:
        """The result of ``use``, which is given a runner of the model as it is."""

    def call(
        self, framework: Framework, run: Callable[[], T], heard: bool = False, what: str = "loss"
    ) -> T:
        """The result of ``run``, which calls the model; its casts are ``heard`` or not."""
        with lifted(framework, self.lift, self.casts if heard else CastLog()):
            return run_foreign(f"{framework}_{what}", run)


@dataclass
class _Torch(_Live):
    def __post_init__(self) -> None:
        self.subject: torch_subject.Subject = live_torch(self.pair, self.dtype, self.lift)
        self.loss = self.pair.torch_loss or self.subject.mean_square

    def give(self, numbers: dict[str, Array] | None) -> None:
        """Have the model hold these numbers; its own are as fit as any."""
        if numbers is not None:
            self.subject.give(numbers)

    def observe(self, of: Pair) -> Pass:
        """One pass; ``ValueError`` if it fails or is not finite."""
        seen = self.call(
            "torch", lambda: self.subject.observe(self.loss, of.batch, self.only), heard=True
        )
        _require_finite("PyTorch", seen.loss)
        return seen

    def require_repeatable(self, once: Pass) -> None:
        """Raise ``Unrepeatable`` if a further pass has another loss."""
        require_same_pass(once, self.observe(self.pair))

    def described(self, first: Pass) -> Run:
        """The run with this pass, and what is known of the model."""
        subject = self.subject
        return Run(
            leaves=subject.leaves(),
            tensors={name: x.copy() for name, x in subject.views().items()},
            trained=list(subject.trained),
            first=first,
            torch=TorchFacts(dropouts=subject.dropouts(), momenta=subject.momenta()),
        )

    def scenes(self, seen: Pass) -> list[Scene]:
        """What modules give with one of their operations changed."""
        from twingrad import torch_sketch

        model, batch = self.subject.model, self.pair.batch
        return torch_sketch.scenes(model, self.loss, batch, self.dtype, self.lift, seen)

    def states(self, of: Sequence[Pair]) -> States:
        """Buffers before the first of these batches and after each of them in a row."""
        given = [each.batch for each in of]
        return self.call("torch", lambda: self.subject.states(self.loss, given))

    def decoder(self, use: Callable[[Runner], T]) -> T:
        """The result of ``use``, which is given a runner of the model as it is."""
        decode = decode_of(self.pair, "torch")
        run = partial(on_model, self.subject, "torch", decode, use)
        return self.call("torch", run, what="decode")

    def steps(self, seen: Pass) -> Steps | None:
        """The steps of the pair's optimizer on the gradients of a pass, if it has one."""
        if self.pair.torch_optimizer is None:
            return None
        gradients = optimizer.scaled(seen.gradients)
        parameters, rule = self.subject.stepped(self.pair.torch_optimizer, gradients)
        return Steps(gradients=gradients, parameters=parameters, rule=rule)


@dataclass
class _Jax(_Live):
    def __post_init__(self) -> None:
        self.subject: jax_probe.Subject = live_jax(self.pair, self.dtype, self.lift)
        self.loss = self.pair.jax_loss or self.subject.mean_square
        self.calls = self.call("jax", lambda: self.subject.paths(self.loss, self.pair.batch))

    def give(self, numbers: dict[str, Array] | None) -> None:
        """Have the model hold these numbers, or its own without such as hide mistakes."""
        self.subject.give(_moved(self.subject) if numbers is None else numbers)

    def observe(self, of: Pair) -> Pass:
        """One pass; ``ValueError`` if it fails or is not finite."""
        from twingrad import jax_observe

        self._plain(of, heard=True)
        return self.call(
            "jax", lambda: jax_observe.observe(self.subject, self.loss, of.batch, self.only)
        )

    def _plain(self, of: Pair, heard: bool = False) -> Plain:
        plain = self.call("jax", lambda: self.subject.plain(self.loss, of.batch), heard)
        _require_finite("JAX", plain.loss)
        return plain

    def require_repeatable(self, once: Pass) -> None:
        """Raise ``Unrepeatable`` if two further passes have other losses."""
        require_same_loss(self._plain(self.pair), self._plain(self.pair))

    def described(self, first: Pass) -> Run:
        """The run with this pass, and what is known of the model."""
        subject = self.subject
        return Run(
            leaves=subject.leaves(),
            tensors={path: np.asarray(x) for path, x in subject.tensors.items()},
            trained=sorted(subject.trained),
            first=first,
            jax=JaxFacts(
                calls=self.calls,
                hidden=sorted(subject.out_of_reach(self.loss)),
                state=sorted(subject.state),
                required=sorted(subject.required),
                channels_last=subject.channels_last,
            ),
        )

    def states(self, of: Sequence[Pair]) -> States:
        """The state before the first of these batches and after each of them in a row."""
        given = [each.batch for each in of]
        return self.call("jax", lambda: self.subject.states(self.loss, given))

    def decoder(self, use: Callable[[Runner], T]) -> T:
        """The result of ``use``, which is given a runner of the model as it is."""
        decode = decode_of(self.pair, "jax")
        run = partial(on_model, self.subject, "jax", decode, use)
        return self.call("jax", run, what="decode")

    def steps(self, seen: Pass) -> Steps | None:
        """The steps of the pair's optimizer on the gradients of a pass, if it has one."""
        if self.pair.jax_optimizer is None:
            return None
        gradients, paths = optimizer.scaled(seen.gradients), sorted(self.subject.trained)

        def stepped() -> States:
            with log.inside(optimizer.OPTIMIZER):
                return self.subject.stepped(self.pair.jax_optimizer, paths, gradients)

        parameters = self.call("jax", stepped, heard=True, what="optimizer")
        return Steps(gradients=gradients, parameters=parameters, rule=None)


def _moved(subject: "jax_probe.Subject") -> dict[str, Array]:
    """The model's numbers, with small draws added to parameters that are one number everywhere.

    Of a bias of zeros no mistake in its use would show, and PyTorch's layers draw theirs.
    """
    generator = np.random.default_rng(0)
    moved = {}
    for path in sorted(subject.trained):
        x = np.asarray(subject.tensors[path])
        if x.size and x.dtype.kind in "fc" and (x == x.ravel()[0]).all():
            most = min(FAR, 1 / np.sqrt(x.shape[-1] if x.ndim else 1))
            draw = generator.uniform(-most, most, x.shape)
            if x.dtype.kind == "c":
                draw = draw + 1j * generator.uniform(-most, most, x.shape)
            moved[path] = np.asarray(x + draw, x.dtype)
    return moved


def _require_finite(framework: str, loss: float) -> None:
    """Raise ``ValueError`` for a loss that is NaN or infinite."""
    if not math.isfinite(loss):
        raise ValueError(f"{framework}'s loss is {loss}: record it with a batch of a finite loss")
