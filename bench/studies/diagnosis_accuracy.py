"""Accuracy of diagnosis on planted bugs, whose place and cause are known.

``python -m bench.studies diagnosis`` plants every bug of ``bench.mutation`` in each framework,
alone, then a sample of them two at a time. An existing file is continued, as long as no source has
changed since; ``--most N`` stops after N of them.
"""

import hashlib
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.harness import frameworks, machine, programs, records
from bench.harness.frameworks import Frameworks
from bench.harness.programs import Program
from bench.mutation import compile_cache, mutants
from bench.mutation import programs as mutation_programs
from bench.mutation.mutants import MUTANTS, Mutant
from bench.studies import diagnosis_labels
from bench.studies.diagnosis_record import BugRow, CleanRow, Diagnosis, PairRow, Report
from bench.studies.study import DIAGNOSING
from twingrad.cli.ending import exit_status
from twingrad.cli.options import Parser, add_options, option, read_options
from twingrad.diagnosis.finding import Finding, Mode, Stage

PAIRS = 40
SEED = 0
# The order in which diagnosis looks for divergences.
ORDER: tuple[tuple[Stage, Mode], ...] = (
    ("forward", "evaluation"),
    ("backward", "evaluation"),
    ("forward", "training"),
    ("backward", "training"),
    ("update", "evaluation"),
    ("trajectory", "evaluation"),
)
# Sources that a finding depends on.
SOURCES = (
    "bench/diagnosis/*.py",
    "bench/harness/programs.py",
    "bench/harness/training_steps.py",
    "bench/mutation/*.py",
    "bench/mutation/bugs/*.bugs",
    "bench/parity/*_gate.py",
    "bench/parity/comparison.py",
    "bench/parity/program_runs.py",
    "bench/studies/diagnosis_accuracy.py",
    "bench/studies/diagnosis_labels.py",
    *DIAGNOSING,
    "shared/*.py",
    "torch_impl/*.py",
    "jax_impl/*.py",
)

Trial = tuple[Mutant, str]  # a bug, and the framework in which it is planted


@dataclass(frozen=True, kw_only=True)
class AccuracyOptions:
    """Options of the study."""

    only: tuple[str, ...] = option((), metavar="NAME", help="these bugs, and no two at a time")
    side: str | None = option(
        None, choices=frameworks.NAMES, help="the framework in which they are planted"
    )
    json: Path | None = option(None, metavar="FILE", help="the record to write or to continue")
    most: int | None = option(None, metavar="N", help="stop after N bugs")

    @property
    def samples_pairs(self) -> bool:
        """Whether clean programs and pairs of bugs are diagnosed too."""
        return not self.only and self.side is None


