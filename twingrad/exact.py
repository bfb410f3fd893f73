"""A pair run in float64, as ``compare`` and ``diagnose`` both begin, with casts left out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from twingrad import batches, numerics
from twingrad.arithmetic import arithmetic
from twingrad.calls import Key, Pass, Plain
from twingrad.casts.log import CastLog
from twingrad.casts.originals import Originals, is_rounded
from twingrad.diagnosis.finding import Note
from twingrad.diagnosis.origin import require_finite
from twingrad.live import ROOT, LivePair, named
from twingrad.pair import Pair
from twingrad.user_code import UserCodeError

Say = Callable[[str], None]
# By how much digits of a table may bring two models apart that differ by more than them.
FARTHER = 1e-4
IN_FLOAT32 = '; it runs in float32: precision="float32", or --precision float32, judges it there'
ONE_BATCH = "judged on the pair's own batch alone"


def silent(text: str) -> None:
    """Discard progress messages."""


@dataclass(kw_only=True)
class ExactRun:
    """Both models live in float64, and one pass of each; ``notes`` say what could not be done."""

    live: LivePair
    seen: Pass
    plain: Plain
    notes: list[Note] = field(default_factory=list)

    @classmethod
    def of(cls, pair: Pair, say: Say = silent) -> "ExactRun":
        """Run both models, with casts to a lower precision left out where that can be done.

        Raises ``ValueError`` where they cannot be run in float64 either way, and ``Unrepeatable``.
        """
        say(f"{pair.name}, float64: building both")
        try:
            return cls._run(LivePair.build(pair, "float64", lift=True), say)
        except Unrepeatable:
            raise
        except ValueError as error:
            without_casts = error
        try:
            run = cls._run(LivePair.build(pair, "float64"), say)
        except ValueError:
            raise _with_advice(without_casts, pair) from None
        run.notes.append(
            Note("model", f"judged with its casts to lower precision: without, {without_casts}")
        )
        return run

    @classmethod
    def _run(cls, live: LivePair, say: Say) -> "ExactRun":
        seen = live.run_torch()
        plain = deterministic(live, seen, say)
        run = cls(live=live, seen=seen, plain=plain, notes=list(live.notes))
        has_lost = live.jax_casts.constants and not live.jax.recorded
        return run._with_all_digits() if has_lost else run

    def _with_all_digits(self) -> "ExactRun":
        """The run in which JAX's constants have the digits that they lost to float32.

        Tables are those of PyTorch's pass. A number that could be a literal may be rounded in
        PyTorch too: it is read again only where the models are nearer then.
        """
        tensors = [*self.seen.fixed, *self.seen.statistics.values()]
        run = self._with_originals(Originals(tensors))
        if run is self or not run.live.jax_casts.constants:
            return run
        literals = run._with_originals(Originals(tensors, literals=True))
        return literals if literals.distance < run.distance / 2 else run

    @property
    def distance(self) -> float:
        """How far JAX's loss and output are from PyTorch's, relative."""
        return self.live.distance(self.seen, self.plain)

    @property
    def is_coarse(self) -> bool:
        """Whether float64 shows no more than float32 would, as far as either model can tell.

        Numbers of float32 are among its constants or its own tables, or its casts stay in.
        """
        live = self.live
        if not live.lift or live.torch_casts.constants or live.jax_casts.constants:
            return True
        copied = {name for partner in live.partners for name in partner.torch_names}
        tables = [x for name, x in self.seen.statistics.items() if name not in copied]
        return any(is_rounded(x).any() for x in tables)

    def _with_originals(self, originals: Originals) -> "ExactRun":
        """The run with these numbers; this one where it is no farther, or they agree as it is.

        Where both models have the same rounded numbers, they do.
        """
        if self.distance <= numerics.FLOAT64_RELATIVE:
            return self
        casts = CastLog(seen=dict(self.live.jax_casts.seen))
        live = replace(self.live, lift=originals, jax_casts=casts)
        other = replace(self, live=live, plain=live.run_jax())
        if other.distance <= self.distance * (1 + FARTHER):
            return other
        self.live.jax_casts.constants = casts.constants  # their digits are known all the same
        return self

    @classmethod
    def once(cls, live: LivePair) -> "ExactRun":
        """One pass of each. Raises ``ValueError`` where neither loss is finite."""
        run = cls(live=live, seen=live.run_torch(), plain=live.run_jax())
        require_finite(live, run.seen, run.plain)
        return run

    def second(self, say: Say = silent) -> "ExactRun | Note":
        """The same two models on a second batch; a note where PyTorch's model takes none.

        Raises ``ValueError`` where JAX's model alone does not take it.
        """
        following = batches.second(self.live.pair)
        if following is None:
            return Note("model", f"{ONE_BATCH}: JAX's is no rearrangement of PyTorch's")
        say(f"{following.name}, {self.live.dtype}: a second batch")
        live = replace(self.live, pair=following)
        try:
            seen = live.run_torch()
        except ValueError as error:
            return Note("model", f"{ONE_BATCH}: of one made from it, {error}")
        if not np.isfinite(seen.loss):
            return Note("model", f"{ONE_BATCH}: of one made from it, PyTorch's loss is {seen.loss}")
        return ExactRun(live=live, seen=seen, plain=live.run_jax())

    def cast_notes(self) -> Iterable[Note]:
        """Which modules compute in a lower precision of their own accord."""
        if not self.live.lift:
            return
        names = {key.path: other.path for key, other in self.live.names(self.seen).items()}
        torch = self.live.torch_casts.seen
        jax: dict[str, set[str]] = {}
        for path, dtypes in self.live.jax_casts.seen.items():
            jax.setdefault(names.get(path, path), set()).update(dtypes)
        alike: dict[str, list[str]] = {}
        for path in dict.fromkeys([*torch, *jax]):
            who = [name for name, casts in (("PyTorch", torch), ("JAX", jax)) if path in casts]
            dtypes = torch.get(path, set()) | jax.get(path, set())
            verb = "compute" if len(who) > 1 else "computes"
            sentence = f"{' and '.join(who)} {verb} in {' and '.join(sorted(dtypes))} by design"
            alike.setdefault(sentence, []).append(path or "model")
        for sentence, paths in alike.items():
            first, *others = paths
            more = f", and so do {len(others)} more modules" if others else ""
            more = ", and so does one more module" if len(others) == 1 else more
            yield Note(first, f"{sentence}; judged in float64 without these casts{more}")


def _with_advice(error: ValueError, pair: Pair) -> ValueError:
    """``error`` of a pair in float64, with the option for those that run in float32 if it does."""
    try:
        with arithmetic("float32"):
            ExactRun.once(LivePair.build(pair, "float32"))
    except ValueError:
        return error
    sentence = f"{error}{IN_FLOAT32}"
    return UserCodeError(sentence, error.frames) if isinstance(error, UserCodeError) else (
        ValueError(sentence)
    )  # fmt: skip


def deterministic(live: LivePair, once: Pass, say: Say) -> Plain:
    """JAX's pass. Raises ``Unrepeatable`` where either model gives another loss when run again.

    Raises ``ValueError`` where neither loss is finite.
    """
    say(f"{live.pair.name}: running both twice")
    require_same_pass(once, live.run_torch())
    first, second = (live.run_jax() for _ in range(2))
    require_same_loss(first, second)
    require_finite(live, once, second)
    return second


def require_same_pass(once: Pass, again: Pass) -> None:
    """Raise ``Unrepeatable`` where two passes of PyTorch's have other losses."""
    if not _same(once.loss, again.loss):
        raise Unrepeatable("torch", once.loss, again.loss, _strays(once, again))


