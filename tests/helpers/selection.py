"""Choose the tests of a run: the quick set by default; slow tests when they are asked for.

``@pytest.mark.slow`` on a test makes all its cases slow, ``@pytest.mark.slow("jax*", "hf")`` those
whose ids fit a pattern: the others keep the claim in the quick set.

``--all`` runs everything, ``-m slow`` the slow tests alone, and a test that is named by its node id
runs whichever it is. ``--share K/N`` takes the K-th of N parts of what is slow, drawn by name, so
that N runs with K from 1 to N cover all of it.
"""

import argparse
import fnmatch
import hashlib
import os
import re

import pytest

LEFT = pytest.StashKey[int]()
_KEY = "slow_tests_left"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("quick and long set")
    group.addoption("--all", action="store_true", help="run the slow tests as well")
    group.addoption(
        "--share",
        metavar="K/N",
        type=_share,
        help="of the slow tests, run only the K-th of N parts, drawn by name",
    )


def _share(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"expected K/N with K from 1 to N, as 3/10; got {text!r}")
    return int(found[1]), int(found[2])


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT] = 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the slow tests that nobody asked for."""
    for item in items:
        item.own_markers = [mark for mark in item.own_markers if _is_meant(mark, item)]
    left = [item for item in items if is_slow(item) and not _is_wanted(config, item)]
    if left:
        out = set(left)
        items[:] = [item for item in items if item not in out]
        config.hook.pytest_deselected(items=left)
    config.stash[LEFT] = len(left)
    if hasattr(config, "workeroutput"):
        config.workeroutput[_KEY] = len(left)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    """Every worker of pytest-xdist collects the same tests: keep its count."""
    left = getattr(node, "workeroutput", {}).get(_KEY, 0)
    node.config.stash[LEFT] = max(node.config.stash[LEFT], left)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if left := config.stash[LEFT]:
        terminalreporter.write_line(
            f"{left:,} slow tests were left for the long run: "
            "`pytest -m slow` runs them, `pytest --all` runs everything."
        )


def _is_meant(mark: pytest.Mark, item: pytest.Item) -> bool:
    """Whether a marker is for this case of the test: ``slow`` with patterns is for some alone."""
    if mark.name != "slow" or not mark.args:
        return True
    case = item.name.partition("[")[2].removesuffix("]")
    return any(fnmatch.fnmatchcase(case, pattern) for pattern in mark.args)


def is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def _is_wanted(config: pytest.Config, item: pytest.Item) -> bool:
    if _is_named(config, item):
        return True
    share = config.getoption("share")
    if share and part_of(item, share[1]) != share[0]:
        return False
    by_marker = re.search(r"\bslow\b", config.getoption("markexpr"))
    return bool(by_marker or share or config.getoption("all"))


def _is_named(config: pytest.Config, item: pytest.Item) -> bool:
    """Whether an argument names this test, or the function whose case it is, by node id."""
    within = item.nodeid.partition("::")[2]
    for argument in config.args:
        path, _, name = str(argument).partition("::")
        if not name or os.path.abspath(config.invocation_params.dir / path) != str(item.path):
            continue
        if within == name or within.startswith((f"{name}::", f"{name}[")):
            return True
    return False


def part_of(item: pytest.Item, parts: int) -> int:
    """The part, from 1 to ``parts``, of a test: all cases of a function, all tests of one setup."""
    setup = item.get_closest_marker("one_setup")
    name = item.nodeid.partition("::" if setup else "[")[0]
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % parts + 1
