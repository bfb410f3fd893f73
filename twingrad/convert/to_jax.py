"""The plan that makes of a PyTorch checkpoint what a JAX model reads."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from twingrad.convert.dtypes import is_float
from twingrad.convert.models import Models, TorchSide
from twingrad.convert.plan import (
    WIDE,
    Casting,
    Plan,
    has_functions,
    is_computed,
    is_covered,
    joint_dtype,
    output_from,
    output_of,
    require_given_back,
    require_known,
    require_shapes,
    require_there,
)
from twingrad.convert.source import Completed, Source, Values, listed, same_bits
from twingrad.convert.writer import Output
from twingrad.foreign import Array
from twingrad.map import Shape
from twingrad.partners import Partner, jax_tensors

X64 = "JAX reads {dtypes} in half as many bits, unless jax_enable_x64 is set"


def plan_to_jax(models: Models, source: Source, casting: Casting) -> Plan:
    """What to write for JAX; nothing is written yet.

    ``source`` is a checkpoint of the pair's PyTorch model. Raises ``ValueError`` naming a tensor
    that the map does not know or that the checkpoint lacks, that has another shape than the
    model's, that would lose numbers, or whose tied names have different ones.
    """
    source = casting.of(source)
    found = found_names(models.torch, source)
    needed = list(dict.fromkeys(name for p in models.partners for name in p.torch_names))
    saved = models.torch.saved
    require_there(source, [saved[n] for n in needed if n in saved and n not in found])
    require_shapes(source, found, models.torch.shapes, "PyTorch")
    # Buffers that no PyTorch checkpoint has are those that the model computes for itself.
    own = models.torch_numbers(name for name in needed if name not in found)
    whole = Completed(source, own)
    names = {**found, **{name: name for name in own}}
    if not casting.lossy:
        _require_way_back(models.partners, whole, names)
    plan = Plan(outputs=_outputs(models, whole, names))
    _add_jax_alone(plan, models)
    _keep_torch_alone(plan, models, source, found)
    wide = sorted(
        {o.dtype.name for o in plan.outputs if o.dtype.itemsize == 8 and o.dtype.kind != "c"}
    )
    if wide:
        plan.notes.append(X64.format(dtypes=" and ".join(wide)))
    return plan


def found_names(torch: TorchSide, source: Source) -> dict[str, str]:
    """For tensors of the PyTorch model that the file has, their names there.

    Raises ``ValueError`` for a tensor that the model has not, and for tied names whose tensors
    differ.
    """
    require_known(source, (n for names in torch.names.values() for n in names), "PyTorch")
    found: dict[str, str] = {}
    for name, members in torch.names.items():
        given = [member for member in members if member in source.stored]
        for other in given[1:]:
            if not same_bits(source.read(given[0]), source.read(other)):
                raise ValueError(
                    f"{given[0]} and {other} are one tensor in the PyTorch model and differ in "
                    f"{source.path}: leave one out"
                )
        if given:
            found[name] = given[0]
    return found


def _outputs(models: Models, source: Source, names: Mapping[str, str]) -> list[Output]:
    by_path: dict[str, list[Partner]] = defaultdict(list)
    for p in models.partners:
        by_path[p.jax].append(p)
    shapes = models.jax.shapes
    return [
        _output(path, partners, shapes[path], source, names) for path, partners in by_path.items()
    ]


def _output(
    path: str,
    partners: Sequence[Partner],
    shape: Shape,
    source: Source,
    names: Mapping[str, str],
) -> Output:
    """JAX's tensor at ``path``, made of all its partners."""
    origins = dict.fromkeys(names[name] for p in partners for name in p.torch_names)
    dtype = joint_dtype(path, [(name, source.stored[name].dtype) for name in origins])
    is_wide = is_float(dtype) and any(map(is_computed, partners))
    values = Values(source, names, WIDE if is_wide else None)

    def make() -> Array:
        made = jax_tensors(partners, values, {path: shape})[path]
        return made.astype(dtype, copy=False)

    return Output(name=path, shape=shape, dtype=dtype, make=make)


def _require_way_back(
    partners: Iterable[Partner], source: Source, names: Mapping[str, str]
) -> None:
    """Raise ``ValueError`` where functions of the pair's own do not give the numbers back."""
    values = Values(source, names, WIDE)
    for p in partners:
        dtype = source.stored[names[p.torch]].dtype
        if has_functions(p) and is_float(dtype):
            before = p.of_torch(values)
            there = np.asarray(p.to_jax(before)).astype(dtype)
            back = replace(p, place=None).of_jax(there.astype(WIDE))
            require_given_back(p.name, before.astype(dtype), back.astype(dtype))


def _add_jax_alone(plan: Plan, models: Models) -> None:
    """Tensors that PyTorch has not, as JAX's model itself begins with them."""
    done = {output.name for output in plan.outputs}
    alone = [leaf.path for leaf in models.jax.leaves if leaf.path not in done]
    numbers = models.jax_numbers(alone)
    plan.outputs += [output_of(name, numbers[name]) for name in alone]
    if alone:
        plan.notes.append(f"JAX alone has {listed(alone)}: written as its model makes them")


def _keep_torch_alone(plan: Plan, models: Models, source: Source, found: Mapping[str, str]) -> None:
    """Tensors that JAX has no place for, or adds up, which the way back needs."""
    by_name: dict[str, list[Partner]] = defaultdict(list)
    for p in models.partners:
        for name in p.torch_names:
            by_name[name].append(p)
    kept: list[str] = []
    summed: list[str] = []
    for name, stored_name in found.items():
        partners = by_name[name]
        is_sum = any(p.added for p in partners)
        if is_sum or not is_covered(partners, models.torch.shapes[name]):
            plan.alone.append(output_from(source, stored_name, stored_name))
            (summed if is_sum else kept).append(stored_name)
    if kept:
        plan.notes.append(f"PyTorch alone has {listed(kept)}: kept for the way back")
    if summed:
        plan.notes.append(f"JAX has the sum of {listed(summed)}: each is kept for the way back")
