"""Two live models of a pair in one dtype, with their parameters matched and their calls aligned."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np

from twingrad import jax_probe, numerics, ties, torch_probe
from twingrad.alignment import placed
from twingrad.calls import Key, Pass
from twingrad.casts.log import CastLog, watching
from twingrad.casts.originals import Originals
from twingrad.diagnosis.finding import Note
from twingrad.foreign import Array, Loss, Model, Untyped
from twingrad.matching import match, matched, words
from twingrad.pair import Pair, error_text
from twingrad.partners import Leaf, Partner, jax_tensors

T = TypeVar("T")
ROOT = Key("")
LOSS = Key("loss")
HIDDEN = "not compared by itself: JAX calls it in a long loop or in a function that is compiled"


@dataclass(kw_only=True)
class LivePair:
    """Two live models in one dtype, with their parameters matched.

    With ``lift`` casts to a lower precision are left out while the models are made and run, and
    JAX's constants have the digits that ``Originals`` give back; ``torch_casts`` and ``jax_casts``
    then say which modules had them.
    """

    pair: Pair
    dtype: str
    torch: Model
    jax: jax_probe.Subject
    partners: list[Partner] = field(default_factory=list)
    lift: bool | Originals = False
    torch_casts: CastLog = field(default_factory=CastLog)
    jax_casts: CastLog = field(default_factory=CastLog)
    notes: list[Note] = field(default_factory=list)

    @classmethod
    def build(
        cls, pair: Pair, dtype: str, lift: bool = False, like: "LivePair | None" = None
    ) -> "LivePair":
        """Make both models and match their parameters; ``ValueError`` says what went wrong.

        Numbers that are copied are those of ``like``, if it is given: what PyTorch draws in float64
        is not what it draws in float32. Its layouts are taken too.
        """
        live = cls._made(pair, dtype, lift)
        live.partners = match(live._leaves, live.jax.leaves(), pair.names)
        if pair.copy and like is not None:
            torch_probe.write(torch_probe.tensors(live.torch), torch_probe.views(like.torch))
            live.partners = like.partners
            live._copy()
        elif pair.copy:
            live._copy()
            live._settle()
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
        import torch

        torch.manual_seed(0)
        with lifted("torch", lift and pair.copy, CastLog()):
            made_by_torch = run_foreign("torch", lambda: torch_probe.made(pair.torch))
        model = torch_probe.prepare(made_by_torch, dtype, pair.train)
        with lifted("jax", lift and pair.copy, CastLog()):
            made = run_foreign("jax", lambda: jax_probe.made(pair.jax))
        subject = jax_probe.Subject(made, dtype, pair.train)
        live = cls(pair=pair, dtype=dtype, torch=model, jax=subject, lift=lift)
        live._jax_paths()  # from then on the classes of all modules are known
        hidden = sorted(live.jax.hidden[live.jax_loss])
        live.notes += [Note(name, HIDDEN) for name in hidden]
        return live

    def _copy(self) -> None:
        """Give PyTorch's numbers to the JAX model."""
        values = torch_probe.views(self.torch)
        shapes = {path: tuple(x.shape) for path, x in self.jax.tensors.items()}
        self.jax.give(jax_tensors(self.partners, values, shapes))

    def _settle(self) -> None:
        """Find the layouts that shapes and layers leave open: by running the ways there are."""
        trials = ties.trials(self.partners)
        if trials is None:
            return
        truth = self.run_torch()

        def error(partners: list[Partner]) -> float:
            self.partners = partners
            self._copy()
            with lifted("jax", self.lift, CastLog()):
                plain = run_foreign(
                    "jax_loss", lambda: self.jax.plain(self.jax_loss, self.jax_batch)
                )
            return self.distance(truth, plain)

        self.partners, assumed = ties.settle(trials, error, self.dtype)
        self.notes += [Note(name, text) for name, text in assumed]
        self._copy()

    def distance(self, torch: Pass, jax: jax_probe.Plain) -> float:
        """How far JAX's loss and output are from PyTorch's, relative: the larger of the two."""
        return max(_distances(torch, jax, self.channels_last(torch), self.dtype))

    @property
    def torch_loss(self) -> Loss:
        """The loss of the PyTorch model."""
        return self.pair.torch_loss or torch_probe.mean_square

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

    @cached_property
    def _leaves(self) -> list[Leaf]:
        return torch_probe.leaves(self.torch)

    def run_torch(self) -> Pass:
        """PyTorch's pass; its running statistics are then put back as they were."""
        before = torch_probe.statistics(self.torch)
        with lifted("torch", self.lift, self.torch_casts):
            observed = run_foreign(
                "torch_loss",
                lambda: torch_probe.observe(
                    self.torch, self.torch_loss, self.pair.batch, self.dtype
                ),
            )
        torch_probe.restore(self.torch, before)
        _require_finite("PyTorch", observed.loss)
        return observed

    def run_jax(self) -> jax_probe.Plain:
        """JAX's own pass."""
        with lifted("jax", self.lift, self.jax_casts):
            plain = run_foreign("jax_loss", lambda: self.jax.plain(self.jax_loss, self.jax_batch))
        _require_finite("JAX", plain.loss)
        return plain

    def names(self, torch: Pass) -> dict[Key, Key]:
        """For JAX's calls, PyTorch's."""
        return align(torch, self._jax_paths(), self.partners)

    def _jax_paths(self) -> dict[Key, str]:
        """JAX's calls and the classes of their modules."""
        with lifted("jax", self.lift, CastLog()):
            return run_foreign("jax_loss", lambda: self.jax.paths(self.jax_loss, self.jax_batch))

    def channels_last(self, torch: Pass) -> bool:
        """Whether JAX has the channels of images last."""
        kinds = {call.kind for call in torch.calls.values()}
        return self.jax.model.channels_last and any(
            kind.startswith(("Conv1d", "Conv2d", "Conv3d")) for kind in kinds
        )


