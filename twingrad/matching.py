"""Pairs of parameters of a PyTorch and a JAX model, and the order of their axes.

What people write differs in three ways: names (``weight``, ``kernel``), axes (a PyTorch ``Linear``
keeps (out, in), a Flax kernel (in, out)), and prefixes. Names and shapes settle most; what they
leave open has to be stated, and is never guessed.
"""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache, lru_cache

from twingrad import layouts
from twingrad.partners import Leaf, Partner, Range
from twingrad.stated import Names, in_order, read

# Names of a layer's parameters in the frameworks, as one.
_LEAVES = {
    "weight": "weight",
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "embeddings": "weight",
    "w": "weight",
    "b": "bias",
    "offset": "bias",
    "gamma": "weight",
    "beta": "bias",
    "running_mean": "mean",
    "moving_mean": "mean",
    "moving_variance": "variance",
    "running_var": "variance",
    "var": "variance",
    "mean_ema.average": "mean",
    "var_ema.average": "variance",
}
Leaves = dict[str, Leaf]
Rule = Callable[[Leaf, Leaf], int]


def match(torch: Iterable[Leaf], jax: Iterable[Leaf], names: Names | None = None) -> list[Partner]:
    """Every JAX parameter with its PyTorch partner.

    Partners whose layout is not settled by shapes and layers have ``others`` left. Raises
    ``ValueError`` naming what has no partner, or more than one candidate.
    """
    partners, missing, spare = matched(torch, jax, names)
    if missing or spare:
        raise ValueError(_complaint(missing, spare, len(partners)))
    return partners


def matched(
    torch: Iterable[Leaf], jax: Iterable[Leaf], names: Names | None = None
) -> tuple[list[Partner], list[Leaf], list[Leaf]]:
    """Partners, and the leaves of PyTorch and of JAX that need one and have none."""
    torch_leaves = {leaf.path: leaf for leaf in torch}
    jax_leaves = {leaf.path: leaf for leaf in jax}
    stated = read(torch_leaves, jax_leaves, names or {})
    partners, torch_done, jax_done = list(stated.partners), stated.torch, stated.jax

    def left(leaves: Leaves, done: set[str], optional: bool) -> list[Leaf]:
        return [x for x in leaves.values() if x.path not in done and (optional or not x.optional)]

    # What needs no partner is looked at when all that does has had its choice.
    rules = (_same_paths, _same_stacks, _same_endings, _same_shapes)
    for optional, rule in itertools.product((False, True), rules):
        found = rule(left(torch_leaves, torch_done, optional), left(jax_leaves, jax_done, optional))
        partners += found
        torch_done |= {p.torch for p in found}
        jax_done |= {p.jax for p in found}
    order = {path: place for place, path in enumerate(torch_leaves)}
    partners.sort(key=lambda partner: (order[partner.torch], partner.part))
    missing, spare = (
        left(leaves, done, False)
        for leaves, done in ((torch_leaves, torch_done), (jax_leaves, jax_done))
    )
    return layouts.by_family(partners), missing, spare


def _same_paths(torch: Sequence[Leaf], jax: Sequence[Leaf]) -> list[Partner]:
    return _mutual(torch, jax, lambda a, b: 1, lambda leaf: words(leaf.path))


def _same_stacks(torch: Sequence[Leaf], jax: Sequence[Leaf]) -> list[Partner]:
    """Layers that one scan runs: PyTorch's tensors of all layers along a first axis of JAX's."""
    families: dict[tuple[str, ...], dict[int, list[Leaf]]] = defaultdict(lambda: defaultdict(list))
    for leaf in torch:
        parts = words(leaf.path)
        for place, part in enumerate(parts):
            if part.isdigit():
                families[(*parts[:place], *parts[place + 1 :])][place].append(leaf)
    partners: list[Partner] = []
    for target in jax:
        found = [_stack(members, target) for members in families[words(target.path)].values()]
        found = [stack for stack in found if stack]
        if len(found) == 1:
            partners += found[0]
    taken = Counter(p.torch for p in partners)
    return [p for p in partners if taken[p.torch] == 1]


def _stack(members: Sequence[Leaf], target: Leaf) -> list[Partner]:
    """Layers in the order of their numbers, along the first axis of ``target``, if they fit."""
    if len(members) < 2 or target.shape[:1] != (len(members),):
        return []
    layer = replace(target, shape=target.shape[1:])
    made = [
        layouts.partner(leaf, layer, place=Range(0, number, None))
        for number, leaf in enumerate(sorted(members, key=lambda x: in_order(x.path)))
    ]
    return [p for p in made if p is not None] if all(made) else []


def _same_endings(torch: Sequence[Leaf], jax: Sequence[Leaf]) -> list[Partner]:
    """How many of the last words agree; the leaf's own and its layer's must.

    Numbers count where both models count alike: the second of three layers may have any number in
    a list that holds other things too.
    """
    alike = _counted_alike(torch, jax, _layer)

    def rank(a: Leaf, b: Leaf) -> int:
        common = 0
        for word, other in zip(reversed(words(a.path)), reversed(words(b.path)), strict=False):
            if word != other or (word.isdigit() and not alike(a, b)):
                break
            common += 1
        same = alike(a, b) and numbers(a.path) == numbers(b.path)
        return 2 * common + same if common > 1 else 0

    return _mutual(torch, jax, rank, lambda leaf: words(leaf.path)[-2:])