def require_same_loss(once: Plain, again: Plain) -> None:
    """Raise ``Unrepeatable`` where two passes of JAX's have other losses."""
    if not _same(once.loss, again.loss):
        raise Unrepeatable("jax", once.loss, again.loss)


def _same(loss: float, again: float) -> bool:
    """Whether two losses are one; NaN is NaN again."""
    return loss == again or bool(np.isnan(loss) and np.isnan(again))


class Unrepeatable(ValueError):
    """A model that gives another loss when it is run again; ``where`` it does, if that is known."""

    def __init__(self, framework: str, first: float, second: float, where: Key = ROOT):
        self.framework, self.where = framework, where
        super().__init__(
            f"the {framework} model is not deterministic: its loss was {first:.12g}, and "
            f"{second:.12g} when it was run again, and {named(where)} is where that begins; "
            "switch dropout off, or seed it"
        )


def _strays(once: Pass, again: Pass) -> Key:
    """The innermost module in whose own computation two passes of one model first differ."""
    within = [ROOT]
    for way, key in once.events:
        first, second = (
            call.inputs if way == "enter" else call.outputs
            for call in (once.calls[key], again.calls[key])
        )
        if any(
            not np.array_equal(x, y, equal_nan=True) for x, y in zip(first, second, strict=True)
        ):
            return within[-1]
        if way == "enter":
            within.append(key)
        else:
            within.pop()
    return ROOT
