"""Two live models of a pair in one dtype, with their parameters matched and their calls aligned."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from twingrad import numerics, ties
from twingrad.aligned_calls import align
from twingrad.alignment import placed
from twingrad.calls import LOSS as LOSS
from twingrad.calls import Key, Pass, Plain
from twingrad.casts.lifting import lifted
from twingrad.casts.log import CastLog
from twingrad.casts.originals import Originals
from twingrad.diagnosis.finding import Note
from twingrad.foreign import Array, Loss
from twingrad.matching import match, matched
from twingrad.pair import LoadedPair, Pair
from twingrad.partners import Leaf, Partner, jax_tensors, torch_tensors
from twingrad.sides import TITLES, Framework, JaxSide, RecordedModel, TorchSide
from twingrad.user_code import refused

if TYPE_CHECKING:
    from twingrad import jax_probe, torch_subject

T = TypeVar("T")
ROOT = Key("")
HIDDEN = "not compared by itself: JAX calls it in a long loop or in a function that is compiled"


@dataclass(kw_only=True)
class LivePair:
    """Two models in one dtype, with their parameters matched; one of them may be a recorded one.

    With ``lift`` casts to a lower precision are left out while the models are made and run, and
    JAX's constants have the digits that ``Originals`` give back; ``torch_casts`` and ``jax_casts``
    then say which modules had them.
    """

    pair: Pair
    dtype: str
    torch: TorchSide
    jax: JaxSide
    partners: list[Partner] = field(default_factory=list)
    lift: bool | Originals = False
    torch_casts: CastLog = field(default_factory=CastLog)
    jax_casts: CastLog = field(default_factory=CastLog)
    notes: list[Note] = field(default_factory=list)

    @classmethod
    def build(
        cls,
        pair: Pair,
        dtype: str,
        lift: bool = False,
        like: "LivePair | None" = None,
        by_name: bool = True,
    ) -> "LivePair":
        """Make both models and match their parameters; ``ValueError`` says what went wrong.

        Layouts that no run of the models settles are read by the parameters' names, unless
        ``by_name`` is off: then they are what went wrong.

        Numbers that are copied are those of ``like``, if it is given: what PyTorch draws in float64
        is not what it draws in float32. Its layouts are taken too. Where JAX's were recorded, they
        are copied to PyTorch.
        """
        live = cls._made(pair, dtype, lift)
        if isinstance(pair, LoadedPair):
            live.partners = list(pair.partners)
            live.torch.give(pair.torch_numbers)
            live.jax.give(pair.jax_numbers)
            return live
        live.partners = match(live._leaves, live.jax.leaves(), pair.names)
        if pair.copy and like is not None:
            live.torch.give(like.torch.views())
            live.partners = like.partners
            live._copy()
        elif pair.copy:
            live._copy()
            live._settle(by_name)
        return live

    @classmethod
    def mapped(cls, pair: Pair) -> tuple["LivePair", list[Leaf], list[Leaf]]:
        """Both models, and what of PyTorch's and of JAX's parameters has no partner.

        Layouts that are open are settled where everything has a partner.
        """
        live = cls._made(pair, "float64", lift=False)
        live.partners, missing, spare = matched(live._leaves, live.jax.leaves(), pair.names)
        if pair.copy and not missing and not spare:
            live._copy()
            live._settle()
        return live, missing, spare

    @classmethod
    def _made(cls, pair: Pair, dtype: str, lift: bool) -> "LivePair":
        torch: TorchSide
        jax: JaxSide
        torch_casts, jax_casts = CastLog(), CastLog()
        if isinstance(pair.torch, RecordedModel):
            torch = recorded = pair.torch.torch_side(dtype, lift)
            torch_casts = recorded.casts
        else:
            torch = live_torch(pair, dtype, lift)
        if isinstance(pair.jax, RecordedModel):
            jax = recorded_jax = pair.jax.jax_side(dtype, lift)
            jax_casts = recorded_jax.casts
        else:
            jax = live_jax(pair, dtype, lift)
        live = cls(
            pair=pair, dtype=dtype, torch=torch, jax=jax, lift=lift, torch_casts=torch_casts,
            jax_casts=jax_casts,
        )  # fmt: skip
        live.jax_paths()  # from then on the classes of all modules are known
        hidden = sorted(live.jax.out_of_reach(live.jax_loss))
        live.notes += [Note(name, HIDDEN) for name in hidden]
        return live

    def _copy(self) -> None:
        """Give PyTorch's numbers to the JAX model, or a recorded JAX model's to PyTorch's."""
        if self.jax.recorded:
            numbers = {path: numerics.plain(x) for path, x in self.jax.tensors.items()}
            self.torch.give(torch_tensors(self.partners, numbers, self.torch.views()))
            return
        values = self.torch.views()
        shapes = {path: tuple(x.shape) for path, x in self.jax.tensors.items()}
        self.jax.give(jax_tensors(self.partners, values, shapes))

    def _settle(self, by_name: bool = True) -> None:
        """Find the layouts that shapes and layers leave open: by running the ways there are."""
        trials = ties.trials(self.partners)
        if trials is None:
            return
        truth = self.run_torch()
        if not np.isfinite(truth.loss):  # no way could agree with it
            self.partners = trials.ways()[0]
            self._copy()
            return

        def error(partners: list[Partner]) -> float:
            self.partners = partners
            self._copy()
            seen = self._torch_pass(CastLog()) if self.jax.recorded else truth
            # JAX keeps what it has traced: a log of its own would be the only one that hears.
            return self.distance(seen, self.run_jax())

        self.partners, assumed = ties.settle(trials, error, self.dtype, by_name)
        self.notes += [Note(name, text) for name, text in assumed]
        self._copy()

    def distance(self, torch: Pass, jax: Plain) -> float:
        """How far JAX's loss and output are from PyTorch's, relative: the larger of the two."""
        return max(_distances(torch, jax, self.channels_last(torch), self.dtype))

    @property
    def torch_loss(self) -> Loss:
        """The loss of the PyTorch model."""
        return self.pair.torch_loss or self.torch.mean_square

    @property
    def jax_loss(self) -> Loss:
        """The loss of the JAX model."""
        return self.pair.jax_loss or self.jax.mean_square

    @property
    def jax_batch(self) -> Sequence[Array]:
        """The batch of the JAX model."""
        return self.pair.jax_batch or self.pair.batch

    def in_torch(self, values: Mapping[str, Array], gradients: bool = False) -> dict[str, Array]:
        """JAX's tensors, or ``gradients``, in PyTorch's layout, by the parts' names.

        Complex numbers are real pairs.
        """
        return {
            p.name: as_real(p.of_jax(values[p.jax], gradients))
            for p in self.partners
            if p.jax in values
        }

    def torch_parts(self, values: Mapping[str, Array], gradients: bool = False) -> dict[str, Array]:
        """PyTorch's tensors, or ``gradients``, by the parts' names; complex ones as real pairs."""
        return {
            p.name: as_real(p.of_torch(values, gradients))
            for p in self.partners
            if all(name in values for name in p.torch_names)
        }

    def in_jax(self, values: Mapping[str, Array], gradients: bool = False) -> dict[str, Array]:
        """PyTorch's tensors, or ``gradients``, as JAX has them, by JAX's names."""
        shapes = {path: tuple(x.shape) for path, x in self.jax.tensors.items()}
        return jax_tensors(self.partners, values, shapes, gradients)

    @property
    def has_optimizers(self) -> bool:
        """Whether both sides have an optimizer, so that updates can be compared."""
        sides = (
            (self.pair.torch, self.pair.torch_optimizer),
            (self.pair.jax, self.pair.jax_optimizer),
        )
        return all(
            model.has_optimizer if isinstance(model, RecordedModel) else optimizer is not None
            for model, optimizer in sides
        )

    def step_gradients(self, torch: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """The gradients that both optimizers are given, step by step, by PyTorch's names.

        They are ``torch``, or those that a recorded JAX model's was given, in PyTorch's layout.
        """
        if not isinstance(self.pair.jax, RecordedModel):
            return [dict(step) for step in torch]
        given = self.pair.jax.jax_side(self.dtype, bool(self.lift)).step_gradients()
        return [
            torch_tensors(self.partners, step, own, gradients=True)
            for step, own in zip(given, torch, strict=True)
        ]

    @cached_property
    def _leaves(self) -> list[Leaf]:
        return self.torch.leaves()

    def run_torch(self) -> Pass:
        """PyTorch's pass; its running statistics are then put back as they were."""
        return self._torch_pass(self.torch_casts)

    def _torch_pass(self, log: CastLog) -> Pass:
        return self.on_torch(lambda: self.torch.observe(self.torch_loss, self.pair.batch), log)

    def run_jax(self) -> Plain:
        """JAX's own pass."""
        return self.on_jax(lambda: self.jax.plain(self.jax_loss, self.jax_batch), self.jax_casts)

    def on_torch(
        self, run: Callable[[], T], log: CastLog | None = None, what: str = "torch_loss"
    ) -> T:
        """The result of ``run``, which calls PyTorch's model; ``log`` hears of casts left out."""
        if self.torch.recorded:
            return run()
        with lifted("torch", self.lift, log or CastLog()):
            return run_foreign(what, run)

    def on_jax(self, run: Callable[[], T], log: CastLog | None = None, what: str = "jax_loss") -> T:
        """The result of ``run``, which calls JAX's model; ``log`` hears of casts left out."""
        if self.jax.recorded:
            return run()
        with lifted("jax", self.lift, log or CastLog()):
            return run_foreign(what, run)

    def names(self, torch: Pass) -> dict[Key, Key]:
        """For JAX's calls, PyTorch's; without those whose tensors a record does not have."""
        return {
            key: other
            for key, other in align(torch, self.jax_paths(), self.partners).items()
            if key not in self.jax.left_out and other not in torch.left_out
        }

    def jax_paths(self) -> dict[Key, str]:
        """JAX's calls and the classes of their modules."""
        return self.on_jax(lambda: self.jax.paths(self.jax_loss, self.jax_batch))

    def channels_last(self, torch: Pass) -> bool:
        """Whether JAX has the channels of images last."""
        kinds = {call.kind for call in torch.calls.values()}
        return self.jax.channels_last and any(
            kind.startswith(("Conv1d", "Conv2d", "Conv3d")) for kind in kinds
        )


def live_torch(pair: Pair, dtype: str, lift: bool) -> "torch_subject.Subject":
    """PyTorch's model of ``pair``; ``ValueError`` if there is none or making it fails."""
    _require(pair, "torch")
    import torch

    from twingrad import torch_probe, torch_subject

    torch.manual_seed(0)
    with lifted("torch", lift and pair.copy, CastLog()):
        made = run_foreign("torch", lambda: torch_probe.made(pair.torch))
    return torch_subject.Subject(torch_probe.prepare(made, dtype, pair.train), dtype)


def live_jax(pair: Pair, dtype: str, lift: bool) -> "jax_probe.Subject":
    """JAX's model of ``pair``; ``ValueError`` if there is none or making it fails."""
    _require(pair, "jax")
    from twingrad import jax_probe

    with lifted("jax", lift and pair.copy, CastLog()):
        made = run_foreign("jax", lambda: jax_probe.made(pair.jax))
    return jax_probe.Subject(made, dtype, pair.train)


def _require(pair: Pair, side: Framework) -> None:
    if getattr(pair, side) is None:
        raise ValueError(
            f"the pair has no {side}: give {TITLES[side]}'s model, or judge the other one from a "
            "record of it with --against REC"
        )


def _distances(torch: Pass, jax: Plain, last: bool, dtype: str) -> Iterator[float]:
    """How far JAX's loss is from PyTorch's, relative, and the outputs of the model as a whole.

    A loss alone may be blind to the order of what it is made of.
    """
    yield abs(jax.loss - torch.loss) / (abs(torch.loss) or 1.0)
    ours = torch.calls[ROOT].outputs if ROOT in torch.calls else []
    others = jax.outputs.get(ROOT, [])
    matches = placed(ours, [x.shape for x in others], None, last, dtype)
    for place, other in zip(matches, others, strict=True):
        if place is not None:
            value = place.value(ours)
            yield numerics.distance(value, other).l2 / (numerics.size(value).l2 or 1.0)


def as_real(x: Array) -> Array:
    """``x``, or for complex numbers their real and imaginary parts along a last axis of two."""
    return np.stack([x.real, x.imag], axis=-1) if np.iscomplexobj(x) else x


def run_foreign(what: str, run: Callable[[], T]) -> T:
    """The result of ``run``; ``UserCodeError`` names ``what`` if the code of the pair raises.

    That it asks the process to end, with whatever status, is no verdict on the pair either.
    """
    try:
        return run()
    except (Exception, SystemExit) as error:  # whatever somebody's code raises
        raise refused(f"the pair's {what}", error, "fix it") from error


def named(key: Key) -> str:
    """A call as a sentence has it."""
    return str(key) if key.path else "the model"
