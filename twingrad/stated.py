"""What a pair's ``names`` states: which parameter of JAX holds which of PyTorch, and how."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from twingrad import layouts
from twingrad.map import Reshape, Shape, To, shapes
from twingrad.partners import Leaf, Partner, Range

# A PyTorch name, a regular expression for several ("re:..." or compiled), several names that go
# into one of JAX, or None for what JAX has alone.
Key = str | re.Pattern[str] | tuple[str, ...] | None
# JAX's name, several names that share PyTorch's tensor, a map, or None for what PyTorch has alone.
Stated = str | list[str | None] | To | None
Names = Mapping[Key, Stated]
PATTERN = "re:"


@dataclass(frozen=True)
class Statements:
    """Partners that are stated, and the paths of both sides that need none or have one."""

    partners: list[Partner]
    torch: set[str]
    jax: set[str]


@dataclass(frozen=True)
class _Entry:
    """One entry without patterns: PyTorch's names, and where they go; ``None`` for nowhere."""

    torch: tuple[str, ...]
    to: To | None


def read(torch: Mapping[str, Leaf], jax: Mapping[str, Leaf], names: Names) -> Statements:
    """The partners that ``names`` states.

    Raises ``ValueError`` for a name that a model has not, and for shapes that do not fit.
    """
    alone = _alone_in_jax(names, jax)
    partners: list[Partner] = []
    done: set[str] = set()
    for entry in _entries(names, torch):
        done |= set(entry.torch)
        if entry.to is not None:
            partners += _partners(entry, torch, jax)
    _refuse_doubles(partners)
    return Statements(partners, done, alone | {p.jax for p in partners})


def _alone_in_jax(names: Names, jax: Mapping[str, Leaf]) -> set[str]:
    value = names.get(None, [])
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list):
        raise ValueError("names[None] lists what JAX has alone: give a list of its names")
    for path in paths:
        _require(path, jax, "JAX")
    return {path for path in paths if path is not None}


def _entries(names: Names, torch: Mapping[str, Leaf]) -> Iterator[_Entry]:
    """Entries by name, then those of patterns for what has no entry of its own."""
    plain: set[str] = set()
    patterns: list[tuple[re.Pattern[str], Stated]] = []
    for key, value in names.items():
        if key is None:
            continue
        pattern = _pattern(key)
        if pattern is not None:
            patterns.append((pattern, value))
            continue
        several = (key,) if isinstance(key, str) else tuple(key)  # type: ignore[arg-type]
        for name in several:
            _require(name, torch, "PyTorch")
        plain |= set(several)
        yield _Entry(several, _to(value))
    for pattern, value in patterns:
        yield from _family(pattern, value, [name for name in torch if name not in plain])


def _pattern(key: Key) -> re.Pattern[str] | None:
    if isinstance(key, re.Pattern):
        return key
    if not isinstance(key, str) or not key.startswith(PATTERN):
        return None
    try:
        return re.compile(key.removeprefix(PATTERN))
    except re.error as error:
        raise ValueError(f"names has {key!r}, which is no regular expression: {error}") from None


def _to(value: Stated) -> To | None:
    if isinstance(value, To):
        return value
    parts = value if isinstance(value, list) else [value]
    return None if all(part is None for part in parts) else To(*parts)


def _family(pattern: re.Pattern[str], value: Stated, names: Sequence[str]) -> Iterator[_Entry]:
    """An entry for each name that the pattern matches, or for all with the same target."""
    matches = [found for name in names if (found := pattern.fullmatch(name))]
    if not matches:
        raise ValueError(
            f"names has the pattern {pattern.pattern!r}, which no PyTorch name matches"
        )
    to = _to(value)
    together: dict[To, list[str]] = {}
    for found in matches:
        if to is None:
            yield _Entry((found.string,), None)
            continue
        target = to.named(lambda path, found=found: found.expand(path))  # type: ignore[misc]
        if target.together:
            together.setdefault(target, []).append(found.string)
        else:
            yield _Entry((found.string,), target)
    for target, members in together.items():
        yield _Entry(tuple(sorted(members, key=in_order)), target)


