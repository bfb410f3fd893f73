"""The map of a pair's parameters, as a table and as code for its ``names``."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape

from twingrad.map import To
from twingrad.matching import open_entries
from twingrad.partners import Leaf, Partner, Steps
from twingrad.terminal import put, table


def show(
    console: Console, partners: Sequence[Partner], missing: Sequence[Leaf], spare: Sequence[Leaf]
) -> None:
    """Print which parameter holds which, the code that states it, and what is left open."""
    rows = table("PyTorch", "shape", "JAX", "how it lies there", title="Which parameter is which")
    for p in partners:
        rows.add_row(escape(p.name), str(p.shape), escape(_place(p)), escape(_how(p.steps)))
    if partners:
        put(console, rows)
        console.print("As code, of which only what is inferred wrongly has to be stated:")
        _print(console, ["names={", *entries(partners), "}"])
    if missing or spare:
        console.print("Left open:")
        _print(console, open_entries(missing, spare))


def _print(console: Console, lines: Sequence[str]) -> None:
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _place(p: Partner) -> str:
    if p.place is None:
        return p.jax
    until = "" if p.place.stop is None else f":{p.place.stop}"
    return f"{p.jax}[{':, ' * p.place.axis}{p.place.start}{until}]"


def _how(steps: Steps) -> str:
    return "".join(step.code() for step in steps).lstrip(".") or "as it is"


def entries(partners: Sequence[Partner]) -> Iterator[str]:
    """Lines of a dictionary that states the partners."""
    groups: dict[tuple[object, ...], list[Partner]] = defaultdict(list)
    for p in partners:
        groups[("jax", p.jax) if p.place is not None else ("torch", p.torch_names)].append(p)
    for members in groups.values():
        yield f"    {_entry(members)},"


def _entry(members: Sequence[Partner]) -> str:
    first = members[0]
    names = [name for p in members for name in p.torch_names]
    if first.place is not None:
        together = "stack" if first.place.stop is None else "concatenate"
        axis = f"axis={first.place.axis}" if first.place.axis else ""
        return f"{_key(names)}: {_stated(To(first.jax), first.steps)}.{together}({axis})"
    to = To(first.jax) if first.cut is None else _cut(members)
    together = ".sum()" if first.added else ""
    return f"{_key(first.torch_names)}: {_stated(to, first.steps)}{together}"


def _key(names: Sequence[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return quoted if len(names) == 1 else f"({quoted})"


def _cut(members: Sequence[Partner]) -> To:
    """The parts of one tensor, with ``None`` for those that JAX has not."""
    first = members[0]
    assert first.cut is not None
    paths: list[str | None] = [None] * first.parts
    sizes = [0] * first.parts
    for p in members:
        if p.cut is not None and p.cut.stop is not None:
            paths[p.part], sizes[p.part] = p.jax, p.cut.stop - p.cut.start
    is_even = len(set(sizes)) == 1
    return To(*paths, axis=first.cut.axis, sizes=None if is_even else sizes)


def _stated(to: To, steps: Steps) -> str:
    return to.code() + ("".join(step.code() for step in steps) or ".as_it_is()")
