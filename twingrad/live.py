"""Two live models of a pair in one dtype, with their parameters matched and their calls aligned."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np

from twingrad import jax_probe, torch_probe
from twingrad.calls import Key, Pass
from twingrad.casts.log import CastLog, watching
from twingrad.foreign import Array, Loss, Model, Untyped
from twingrad.matching import Leaf, Partner, match, words
from twingrad.pair import Pair, error_text

T = TypeVar("T")
ROOT = Key("")
LOSS = Key("loss")


@dataclass(kw_only=True)
class LivePair:
    """Two live models in one dtype, with their parameters matched.

    With ``lift`` casts to a lower precision are left out while the models are made and run;
    ``torch_casts`` and ``jax_casts`` then say which modules had them.
    """

    pair: Pair
    dtype: str
    torch: Model
    jax: jax_probe.Subject
    partners: list[Partner]
    lift: bool = False
    torch_casts: CastLog = field(default_factory=CastLog)
    jax_casts: CastLog = field(default_factory=CastLog)

    @classmethod
    def build(
        cls, pair: Pair, dtype: str, lift: bool = False, like: "LivePair | None" = None
    ) -> "LivePair":
        """Make both models; ``ValueError`` says in one sentence what went wrong.

        Numbers that are copied are those of ``like``, if it is given: what PyTorch draws in float64
        is not what it draws in float32.
        """
        import torch

        torch.manual_seed(0)
        with lifted("torch", lift and pair.copy, CastLog()):
            made_by_torch = run_foreign("torch", lambda: torch_probe.made(pair.torch))
        model = torch_probe.prepare(made_by_torch, dtype, pair.train)
        with lifted("jax", lift and pair.copy, CastLog()):
            made = run_foreign("jax", lambda: jax_probe.made(pair.jax))
        subject = jax_probe.Subject(made, dtype, pair.train)
        partners = match(torch_probe.leaves(model), subject.leaves(), pair.names)
        if pair.copy:
            if like is not None:
                torch_probe.write(torch_probe.tensors(model), torch_probe.views(like.torch))
            values = torch_probe.views(model)
            subject.give({p.jax: p.to_jax(values[p.torch].copy()) for p in partners})
        return cls(pair=pair, dtype=dtype, torch=model, jax=subject, partners=partners, lift=lift)

    @property
    def torch_loss(self) -> Loss:
        """The loss of the PyTorch model."""
        return self.pair.torch_loss or torch_probe.mean_square

    @property
    def jax_loss(self) -> Loss:
        """The loss of the JAX model."""
        return self.pair.jax_loss or jax_probe.mean_square

    @property
    def jax_batch(self) -> Sequence[Array]:
        """The batch of the JAX model."""
        return self.pair.jax_batch or self.pair.batch

    def in_torch(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """JAX's tensors in PyTorch's layout, by the parts' names; complex ones as real pairs."""
        shapes = {leaf.path: leaf.shape for leaf in self._leaves}
        return {
            p.name: as_real(p.to_torch(values[p.jax], shapes[p.torch]))
            for p in self.partners
            if p.jax in values
        }

    def torch_parts(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """PyTorch's tensors by the parts' names; complex ones as real pairs."""
        return {
            p.name: as_real(p.piece(values[p.torch])) for p in self.partners if p.torch in values
        }

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
        with lifted("jax", self.lift, CastLog()):
            paths = run_foreign("jax_loss", lambda: self.jax.paths(self.jax_loss, self.jax_batch))
        return align(torch, paths, self.partners)

    def channels_last(self, torch: Pass) -> bool:
        """Whether JAX has the channels of images last."""
        kinds = {call.kind for call in torch.calls.values()}
        return any(kind.startswith(("Conv1d", "Conv2d", "Conv3d")) for kind in kinds)


@contextmanager
def lifted(framework: Literal["torch", "jax"], lift: bool, log: CastLog) -> Iterator[None]:
    """With ``lift``, code run within casts to no lower precision; ``log`` hears where it would."""
    if not lift:
        yield
        return
    left_out: Callable[[], AbstractContextManager[None]]
    if framework == "torch":
        from twingrad.casts.torch_casts import left_out
    else:
        from twingrad.casts.jax_casts import left_out
    with watching(log), left_out():
        yield


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


def as_real(x: Array) -> Array:
    """``x``, or for complex numbers their real and imaginary parts along a last axis of two."""
    return np.stack([x.real, x.imag], axis=-1) if np.iscomplexobj(x) else x


def _require_finite(framework: str, loss: float) -> None:
    if not np.isfinite(loss):
        raise ValueError(f"{framework}'s loss is {loss}: give a batch with a finite loss")


def run_foreign(what: str, run: Callable[[], T]) -> T:
    """The result of ``run``; ``ValueError`` names ``what`` if the code of the pair raises."""
    try:
        return run()
    except Exception as error:  # whatever somebody's code raises
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
    pairs: dict[str, str] = {}
    for path in sorted(jax_calls, key=len):
        held = _held(path, partners, "jax")
        fits = [
            other
            for other in torch_calls
            if other not in pairs.values()
            and (path == "") == (other == "")
            and (torch_held[other] == held if held else not torch_held[other])
        ]
        # A module may be called once more in one model; another one is no better for it.
        fits = [other for other in fits if torch_calls[other] == jax_calls[path]] or fits
        same = [other for other in fits if words(other) == words(path)]
        last = [other for other in fits if words(other)[-1:] == words(path)[-1:]] if held else []
        choice = same or last or (fits if held and len(fits) == 1 else [])
        if choice:
            pairs[path] = choice[0]
    return {
        Key(path, number): Key(pairs[path], number)
        for path, number in jax_side
        if path in pairs and number < torch_calls[pairs[path]]
    }


def _held(
    path: str, partners: Sequence[Partner], framework: Literal["torch", "jax"]
) -> frozenset[str]:
    start = f"{path}." if path else ""
    return frozenset(
        p.name for p in partners if (p.torch if framework == "torch" else p.jax).startswith(start)
    )