@contextmanager
def lifted(
    framework: Literal["torch", "jax"], lift: bool | Originals, log: CastLog
) -> Iterator[None]:
    """With ``lift``, code run within casts to no lower precision; ``log`` hears where it would."""
    if not lift:
        yield
        return
    with watching(log), _left_out(framework, lift if isinstance(lift, Originals) else None):
        yield


def _left_out(
    framework: Literal["torch", "jax"], originals: Originals | None
) -> AbstractContextManager[None]:
    if framework == "torch":
        from twingrad.casts import torch_casts

        return torch_casts.left_out()
    from twingrad.casts import jax_casts

    return jax_casts.left_out(originals)


@contextmanager
def arithmetic(dtype: str) -> Iterator[None]:
    """Within, JAX computes on the CPU, in ``dtype`` and in full precision.

    Few passes are run of what is compiled, so the compiler is told to hurry.
    """
    import jax

    config: Untyped = jax.config
    wanted = {
        "jax_enable_x64": dtype == "float64",
        "jax_default_matmul_precision": "highest",
        "jax_default_device": jax.devices("cpu")[0],
        "jax_disable_most_optimizations": True,
    }
    # Options that also have a context manager are attributes, the others are read by name.
    before = {
        name: getattr(config, name) if hasattr(config, name) else config.read(name)
        for name in wanted
    }
    for name, value in wanted.items():
        config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            config.update(name, value)


def _distances(torch: Pass, jax: jax_probe.Plain, last: bool, dtype: str) -> Iterator[float]:
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


def _require_finite(framework: str, loss: float) -> None:
    if not np.isfinite(loss):
        raise ValueError(f"{framework}'s loss is {loss}: give a batch with a finite loss")


def run_foreign(what: str, run: Callable[[], T]) -> T:
    """The result of ``run``; ``ValueError`` names ``what`` if the code of the pair raises.

    That it asks the process to end, with whatever status, is no verdict on the pair either.
    """
    try:
        return run()
    except (Exception, SystemExit) as error:  # whatever somebody's code raises
        raise ValueError(f"the pair's {what} raised {error_text(error)}: fix it") from error


def named(key: Key) -> str:
    """A call as a sentence has it."""
    return str(key) if key.path else "the model"


def align(
    torch_side: Pass, jax_side: Mapping[Key, str], partners: Sequence[Partner]
) -> dict[Key, Key]:
    """For JAX's calls, PyTorch's calls of the same module.

    A module is known by the parameters in it; one without any by its path.
    """
    torch_calls = Counter(key.path for key in torch_side.calls)
    jax_calls = Counter(key.path for key in jax_side)
    torch_held = {path: _held(path, partners, "torch") for path in torch_calls}
    pairs: dict[Key, Key] = {}
    taken: set[str] = set()
    for path in sorted(jax_calls, key=len):
        for layer, numbers in _layers(path, jax_calls[path], partners):
            held = _held(path, layer, "jax")
            fits = [
                other
                for other in torch_calls
                if other not in taken
                and (path == "") == (other == "")
                and (torch_held[other] == held if held else not torch_held[other])
            ]
            # A module may be called once more in one model; another one is no better for it.
            fits = [other for other in fits if torch_calls[other] == len(numbers)] or fits
            same = [other for other in fits if words(other) == words(path)]
            last = [o for o in fits if words(o)[-1:] == words(path)[-1:]] if held else []
            choice = same or last or (fits if held and len(fits) == 1 else [])
            if choice:
                taken.add(choice[0])
                pairs |= {
                    Key(path, number): Key(choice[0], place)
                    for place, number in enumerate(numbers)
                    if place < torch_calls[choice[0]]
                }
    return {key: pairs[key] for key in jax_side if key in pairs}


def _layers(
    path: str, calls: int, partners: Sequence[Partner]
) -> list[tuple[Sequence[Partner], list[int]]]:
    """What a module at ``path`` is in its calls: the same in each, or a layer after the other.

    A scan calls one module for all layers, whose parameters lie in it as in a stack.
    """
    start = f"{path}." if path else ""
    inside = [p for p in partners if p.jax.startswith(start)]
    stacked = [p for p in inside if p.place is not None and p.place.stop is None]
    layers = sorted({p.place.start for p in stacked if p.place is not None})
    if not layers or len(stacked) < len(inside) or calls != len(layers):
        return [(partners, list(range(calls)))]
    return [
        ([p for p in stacked if p.place is not None and p.place.start == layer], [number])
        for number, layer in enumerate(layers)
    ]


def _held(
    path: str, partners: Sequence[Partner], framework: Literal["torch", "jax"]
) -> frozenset[str]:
    start = f"{path}." if path else ""
    return frozenset(
        p.name
        for p in partners
        if any(
            name.startswith(start) for name in (p.torch_names if framework == "torch" else [p.jax])
        )
    )
