"""The known word nearest to one that is unknown: "did you mean ...?"."""

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path

# A ratio of likeness, 1 for equal words: "trian" and "train" have 0.8, "gpt3" and "gpt2" 0.75.
_ALIKE = 0.65


def nearest(word: str, choices: Collection[str]) -> str | None:
    """The one of ``choices`` that ``word`` was most likely meant to be; None if none is near."""
    # Case counts for nothing, and dashes in front, which all options have, for no likeness.
    plain = {choice.lower().lstrip("-"): choice for choice in choices}
    sought = word.lower().lstrip("-")
    if sought in plain:
        return plain[sought]
    begun = [
        choice for name, choice in plain.items() if len(sought) > 1 and name.startswith(sought)
    ]
    if len(begun) == 1:
        return begun[0]
    alike = difflib.get_close_matches(sought, list(plain), n=1, cutoff=_ALIKE)
    return plain[alike[0]] if alike else None


def did_you_mean(word: str, choices: Collection[str]) -> str:
    """``" did you mean X?"`` with the nearest of ``choices``; empty if none is near."""
    choice = nearest(word, choices)
    return "" if choice is None else f" did you mean {choice}?"


def choose(kind: str, value: str | Sequence[str], choices: Collection[str]) -> None:
    """Raise ``ValueError`` that names the choices if ``value``, or one of it, is none of them."""
    for word in (value,) if isinstance(value, str) else value:
        if word not in choices:
            raise ValueError(unknown(kind, word, choices))


def unknown(kind: str, word: str, choices: Collection[str]) -> str:
    """The sentence about a ``word`` that is none of ``choices``, with the nearest of them."""
    question = did_you_mean(word, choices)
    return f"unknown {kind} {word!r}:{question} choose from {', '.join(choices)}"


def nearby_file(path: Path) -> str:
    """`` did you mean X?`` with a file's name near that of ``path`` in its folder, else empty."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix == ".py"]
    except OSError:
        return ""
    choice = nearest(path.name, names) or nearest(f"{path.name}.py", names)
    return "" if choice is None else f" did you mean {path.with_name(choice)}?"
