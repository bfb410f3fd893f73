"""Which call of JAX's is which of PyTorch's: by the parameters of the module that was called."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from twingrad.calls import Key, Pass
from twingrad.matching import words
from twingrad.partners import Partner


def align(
    torch_side: Pass, jax_side: Mapping[Key, str], partners: Sequence[Partner]
) -> dict[Key, Key]:
    """For JAX's calls, PyTorch's calls of the same module.

    A module is known by the parameters in it; one without any by its path.
    """
    torch_calls = Counter(key.path for key in (*torch_side.calls, *torch_side.left_out))
    jax_calls = Counter(key.path for key in jax_side)
    torch_held, inside = held_by_path(partners, "torch"), _by_path(partners, "jax")
    # By the parameters in them; modules without any by the words of their paths.
    likely: dict[object, list[str]] = defaultdict(list)
    for other in torch_calls:
        likely[torch_held.get(other) or words(other)].append(other)
    pairs: dict[Key, Key] = {}
    taken: set[str] = set()
    for path in sorted(jax_calls, key=len):
        for layer, numbers in _layers(inside.get(path, []), jax_calls[path]):
            held = frozenset(p.name for p in layer)
            fits = [
                other
                for other in likely.get(held or words(path), ())
                if other not in taken and (path == "") == (other == "")
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


def _layers(inside: Sequence[Partner], calls: int) -> list[tuple[Sequence[Partner], list[int]]]:
    """What a module is in its calls: the same in each, or a layer after the other.

    A scan calls one module for all layers, whose parameters lie in it as in a stack; ``inside`` are
    all that lie in it.
    """
    stacked = [p for p in inside if p.place is not None and p.place.stop is None]
    layers = sorted({p.place.start for p in stacked if p.place is not None})
    if not layers or len(stacked) < len(inside) or calls != len(layers):
        return [(inside, list(range(calls)))]
    return [
        ([p for p in stacked if p.place is not None and p.place.start == layer], [number])
        for number, layer in enumerate(layers)
    ]


def _by_path(
    partners: Sequence[Partner], framework: Literal["torch", "jax"]
) -> dict[str, list[Partner]]:
    """For every path above a parameter of the framework's, the partners that lie under it."""
    inside: dict[str, dict[int, Partner]] = defaultdict(dict)
    for number, p in enumerate(partners):
        for path in p.torch_names if framework == "torch" else (p.jax,):
            while path:
                path = path.rpartition(".")[0]
                inside[path][number] = p
    return {path: list(found.values()) for path, found in inside.items()}


def held_by_path(
    partners: Sequence[Partner], framework: Literal["torch", "jax"]
) -> dict[str, frozenset[str]]:
    """For every path above a parameter of the framework's, the parts that lie under it, by name."""
    inside = _by_path(partners, framework)
    return {path: frozenset(p.name for p in found) for path, found in inside.items()}
