"""Results of comparing and of diagnosing a pair: for programs, notebooks and tests."""

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from rich.console import Console

from twingrad import finding_tables, notebook, outcome_tables
from twingrad.basis import Basis
from twingrad.diagnosis.finding import Finding, Note, PartObject, located
from twingrad.outcome import Outcome

WIDTH = 100  # columns of a table as text


class Findings(list[Finding]):
    """The places where two models first differ, in the order of computation; empty if nowhere.

    A list, so that it is false where the models are equal; ``ok`` is true there. ``notes`` say what
    there is to know that makes no two models unequal. ``part`` is the part of the models that was
    looked at, in words, where it was not all. ``basis`` says what they were judged by where it was
    in a lower precision alone. In a notebook it is shown as a table.

    Example::

        findings = twingrad.diagnose(pair)
        assert findings.ok, findings.table()
    """

    def __init__(
        self,
        findings: Iterable[Finding] = (),
        name: str = "pair",
        notes: Iterable[Note] = (),
        part: PartObject | None = None,
        basis: Basis | None = None,
    ):
        super().__init__(findings)
        self.name = name
        self.notes = list(notes)
        self.part = part
        self.basis = basis

    @property
    def ok(self) -> bool:
        """Whether the models do not differ anywhere."""
        return not self

    def table(self, width: int = WIDTH) -> str:
        """Stage, place, cause and evidence of every finding as text, ``width`` columns wide."""
        return _printed(self.show, width)

    def show(self, console: Console, name: str | None = None) -> None:
        """Print the table on ``console``, calling the pair ``name``."""
        finding_tables.findings(console, name or self.name, self, self.notes, self.part)
        if self.basis is not None:
            console.print(self.basis.sentence, markup=False, highlight=False)

    def __repr__(self) -> str:
        if self.ok:
            return f"<{self.name}: no divergence{' in a part' if self.part else ''}>"
        more = f" and {len(self) - 1} more" if len(self) > 1 else ""
        return f"<{self.name}: {located(self)}{more}>"

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return notebook.findings_html(self.name, self, self.part)


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison:
    """Two models compared: an outcome for each dtype, and what diagnosis says where they differ.

    Iterating goes through its ``outcomes``. ``findings`` are empty for equal models, and where
    diagnosis was not asked for. ``notes`` say what there is to know that makes no models unequal.
    In a notebook it is shown as tables, in colour.

    Example::

        result = twingrad.compare(pair)
        assert result.ok, result.table()
    """

    name: str
    outcomes: list[Outcome]
    findings: Findings = field(default_factory=Findings)
    notes: list[Note] = field(default_factory=list)
    seconds: float = 0.0
    hint: str | None = None  # what to call to know more where it is not equal

    @property
    def ok(self) -> bool:
        """Whether every tensor keeps its limit in every dtype."""
        return bool(self.outcomes) and all(outcome.ok for outcome in self.outcomes)

    def table(self, width: int = WIDTH) -> str:
        """What ``twingrad compare`` prints, as text: gates, worst tensors, first divergence."""
        return _printed(self.show, width)

    def show(self, console: Console) -> None:
        """Print the tables on ``console``, and the findings where there are some."""
        outcome_tables.comparison(console, self.name, self.outcomes, self.seconds, self.hint)
        finding_tables.notes(console, self.notes)
        if self.findings:
            finding_tables.findings(console, self.name, self.findings)

    def __len__(self) -> int:
        return len(self.outcomes)

    def __getitem__(self, index: int) -> Outcome:
        return self.outcomes[index]

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    def __repr__(self) -> str:
        tensors = sum(len(gate.tensors) for outcome in self for gate in outcome.gates)
        dtypes = " and ".join(outcome.dtype for outcome in self)
        word = "equal" if self.ok else "not equal"
        return f"<{self.name}: {word}, {tensors} tensors judged in {dtypes}>"

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return notebook.comparison_html(self.name, self.outcomes, self.findings, self.hint)


class NotEqual(AssertionError):
    """Two models differ that were claimed to be equal: the place, the cause, and the tables.

    ``comparison`` holds the outcomes and findings.

    Example::

        try:
            twingrad.assert_equal(pair)
        except twingrad.NotEqual as error:
            print(error.comparison.table())
    """

    def __init__(self, comparison: Comparison):
        self.comparison = comparison
        first = comparison.findings[0]
        self.summary = f"{located(comparison.findings)} ({first.evidence})"
        super().__init__(f"{self.summary}\n\n{comparison.table()}")


def _printed(show: Callable[[Console], None], width: int) -> str:
    text = io.StringIO()
    show(Console(file=text, width=width, highlight=False, no_color=True, force_terminal=False))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")