def in_order(name: str) -> tuple[tuple[int, str], ...]:
    """A key that sorts names by the numbers in them: layer 10 after layer 9."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def _partners(entry: _Entry, torch: Mapping[str, Leaf], jax: Mapping[str, Leaf]) -> list[Partner]:
    to = entry.to
    assert to is not None
    for path in to.paths:
        _require(path, jax, "JAX")
    leaves = [torch[name] for name in entry.torch]
    if len(leaves) > 1 and not to.together:
        raise ValueError(
            f"names puts {', '.join(entry.torch)} into {to.code()}: say how, with .stack(), "
            ".concatenate() or .sum()"
        )
    if to.together == "sum":
        return _cut(_summed(leaves), to, jax)
    if to.together == "stack":
        return _stacked(leaves, to, jax)
    if to.together == "concatenate":
        return _concatenated(leaves, to, jax)
    return _cut([leaves[0]], to, jax)


def _summed(leaves: Sequence[Leaf]) -> Sequence[Leaf]:
    if len({leaf.shape for leaf in leaves}) > 1:
        raise ValueError(
            f"names adds up {', '.join(f'{x.path} {x.shape}' for x in leaves)}: their shapes differ"
        )
    return leaves


def _cut(leaves: Sequence[Leaf], to: To, jax: Mapping[str, Leaf]) -> list[Partner]:
    """One tensor, or the sum of several, whole or cut into the parts that ``to`` names."""
    leaf, added = leaves[0], tuple(other.path for other in leaves[1:])
    parts = len(to.paths)
    if parts == 1:
        return [_one(leaf, jax[to.paths[0] or ""], to, added=added)]
    made, start = [], 0
    for number, (path, size) in enumerate(zip(to.paths, _sizes(leaf, to), strict=True)):
        if path is not None:
            shape = (*leaf.shape[: to.axis], size, *leaf.shape[to.axis + 1 :])
            cut = Range(to.axis, start, start + size)
            piece = replace(leaf, shape=shape)
            made.append(_one(piece, jax[path], to, added=added, cut=cut, part=number, parts=parts))
        start += size
    return made


def _sizes(leaf: Leaf, to: To) -> Sequence[int]:
    parts = len(to.paths)
    if not -len(leaf.shape) <= to.axis < len(leaf.shape) or to.axis < 0:
        raise ValueError(f"names cuts {leaf.path} of shape {leaf.shape} along axis {to.axis}")
    whole = leaf.shape[to.axis]
    which = "its first axis" if to.axis == 0 else f"axis {to.axis}"
    if to.sizes is None and whole % parts:
        raise ValueError(
            f"names cuts {leaf.path} of shape {leaf.shape} into {parts} parts: {which} does not "
            "divide by that; give sizes, as in To(..., sizes=(...))"
        )
    sizes = to.sizes or (whole // parts,) * parts
    if sum(sizes) != whole:
        raise ValueError(
            f"names cuts {leaf.path} of shape {leaf.shape} into {sizes}: {which} has {whole}"
        )
    return sizes


def _stacked(leaves: Sequence[Leaf], to: To, jax: Mapping[str, Leaf]) -> list[Partner]:
    target = _single(to, jax)
    axis = _axis(to, target)
    if target.shape[axis] != len(leaves):
        raise ValueError(
            f"names stacks {len(leaves)} tensors in {target.path} of shape {target.shape} along "
            f"axis {axis}: it has {target.shape[axis]} there"
        )
    shape = (*target.shape[:axis], *target.shape[axis + 1 :])
    piece = replace(target, shape=shape)
    return [
        _one(leaf, piece, to, place=Range(axis, number, None)) for number, leaf in enumerate(leaves)
    ]


def _concatenated(leaves: Sequence[Leaf], to: To, jax: Mapping[str, Leaf]) -> list[Partner]:
    target = _single(to, jax)
    axis = _axis(to, target)
    others = target.shape[:axis] + target.shape[axis + 1 :]
    made, start = [], 0
    for leaf in leaves:
        size = math.prod(leaf.shape) // (math.prod(others) or 1)
        shape = (*target.shape[:axis], size, *target.shape[axis + 1 :])
        place = Range(axis, start, start + size)
        made.append(_one(leaf, replace(target, shape=shape), to, place=place))
        start += size
    if start != target.shape[axis]:
        raise ValueError(
            f"names concatenates {', '.join(f'{x.path} {x.shape}' for x in leaves)} in "
            f"{target.path} of shape {target.shape} along axis {axis}: they fill {start} of "
            f"{target.shape[axis]}"
        )
    return made


def _single(to: To, jax: Mapping[str, Leaf]) -> Leaf:
    if len(to.paths) != 1:
        raise ValueError(f"names has {to.code()}: give the one JAX parameter that holds them all")
    return jax[to.paths[0] or ""]


def _axis(to: To, target: Leaf) -> int:
    rank = len(target.shape)
    if not -rank <= to.together_axis < rank:
        raise ValueError(
            f"names has {to.code()}, and {target.path} of shape {target.shape} has no such axis"
        )
    return to.together_axis % rank


def _one(torch: Leaf, jax: Leaf, to: To, **places: object) -> Partner:
    """Two whole tensors, or parts, as partners: by the steps that are stated, or by inference."""
    if to.steps is not None:
        shape = _shape_after(torch, to)
        if shape != jax.shape and math.prod(shape) != math.prod(jax.shape):
            raise ValueError(_misfit(torch, jax, f"after {to.code()} it has shape {shape}"))
        made = Partner(torch=torch.path, jax=jax.path, shape=torch.shape, steps=to.steps)
        if shape != jax.shape:
            made = replace(made, steps=(*to.steps, Reshape(jax.shape)))
        return replace(made, **places)  # type: ignore[arg-type]
    inferred = layouts.partner(torch, jax, **places)
    if inferred is None:
        raise ValueError(_misfit(torch, jax, "no order of the axes makes one the other"))
    return inferred


def _shape_after(torch: Leaf, to: To) -> Shape:
    try:
        return shapes(to.steps or (), torch.shape)[-1]
    except Exception as error:  # of NumPy, or of the pair's own functions
        raise ValueError(
            f"names has {to.code()} for {torch.path} of shape {torch.shape}: {error}"
        ) from error


def _misfit(torch: Leaf, jax: Leaf, why: str) -> str:
    return (
        f"names pairs {torch.path} of shape {torch.shape} with {jax.path} of shape {jax.shape}: "
        f"{why}"
    )


def _refuse_doubles(partners: Sequence[Partner]) -> None:
    whole: dict[str, str] = {}
    for p in partners:
        if p.place is None and whole.setdefault(p.jax, p.name) != p.name:
            raise ValueError(f"names gives {p.jax} to {whole[p.jax]} and to {p.name}: choose one")


def _require(path: str | None, leaves: Mapping[str, Leaf], framework: str) -> None:
    if path is not None and path not in leaves:
        names = [f"{leaf.path} {leaf.shape}" for leaf in leaves.values()]
        some = ", ".join(names[:8]) or "none"
        more = ", ..." if len(names) > 8 else ""
        raise ValueError(
            f"names has {path!r}, which the {framework} model has not: it has {some}{more}"
        )
