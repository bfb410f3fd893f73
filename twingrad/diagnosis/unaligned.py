"""Modules that were called and have no counterpart: by name, each with those that it may be."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from twingrad.aligned_calls import held_by_path
from twingrad.diagnosis.finding import Note
from twingrad.exact import ExactRun
from twingrad.matching import words

MOST_CANDIDATES = 3
# How alike two names are, as difflib has it, for one module to be a candidate by its name alone.
_ALIKE = 0.6


@dataclass(frozen=True)
class _Module:
    """A module as it was called: class, shape of its first output, and the parameters within."""

    path: str
    kind: str
    shape: tuple[int, ...] | None
    held: frozenset[str]

    @property
    def about(self) -> str:
        """Its class, and the shape of its output."""
        output = f", output {self.shape}" if self.shape is not None else ""
        return f"{self.kind or 'module'}{output}"

    def __str__(self) -> str:
        return f"{self.path} ({self.about})"

    def likeness(self, other: "_Module") -> float:
        """How near another one comes: by the parameters, by the name, by the output's shape."""
        shared = len(self.held & other.held) / (len(self.held | other.held) or 1)
        named = difflib.SequenceMatcher(None, words(self.path), words(other.path)).ratio()
        same_shape = self.shape is not None and sorted(self.shape) == sorted(other.shape or ())
        if not (shared or named >= _ALIKE or (same_shape and self.kind == other.kind)):
            return 0.0
        return 4 * shared + 2 * named + same_shape


def notes(run: ExactRun) -> Iterator[Note]:
    """A note on each module with parameters that could not be aligned, and one on all others.

    Where models differ, what such a module computes is found at the module that called it.
    """
    torch, jax = _left(run)
    for left, others, framework in ((torch, jax, "JAX"), (jax, torch, "PyTorch")):
        of_jax = " in JAX" if framework == "PyTorch" else ""
        for module in left:
            if module.held:
                where = f"{module.path}{of_jax}"
                yield Note(where, _sentence(module, others, framework))
    plain = [f"{module.path} ({module.kind})" for module in torch if not module.held]
    plain += [f"{module.path} ({module.kind}) in JAX" for module in jax if not module.held]
    if plain:
        yield Note(
            "model",
            f"not compared by themselves, having no parameters and no counterpart of that name: "
            f"{', '.join(plain)}; what they compute counts as their caller's",
        )


def _sentence(module: _Module, others: Sequence[_Module], framework: str) -> str:
    ranked = sorted(others, key=module.likeness, reverse=True)[:MOST_CANDIDATES]
    near = [str(other) for other in ranked if module.likeness(other)]
    nearest = f"nearest are {', '.join(near)}" if len(near) > 1 else f"nearest is {''.join(near)}"
    return (
        f"not compared by itself ({module.about}): no module of {framework} holds the same "
        "parameters"
        + (f"; {nearest}" if near else ", and none left is like it")
        + "; what it computes counts as its caller's"
    )


def _left(run: ExactRun) -> tuple[list[_Module], list[_Module]]:
    """Called modules without a counterpart, of PyTorch and of JAX, in the order of their calls."""
    live, seen = run.live, run.seen
    aligned = live.names(seen)
    torch = {
        key.path: (call.kind, [x.shape for x in call.outputs]) for key, call in seen.calls.items()
    }
    jax = {
        key.path: (kind, [x.shape for x in run.plain.outputs.get(key, [])])
        for key, kind in live.jax_paths().items()
    }
    return (
        _modules(
            torch, {key.path for key in aligned.values()}, held_by_path(live.partners, "torch")
        ),
        _modules(jax, {key.path for key in aligned}, held_by_path(live.partners, "jax")),
    )


def _modules(
    called: Mapping[str, tuple[str, Sequence[tuple[int, ...]]]],
    aligned: set[str],
    held: Mapping[str, frozenset[str]],
) -> list[_Module]:
    return [
        _Module(path, kind, tuple(shapes[0]) if shapes else None, held.get(path, frozenset()))
        for path, (kind, shapes) in called.items()
        if path and path not in aligned
    ]
