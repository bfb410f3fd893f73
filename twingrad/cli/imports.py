"""Imports of a pair file: its own folder comes first, and nothing of this project's hides it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twingrad.environment import checkout


@contextmanager
def without_checkout() -> Iterator[None]:
    """Hide the checkout that the library lies in, except the library, while a pair is looked at.

    A pair may import packages called ``shared``, ``bench``, ``tests`` or ``config`` that are its
    own. A folder without ``__init__.py`` would lose to a package of the same name wherever that is
    on the path, so the checkout leaves the path, and its packages those that are loaded. Both are
    put back at the end.
    """
    root = checkout()
    path = sys.path[:]
    hidden: dict[str, object] = {}
    if root is not None:
        sys.path[:] = [entry for entry in path if Path(entry or ".").resolve() != root]
        hidden = _take_modules(_loaded_from(root))
    try:
        yield
    finally:
        sys.path[:] = path
        _take_modules({name.partition(".")[0] for name in hidden})  # the pair's of these names
        sys.modules.update(hidden)  # type: ignore[arg-type]


def _loaded_from(root: Path) -> set[str]:
    """The packages that were loaded from ``root``, without the library."""
    packages = {name: module for name, module in sys.modules.items() if "." not in name}
    return {
        name
        for name, module in packages.items()
        if name != "twingrad"
        and any(Path(place).resolve().parent == root for place in getattr(module, "__path__", ()))
    }


def _take_modules(packages: set[str]) -> dict[str, object]:
    """Remove ``packages`` and all that is in them from the loaded modules, and return them."""
    names = [name for name in sys.modules if name.partition(".")[0] in packages]
    return {name: sys.modules.pop(name) for name in names}
