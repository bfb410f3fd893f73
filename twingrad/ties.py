"""Tensors that could lie in several ways: settled by running the model each way, or asked."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from twingrad.map import Flip, To
from twingrad.partners import Partner, Steps

# How near loss and output must come, relative, for a way to be the right one.
AGREE = {"float64": 1e-6, "float32": 1e-4, "bfloat16": 0.05}
MOST_TRIALS = 64
# Last words of names by which JAX's libraries, and those who write like them, keep (in, out).
_IN_OUT = ("kernel", "w")
ASSUMED = (
    "read as {steps} by the name of {jax}: its shape leaves it open, and the models agree in no "
    "way; To(...) in names states it"
)
SETTLED = (
    "read as {steps}: of the ways that its shape leaves open, the one in which the models agree; a "
    "conversion of weights has to do the same, and To(...) in names states another"
)
Partners = list[Partner]


@dataclass(frozen=True)
class Trials:
    """Partners, and the families of those among them whose layout is open."""

    partners: Partners
    families: list[tuple[str, ...]]

    def ways(self) -> list[Partners]:
        """All partners in each of the ways that there are, the likeliest first."""
        counts = [
            range(1 + max(len(p.others) for p in self.partners if p.family == family))
            for family in self.families
        ]
        return [
            self._chosen(dict(zip(self.families, choice, strict=True)))
            for choice in itertools.islice(itertools.product(*counts), MOST_TRIALS)
        ]

    def _chosen(self, choice: dict[tuple[str, ...], int]) -> Partners:
        def chosen(p: Partner) -> Partner:
            if not p.others:
                return p
            ways = (p.steps, *p.others)
            return replace(p, steps=ways[min(choice[p.family], len(p.others))], others=())

        return [chosen(p) for p in self.partners]


def trials(partners: Sequence[Partner]) -> Trials | None:
    """The ways to try; ``None`` where nothing is open."""
    families = list(dict.fromkeys(p.family for p in partners if p.others))
    return Trials(list(partners), families) if families else None


def settle(
    trials: Trials, error: Callable[[Partners], float], dtype: str, by_name: bool = True
) -> tuple[Partners, list[tuple[str, str]]]:
    """The partners with which the models agree, and notes by name on what was found or assumed.

    ``error`` is how far loss and output are from PyTorch's, relative. Where no way agrees, names
    say which it is, unless ``by_name`` is off. Raises ``ValueError`` that asks where they do not.
    """
    ways = trials.ways()
    errors = [value if math.isfinite(value) else math.inf for value in map(error, ways)]
    least = min(errors)
    if least <= AGREE[dtype]:
        best = ways[0 if errors[0] <= 10 * least else errors.index(least)]
        return best, [
            (p.name, SETTLED.format(steps=code(p, p.steps)))
            for p, likeliest, given in zip(best, ways[0], trials.partners, strict=True)
            if given.others and (p.steps != likeliest.steps or _is_flipped(p))
        ]
    still_open = [p for p in trials.partners if p.others]
    if by_name and all(p.jax.rpartition(".")[2] in _IN_OUT for p in still_open):
        text = [(p.name, ASSUMED.format(steps=code(p, p.steps), jax=p.jax)) for p in still_open]
        return ways[0], text
    raise ValueError(question(still_open))


def _is_flipped(p: Partner) -> bool:
    return any(isinstance(step, Flip) for step in p.steps)


def question(still_open: Sequence[Partner]) -> str:
    """What to state of tensors that no run settles, as code to choose from."""
    lines = [
        f'    "{p.torch}": {code(p, p.steps)},  # or '
        + " or ".join(code(p, steps) for steps in p.others)
        for p in still_open
    ]
    return (
        f"{len(still_open)} tensors could lie in several ways by their shapes, and the models "
        "agree in none: say which it is.\n" + "\n".join(["names={", *lines, "}"])
    )


def code(p: Partner, steps: Steps) -> str:
    """A partner as an entry of ``names`` has it, with these steps."""
    return To(p.jax).code() + ("".join(step.code() for step in steps) or ".as_it_is()")