def _same_shapes(torch: Sequence[Leaf], jax: Sequence[Leaf]) -> list[Partner]:
    """The same last word, alone of its shape, in the whole or in the layer of a number."""
    alike = _counted_alike(torch, jax, lambda leaf: (words(leaf.path)[-1], *sorted(leaf.shape)))

    def rank(a: Leaf, b: Leaf) -> int:
        return 1 + (alike(a, b) and numbers(a.path) == numbers(b.path) != ())

    return _mutual(torch, jax, rank, lambda leaf: words(leaf.path)[-1:])


def _layer(leaf: Leaf) -> tuple[str, ...]:
    return tuple(word for word in words(leaf.path) if not word.isdigit())[-2:]


def _counted_alike(
    torch: Sequence[Leaf], jax: Sequence[Leaf], group: Callable[[Leaf], tuple[object, ...]]
) -> Callable[[Leaf, Leaf], bool]:
    """Whether the groups that two leaves belong to have the same numbers in either model."""
    sides: list[dict[tuple[object, ...], set[tuple[int, ...]]]] = []
    groups: dict[int, tuple[object, ...]] = {}
    for leaves in (torch, jax):
        counted: dict[tuple[object, ...], set[tuple[int, ...]]] = defaultdict(set)
        for leaf in leaves:
            groups[id(leaf)] = group(leaf)
            counted[groups[id(leaf)]].add(numbers(leaf.path))
        sides.append(counted)

    @cache
    def alike(first: tuple[object, ...], second: tuple[object, ...]) -> bool:
        return sides[0][first] == sides[1][second]

    return lambda a, b: alike(groups[id(a)], groups[id(b)])


def _mutual(
    left: Sequence[Leaf],
    free: Sequence[Leaf],
    rule: Rule,
    group: Callable[[Leaf], tuple[object, ...]],
) -> list[Partner]:
    """Partners that the rule ranks first for both, alone; it is asked about those of one group."""
    grouped: dict[tuple[object, ...], list[Leaf]] = defaultdict(list)
    for b in free:
        grouped[group(b)].append(b)
    pairs = ((a, b) for a in left for b in grouped.get(group(a), ()))
    ranks = [(a, b, rank) for a, b in pairs if (rank := rule(a, b))]
    # Of all layers alike, one is asked: nothing but the path tells them apart.
    kinds = {id(leaf): replace(leaf, path="") for leaf in (*left, *free)}
    fit = cache(layouts.fits)
    fits = [(a, b, rank) for a, b, rank in ranks if fit(kinds[id(a)], kinds[id(b)])]
    best: dict[tuple[str, str], int] = {}
    for a, b, rank in fits:
        for key in (("torch", a.path), ("jax", b.path)):
            best[key] = max(best.get(key, 0), rank)
    tops = [
        (a, b)
        for a, b, rank in fits
        if rank == best["torch", a.path] and rank == best["jax", b.path]
    ]
    torch_paths = Counter(a.path for a, _ in tops)
    jax_paths = Counter(b.path for _, b in tops)
    made = [layouts.partner(a, b) for a, b in tops if torch_paths[a.path] == jax_paths[b.path] == 1]
    return [p for p in made if p is not None]


@lru_cache(maxsize=1 << 14)
def words(path: str) -> tuple[str, ...]:
    """A path as words that both frameworks would use: ``layers_0/kernel`` is layers, 0, weight."""
    for leaf in sorted(_LEAVES, key=len, reverse=True):
        if path == leaf or path.endswith((f".{leaf}", f"/{leaf}")):
            return (*_split(path[: -len(leaf)]), _LEAVES[leaf])
    return tuple(_split(path))


def _split(path: str) -> list[str]:
    return [part.lower() for part in re.split(r"[./_]", path) if part]


@lru_cache(maxsize=1 << 14)
def numbers(path: str) -> tuple[int, ...]:
    """The numbers in a path: which layer it is."""
    return tuple(map(int, re.findall(r"\d+", path)))


def _complaint(missing: Sequence[Leaf], spare: Sequence[Leaf], done: int) -> str:
    """What is left, by shape, as code to complete."""

    def listed(leaves: Sequence[Leaf]) -> str:
        some = ", ".join(f"{leaf.path} {leaf.shape}" for leaf in leaves[:4])
        return some + (f" and {len(leaves) - 4} more" if len(leaves) > 4 else "")

    parts = []
    if missing:
        parts.append(f"no partner was found in JAX for {listed(missing)}")
    if spare:
        parts.append(f"none in PyTorch for {listed(spare)}")
    return f"{done} parameters have a partner; {'; '.join(parts)}. Complete this:\n" + "\n".join(
        open_entries(missing, spare)
    )


def open_entries(missing: Sequence[Leaf], spare: Sequence[Leaf]) -> list[str]:
    """Lines of code that name what has no partner yet, each with what could be it by its size."""

    def sizes(leaf: Leaf) -> tuple[int, ...]:
        return tuple(sorted(n for n in leaf.shape if n != 1))

    lines = ["names={"]
    groups: dict[tuple[int, ...], list[Leaf]] = defaultdict(list)
    for leaf in missing:
        groups[sizes(leaf)].append(leaf)
    for group, leaves in groups.items():
        free = [f"{x.path} {x.shape}" for x in spare if sizes(x) == group]
        lines.append(f"    # of this size JAX has {', '.join(free) or 'none'}")
        lines += [f'    "{leaf.path}": "",  # {leaf.shape}' for leaf in leaves]
    others = [x for x in spare if sizes(x) not in groups]
    if others:
        lines.append("    # JAX alone; whatever has no partner in PyTorch stays here")
        quoted = ", ".join(f'"{leaf.path}"' for leaf in others)
        lines.append(f"    None: [{quoted}],")
    return [*lines, "}"]