def main(argv: list[str] | None = None) -> int:
    """Plant, diagnose, judge, and write; 0 where every bug of the options has been judged."""
    parser = Parser(prog="python -m bench.studies.diagnosis_accuracy", description=__doc__)
    add_options(parser, AccuracyOptions)
    try:
        options = read_options(AccuracyOptions, parser.parse_args(argv))
        trials = _trials(options)
        report = begun(options.json)
        left = _judge(report, trials, options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{summary(report)}; {left} are left")
    return 0


def _trials(options: AccuracyOptions) -> list[Trial]:
    known = [mutant.name for mutant in MUTANTS]
    for name in options.only:
        if name not in known:
            raise ValueError(f"unknown bug {name!r}: choose from {', '.join(known)}")
    return [
        (mutant, side)
        for mutant in MUTANTS
        for side in mutant.edits
        if (not options.only or mutant.name in options.only) and options.side in (None, side)
    ]


def begun(path: Path | None) -> Report:
    """The report in the file, if it was made of the sources as they are now; else an empty one."""
    new: Report = {"sources": digest(), "clean": [], "bugs": [], "pairs": []}
    if path is None or not path.exists():
        return new
    try:
        report: Report = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no record ({error}): name another file") from None
    if report.get("sources") != new["sources"]:
        return new
    mutant_of = {mutant.name: mutant for mutant in MUTANTS}
    for row in report["bugs"]:
        row["located"], row["named"] = judged(mutant_of[row["name"]], row["side"], row)
    return report


def digest() -> str:
    """A mark of all sources that a finding depends on."""
    files = (path for pattern in SOURCES for path in sorted(records.ROOT.glob(pattern)))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _judge(report: Report, trials: list[Trial], options: AccuracyOptions) -> int:
    """Add the missing rows to ``report``, and write it after each; how many are left to do."""
    both = frameworks.both()
    report["environment"] = machine.environment(both, "cpu")
    jobs = list(_jobs(report, trials, options.samples_pairs))
    now = jobs if options.most is None else jobs[: options.most]
    _write(options.json, report)
    with compile_cache.compiled_once():
        for job in now:
            print(job(both), flush=True)
            _write(options.json, report)
    return len(jobs) - len(now)


def _write(path: Path | None, report: Report) -> None:
    if path is not None:
        records.write_json(path, {**report})


Job = Callable[[Frameworks], str]  # adds one row to the report and returns it as a line


def _jobs(report: Report, trials: list[Trial], samples_pairs: bool) -> Iterator[Job]:
    done = {(row["name"], row["side"]) for row in report["bugs"]}
    if samples_pairs:
        for name in list(_clean())[len(report["clean"]) :]:
            yield partial(_add_clean, report, name)
    for trial in trials:
        if (trial[0].name, trial[1]) not in done:
            yield partial(_add_bug, report, trial)
    if samples_pairs:
        for pair in pairs()[len(report["pairs"]) :]:
            yield partial(_add_pair, report, pair)


def _clean() -> dict[str, Callable[[], Program]]:
    """The programs that bugs are planted in, and those that are compared."""
    compared = {
        f"{name}, as compared": partial(programs.make, name)
        for name in programs.NAMES
        if name != "tensors"
    }
    return {**mutation_programs.PROGRAMS, **compared}


def _add_clean(report: Report, name: str, both: Frameworks) -> str:
    row: CleanRow = {"program": name, "findings": _findings(_clean()[name](), both)}
    report["clean"].append(row)
    return f"{name} without a bug: {len(row['findings'])} findings"


def _findings(program: Program, both: Frameworks) -> list[Diagnosis]:
    from bench.diagnosis import builtin  # with which both frameworks come

    return [_diagnosis(finding) for finding in builtin.find(program, both)]


def _diagnosis(finding: Finding) -> Diagnosis:
    return {
        "stage": finding.stage,
        "where": finding.where,
        "cause": finding.cause,
        "evidence": finding.evidence,
        "torch_cause": finding.reason.torch if finding.reason else None,
        "jax_cause": finding.reason.jax if finding.reason else None,
        "dtype": finding.dtype,
        "mode": finding.mode,
    }


def _planted(trials: tuple[Trial, ...], both: Frameworks) -> Diagnosis:
    """The first finding with these bugs planted, or what was raised."""
    with ExitStack() as stack:
        for mutant, side in trials:
            stack.enter_context(mutants.planted(mutant, side))
        try:
            findings = _findings(mutation_programs.PROGRAMS[trials[0][0].program](), both)
        except ValueError as error:
            return _nothing(f"refused: {error}")
    return findings[0] if findings else _nothing("nothing found")


def _nothing(why: str) -> Diagnosis:
    return {
        "stage": None,
        "where": None,
        "cause": None,
        "evidence": why,
        "torch_cause": None,
        "jax_cause": None,
        "dtype": None,
        "mode": None,
    }


def _add_bug(report: Report, trial: Trial, both: Frameworks) -> str:
    mutant, side = trial
    first = _planted((trial,), both)
    located, named = judged(mutant, side, first)
    row: BugRow = {
        "name": mutant.name,
        "side": side,
        "about": mutant.about,
        "program": mutant.program,
        "located": located,
        "named": named,
        **first,
    }
    report["bugs"].append(row)
    verdicts = {"located": located, "named": named}
    return _line(f"{mutant.name} in {side}", verdicts, first)


def judged(mutant: Mutant, side: str, row: Diagnosis) -> tuple[bool, bool]:
    """Whether the bug was located, and whether it was named."""
    half = row.get("torch_cause") if side == "torch" else row.get("jax_cause")
    return (
        diagnosis_labels.is_located(mutant, side, row["where"]),
        diagnosis_labels.is_named(mutant, row["cause"], half),
    )


def pairs() -> list[tuple[Trial, Trial]]:
    """Two bugs of one program, in different files or frameworks, drawn at random."""
    drawn = random.Random(SEED)
    sample: list[tuple[Trial, Trial]] = []
    trials = _trials(AccuracyOptions())
    while len(sample) < PAIRS:
        first, second = drawn.sample(trials, 2)
        same_text = (first[0].file, first[1]) == (second[0].file, second[1])
        if first[0].program == second[0].program and not same_text:
            sample.append((first, second))
    return sample


def _add_pair(report: Report, pair: tuple[Trial, Trial], both: Frameworks) -> str:
    """Judge whether the first finding of two bugs is the first that either has alone."""
    alone = {(row["name"], row["side"]): row for row in report["bugs"]}
    rows = [alone[mutant.name, side] for mutant, side in pair]
    ranks = [_rank(row) for row in rows]
    first = [row for row, rank in zip(rows, ranks, strict=True) if rank == min(ranks)]
    diagnosis = _planted(pair, both)
    places = [(row["stage"], row["where"]) for row in first]
    row: PairRow = {
        "bugs": [f"{row['name']} in {row['side']}" for row in rows],
        "expected": [f"{stage} of {where}" for stage, where in places],
        "located": (diagnosis["stage"], diagnosis["where"]) in places,
        **diagnosis,
    }
    report["pairs"].append(row)
    return _line(" and ".join(row["bugs"]), {"located": row["located"]}, diagnosis)


def _rank(row: BugRow) -> tuple[bool, int]:
    """The order in which diagnosis comes to a bug: in float64 before float32, stage by stage."""
    stage, mode = row["stage"], row["mode"]
    if stage is None or mode is None:
        return True, len(ORDER)
    return row["dtype"] == "float32", ORDER.index((stage, mode))


def summary(report: Report) -> str:
    """The report in one line."""
    bugs, pairs, clean = report["bugs"], report["pairs"], report["clean"]
    located, named = sum(row["located"] for row in bugs), sum(row["named"] for row in bugs)
    return (
        f"of {len(bugs)} bugs {located} located, {named} named; of {len(pairs)} pairs "
        f"{sum(row['located'] for row in pairs)} located; of {len(clean)} programs without a bug "
        f"{sum(bool(row['findings']) for row in clean)} with a finding"
    )


def _line(name: str, verdicts: Mapping[str, bool], row: Diagnosis) -> str:
    shown = ", ".join(key if right else f"not {key}" for key, right in verdicts.items())
    where = f"{row['stage']} of {row['where']}: {row['cause']}" if row["stage"] else row["evidence"]
    return f"{name}: {shown}: {where}"


if __name__ == "__main__":
    sys.exit(exit_status(main))
