"""Ports of transformers' models: right ones, and the same with one planted bug each.

``tests/third_party/NAME/pair_ok.py`` is the port, ``bugs.toml`` lists its bugs: a text that stands
once in the port, what it becomes, and where diagnosis must find it.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.studies.ports import Answer, Expected, Port
from twingrad import comparison, pair
from twingrad.diagnosis import pairs
from twingrad.diagnosis.finding import as_object

PORTS = Path(__file__).parent.parent / "third_party"
RIGHT = "pair_ok"


@dataclass(frozen=True, kw_only=True)
class Bug:
    """A change of a port, and what diagnosis must say of it."""

    port: str
    name: str
    old: str
    new: str
    expected: Expected

    def source(self) -> str:
        """The port with the bug; ``ValueError`` unless the old text stands there once."""
        right = (PORTS / self.port / f"{RIGHT}.py").read_text()
        if right.count(self.old) != 1 or self.old == self.new:
            raise ValueError(f"{self.port}: {self.name}: the text to change stands there not once")
        return right.replace(self.old, self.new)


def names() -> list[str]:
    """The ports by name."""
    return sorted(path.parent.name for path in PORTS.glob(f"*/{RIGHT}.py"))


def bugs(port: str) -> list[Bug]:
    """The bugs of a port."""
    return list(_bugs(port))


def _bugs(port: str) -> Iterator[Bug]:
    for name, fields in tomllib.loads((PORTS / port / "bugs.toml").read_text()).items():
        expected = Expected(
            status=1,
            stage=fields["stage"],
            where=fields["where"],
            cause=tuple(fields["cause"]),
            not_cause=("bfloat16", "float16", "TF32"),
        )
        yield Bug(port=port, name=name, old=fields["old"], new=fields["new"], expected=expected)


def diagnosed(path: Path) -> Answer:
    """What ``twingrad diagnose --all`` answers for the pair file at ``path``."""
    with pair.importing_beside(path):
        found = pairs.diagnose(pair.load(path), every=True)
    report = as_object(found, 0.0, None, found.notes)
    return {
        "status": 1 if found else 0,
        "findings": report["findings"],
        "notes": report["notes"],
        "message": "",
    }


def compared(path: Path) -> tuple[bool, list[str]]:
    """Whether ``twingrad compare`` holds the pair file's models equal, and its notes."""
    with pair.importing_beside(path):
        outcomes, notes = comparison.compare(pair.load(path))
    return all(outcome.ok for outcome in outcomes), [f"{n.where}: {n.note}" for n in notes]


def as_port(bug: Bug) -> Port:
    """The bug as the study of ports judges it."""
    return Port(bug.port, bug.name, bug.expected)
