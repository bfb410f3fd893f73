"""The plan that makes of JAX's tensors what PyTorch reads."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from twingrad.convert.dtypes import is_float
from twingrad.convert.models import Models
from twingrad.convert.plan import (
    WIDE,
    Casting,
    Plan,
    has_functions,
    is_covered,
    joint_dtype,
    output_from,
    output_of,
    require_given_back,
    require_known,
    require_shapes,
    require_there,
)
from twingrad.convert.source import Source, Values, listed, same_bits
from twingrad.convert.to_jax import found_names
from twingrad.convert.writer import Output
from twingrad.foreign import Array, DType
from twingrad.partners import Partner

_NOWHERE = (
    "PyTorch alone has: --to jax keeps them in its folder, so convert what lies in that one, where "
    "a folder that Orbax saved can be put"
)


def plan_to_torch(models: Models, source: Source, beside: Source | None, casting: Casting) -> Plan:
    """What to write for PyTorch; nothing is written yet.

    ``source`` has the JAX model's tensors by name, ``beside`` those of PyTorch's that JAX has no
    place for. Raises ``ValueError`` naming a tensor that the map does not know or that the files
    lack, that has another shape than the model's, or that would lose numbers.
    """
    source, shapes = casting.of(source), models.jax.shapes
    beside = None if beside is None else casting.of(beside)
    require_known(source, shapes, "JAX")
    needed = list(dict.fromkeys(p.jax for p in models.partners))
    require_there(source, [path for path in needed if path not in source.stored])
    present = {path: path for path in shapes if path in source.stored}
    require_shapes(source, present, shapes, "JAX")
    kept = {} if beside is None else found_names(models.torch, beside)
    if beside is not None:
        require_shapes(beside, kept, models.torch.shapes, "PyTorch")
    way = _WayBack(models=models, source=source, beside=beside, kept=kept)
    if not casting.lossy:
        way.require_exact()
    return way.plan()


@dataclass(kw_only=True)
class _WayBack:
    """One conversion to PyTorch; ``kept`` are names beside JAX's tensors, by PyTorch's names."""

    models: Models
    source: Source
    beside: Source | None
    kept: Mapping[str, str]
    by_name: dict[str, list[Partner]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for p in self.models.partners:
            for name in p.torch_names:
                self.by_name[name].append(p)

    def plan(self) -> Plan:
        """Every tensor that a file of the PyTorch model has."""
        torch = self.models.torch
        written = [name for name in torch.names if name in torch.saved or name in self.kept]
        lost = [name for name in written if self._is_lost(name)]
        require_there(self.source, [torch.saved[name] for name in lost], _NOWHERE)
        begun = [n for n in written if not self.by_name[n] and n not in self.kept]
        numbers = self.models.torch_numbers(begun)
        plan = Plan(outputs=[])
        for name in written:
            if name in numbers:
                plan.outputs.append(output_of(torch.saved[name], numbers[name]))
            else:
                plan.outputs.append(self._output(name))
        if begun:
            plan.notes.append(f"PyTorch alone has {listed(begun)}: written as its model makes them")
        plan.notes += self._notes_on_sums()
        return plan

    def _is_lost(self, name: str) -> bool:
        """Whether nothing says what PyTorch's tensor ``name`` is, or what a part of it is."""
        partners = self.by_name[name]
        if name in self.kept:
            return False
        if partners:
            return not is_covered(partners, self.models.torch.shapes[name])
        return any(leaf.path == name and not leaf.optional for leaf in self.models.torch.leaves)

    def _output(self, name: str) -> Output:
        partners = self.by_name[name]
        stored_name = self.kept.get(name, name)
        file_name = self.models.torch.saved.get(name, stored_name)
        if not partners:
            assert self.beside is not None
            return output_from(self.beside, stored_name, file_name)
        given = [(p.jax, self._dtype(p)) for p in partners]
        if not is_covered(partners, self.models.torch.shapes[name]):
            assert self.beside is not None
            given.append((stored_name, self.beside.stored[stored_name].dtype))
        dtype = joint_dtype(file_name, given)
        shape = self.models.torch.shapes[name]

        def make() -> Array:
            return self._made(name, dtype)

        return Output(name=file_name, shape=shape, dtype=dtype, make=make)

    def _made(self, name: str, dtype: DType) -> Array:
        """PyTorch's tensor ``name``: JAX's numbers, and what is kept of it beside them."""
        partners, shape = self.by_name[name], self.models.torch.shapes[name]
        summands = partners[0].torch_names
        if len(summands) > 1:
            if self._are_kept(summands):
                return self._beside(name)
            if name != summands[0]:
                return np.zeros(shape, dtype)
        whole = None if is_covered(partners, shape) else self._beside(name).copy()
        for p in partners:
            piece = p.of_jax(self._read(p)).astype(dtype, copy=False)
            if p.cut is None:
                return piece.reshape(shape)
            whole = np.empty(shape, dtype) if whole is None else whole
            whole[p.cut.index] = piece
        assert whole is not None
        return whole

    def _are_kept(self, summands: Sequence[str]) -> bool:
        """Whether what is kept beside JAX's sum still adds up to it, bit for bit."""
        if self.beside is None or any(name not in self.kept for name in summands):
            return False
        for p in self.by_name[summands[0]]:
            dtype = self._dtype(p)
            wide = WIDE if is_float(dtype) else None
            values = Values(self.beside, self.kept, wide)
            kept = [self.beside.stored[self.kept[name]].dtype for name in summands]
            if any(other != dtype for other in kept):
                return False
            expected = np.asarray(p.to_jax(p.of_torch(values))).astype(dtype)
            found = self.source.read(p.jax)
            found = found if p.place is None else p.place.of(found)
            if not same_bits(expected.reshape(found.shape), found):
                return False
        return True

    def _notes_on_sums(self) -> Iterable[str]:
        for summands in dict.fromkeys(p.torch_names for p in self.models.partners if p.added):
            if not self._are_kept(summands):
                first, *others = summands
                yield f"JAX has one sum for {' + '.join(summands)}: all of it is in {first}, " + (
                    f"and {', '.join(others)} {'is' if len(others) == 1 else 'are'} zero"
                )

    def require_exact(self) -> None:
        """Raise ``ValueError`` where functions of the pair's own do not give the numbers back."""
        for p in self.models.partners:
            dtype = self._dtype(p)
            if has_functions(p) and is_float(dtype):
                value = self.source.read(p.jax)
                before = value if p.place is None else p.place.of(value)
                piece = replace(p, place=None)
                back = piece.of_jax(before.astype(WIDE)).astype(dtype)
                there = np.asarray(piece.to_jax(back.astype(WIDE))).astype(dtype)
                require_given_back(p.jax, before, there.reshape(before.shape))

    def _dtype(self, p: Partner) -> DType:
        return self.source.stored[p.jax].dtype

    def _read(self, p: Partner) -> Array:
        """JAX's tensor, in float64 where the pair's own functions are on the way."""
        value = self.source.read(p.jax)
        return value.astype(WIDE) if has_functions(p) and is_float(value.dtype) else value

    def _beside(self, name: str) -> Array:
        assert self.beside is not None
        return self.beside.read(self.kept[name])
