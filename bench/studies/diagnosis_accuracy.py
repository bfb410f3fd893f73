"""Whether diagnosis is right: bugs are planted, and what it says of each is held against the bug.

``python -m bench.located --json bench/results/diagnosis-cpu.json`` plants every bug of ``bugs.py``
on every side, alone, then a sample of them two at a time. A file that is there already is gone on
with, as long as no source has changed since; ``--most N`` stops after N of them.
"""

import argparse
import hashlib
import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bench.harness import frameworks, machine, programs, records, terminal
from bench.harness.frameworks import Frameworks
from bench.harness.programs import Program
from bench.harness.records import load
from bench.mutation import compile_cache, mutants
from bench.mutation import programs as mutation_programs
from bench.mutation.mutants import MUTANTS, Mutant
from bench.studies import diagnosis_labels


def diagnosed(report: dict[str, Any]) -> list[tuple[str, int, int]]:
    """What was asked of diagnosis, how often it was right, and of how many."""
    bugs, pairs, clean = report["bugs"], report["pairs"], report["clean"]
    return [
        ("bugs planted alone, located", sum(row["located"] for row in bugs), len(bugs)),
        ("bugs planted alone, named", sum(row["named"] for row in bugs), len(bugs)),
        ("pairs of bugs, the first of them located", sum(r["located"] for r in pairs), len(pairs)),
        ("programs without a bug, nothing found",
         sum(not row["findings"] for row in clean), len(clean)),
    ]  # fmt: skip


def diagnosis(argument: str) -> str:
    """How often diagnosis was right."""
    lines = ["| | right | of | |", "|---|---|---|---|"]
    for what, right, of in diagnosed(load(argument)):
        lines.append(f"| {what} | {right} | {of} | {right / of:.1%} |")
    return "\n".join(lines)


def undiagnosed(argument: str) -> str:
    """What diagnosis did not locate or not name, of bugs alone and of pairs."""
    report = load(argument)
    wrong = [row for row in report["bugs"] if not (row["located"] and row["named"])]
    lines = ["| planted bug | in | located | named | what was said |", "|---|---|---|---|---|"]
    for row in wrong:
        marks = ["yes" if row[key] else "**no**" for key in ("located", "named")]
        cells = [row["about"], terminal.NAMES[row["side"]], *marks, told(row)]
        lines.append(_row(cells))
    pairs = [row for row in report["pairs"] if not row["located"]]
    if pairs:
        lines += ["", "| pair of bugs | expected first | what was said |", "|---|---|---|"]
    for row in pairs:
        lines.append(_row([" and ".join(row["bugs"]), " or ".join(row["expected"]), told(row)]))
    return "\n".join(lines) if wrong or pairs else "Every bug was located and named."


def diagnoses(argument: str) -> str:
    """What diagnosis said of every planted bug."""
    lines = ["| planted bug | in | what was said |", "|---|---|---|"]
    for row in load(argument)["bugs"]:
        lines.append(_row([row["about"], terminal.NAMES[row["side"]], told(row)]))
    return "\n".join(lines)


def told(row: dict[str, Any]) -> str:
    """A finding in one line."""
    if row["stage"] is None:
        return row["evidence"]
    return f"{row['stage']} of `{row['where']}`: {row['cause'] or 'no known cause'}"


def _row(cells: list[str]) -> str:
    safe = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(safe)} |"


PAIRS = 40
SEED = 0
# What diagnosis looks at, in this order.
ORDER = (
    "forward",
    "backward",
    "forward in training mode",
    "backward in training mode",
    "update",
    "trajectory",
)
# What a finding depends on.
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
    "twingrad/**/*.py",
    "shared/*.py",
    "torch_impl/*.py",
    "jax_impl/*.py",
)

Trial = tuple[Mutant, str]
Row = dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """Plant, diagnose, judge, and write; 0 where all that was asked for has been judged."""
    parser = argparse.ArgumentParser(prog="python -m bench.located", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these bugs, and no two at a time"
    )
    parser.add_argument(
        "--side", choices=frameworks.NAMES, help="the side on which they are planted"
    )
    parser.add_argument("--json", type=Path, help="the record to write, or to go on with")
    parser.add_argument("--most", type=int, metavar="N", help="stop after N bugs")
    asked = parser.parse_args(argv)
    try:
        trials = _trials(asked.only, asked.side)
        found = begun(asked.json)
        left = _judge(found, trials, asked)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{summary(found)}; {left} are left")
    return 0


def _trials(only: list[str] | None, side: str | None) -> list[Trial]:
    known = [mutant.name for mutant in MUTANTS]
    for name in only or ():
        if name not in known:
            raise ValueError(f"unknown bug {name!r}: choose from {', '.join(known)}")
    return [
        (mutant, own)
        for mutant in MUTANTS
        for own in mutant.edits
        if (only is None or mutant.name in only) and side in (None, own)
    ]


def begun(path: Path | None) -> dict[str, Any]:
    """What stands in the file, if it was made of the sources as they are now; else an empty one."""
    new = {"sources": digest(), "clean": [], "bugs": [], "pairs": []}
    if path is None or not path.exists():
        return new
    try:
        found = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no record ({error}): name another file") from None
    if found.get("sources") != new["sources"]:
        return new
    mutant_of = {mutant.name: mutant for mutant in MUTANTS}
    found["bugs"] = [
        row | _judged(mutant_of[row["name"]], row["side"], row) for row in found["bugs"]
    ]
    return found


def digest() -> str:
    """A mark of all that what is found depends on."""
    files = (path for pattern in SOURCES for path in sorted(records.ROOT.glob(pattern)))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _judge(found: dict[str, Any], trials: list[Trial], asked: argparse.Namespace) -> int:
    """Add to ``found`` what it lacks, and write it after each; how many are left to do."""
    both = frameworks.both()
    found["environment"] = machine.environment(both, "cpu")
    jobs = list(_jobs(found, trials, twice=asked.only is None and asked.side is None))
    some = jobs if asked.most is None else jobs[: asked.most]
    _write(asked.json, found)
    with compile_cache.compiled_once():
        for kind, run in some:
            found[kind].append(run(both))
            print(_line(found[kind][-1]), flush=True)
            _write(asked.json, found)
    return len(jobs) - len(some)


def _write(path: Path | None, found: dict[str, Any]) -> None:
    if path is not None:
        records.write_json(path, found)


def _jobs(
    found: dict[str, Any], trials: list[Trial], twice: bool
) -> Iterator[tuple[str, Callable[[Frameworks], Row]]]:
    done = {(row["name"], row["side"]) for row in found["bugs"]}
    if twice:
        for name in list(_clean())[len(found["clean"]) :]:
            yield "clean", partial(_of_clean, name)
    for trial in trials:
        if (trial[0].name, trial[1]) not in done:
            yield "bugs", partial(_of_bug, trial)
    if twice:
        for pair in pairs()[len(found["pairs"]) :]:
            yield "pairs", partial(_of_pair, pair, found["bugs"])


def _clean() -> dict[str, Callable[[], Program]]:
    """The programs that bugs are planted in, and those that are compared."""
    compared = {
        f"{name}, as compared": partial(programs.make, name)
        for name in programs.NAMES
        if name != "tensors"
    }
    return {**mutation_programs.PROGRAMS, **compared}


def _of_clean(name: str, both: Frameworks) -> Row:
    return {"program": name, "findings": _findings(_clean()[name](), both)}


def _findings(program: Program, both: Frameworks) -> list[Row]:
    from bench.diagnosis import builtin  # with which both frameworks come

    return [dict(vars(finding)) for finding in builtin.find(program, both)]


def _planted(trials: tuple[Trial, ...], both: Frameworks) -> Row:
    """The first finding with these bugs planted, or what was raised."""
    with ExitStack() as stack:
        for mutant, side in trials:
            stack.enter_context(mutants.planted(mutant, side))
        try:
            found = _findings(mutation_programs.PROGRAMS[trials[0][0].program](), both)
        except ValueError as error:
            return _nothing(f"refused: {error}")
    return found[0] if found else _nothing("nothing found")


def _nothing(why: str) -> Row:
    return {"stage": None, "where": None, "cause": None, "evidence": why}


def _of_bug(trial: Trial, both: Frameworks) -> Row:
    mutant, side = trial
    told = _planted((trial,), both)
    return {
        "name": mutant.name,
        "side": side,
        "about": mutant.about,
        "program": mutant.program,
        **_judged(mutant, side, told),
        **told,
    }


def _judged(mutant: Mutant, side: str, told: Row) -> Row:
    return {
        "located": diagnosis_labels.is_located(mutant, side, told["where"]),
        "named": diagnosis_labels.is_named(mutant, side, told["cause"]),
    }


def pairs() -> list[tuple[Trial, Trial]]:
    """Two bugs of one program, in different files or on different sides, drawn at random."""
    drawn = random.Random(SEED)
    found: list[tuple[Trial, Trial]] = []
    trials = _trials(None, None)
    while len(found) < PAIRS:
        first, second = drawn.sample(trials, 2)
        same_text = (first[0].file, first[1]) == (second[0].file, second[1])
        if first[0].program == second[0].program and not same_text:
            found.append((first, second))
    return found


def _of_pair(pair: tuple[Trial, Trial], alone: list[Row], both: Frameworks) -> Row:
    """Whether what is found of two bugs is what is found first of either alone."""
    rows = [
        next(r for r in alone if (r["name"], r["side"]) == (mutant.name, side))
        for mutant, side in pair
    ]
    ranks = [_rank(row) for row in rows]
    first = [row for row, rank in zip(rows, ranks, strict=True) if rank == min(ranks)]
    told = _planted(pair, both)
    places = [(row["stage"], row["where"]) for row in first]
    return {
        "bugs": [f"{row['name']} in {row['side']}" for row in rows],
        "expected": [f"{stage} of {where}" for stage, where in places],
        "located": (told["stage"], told["where"]) in places,
        **told,
    }


def _rank(row: Row) -> tuple[bool, int]:
    """When diagnosis comes to what a bug alone shows: in float64 before float32, stage by stage."""
    if row["stage"] is None:
        return True, len(ORDER)
    mode = " in training mode" if "in training mode" in row["evidence"] else ""
    return "float32" in row["evidence"], ORDER.index(row["stage"] + mode)


def summary(found: dict[str, Any]) -> str:
    """The sum of it in one line."""
    bugs, pairs, clean = found["bugs"], found["pairs"], found["clean"]
    located, named = (sum(row[key] for row in bugs) for key in ("located", "named"))
    return (
        f"of {len(bugs)} bugs {located} located, {named} named; of {len(pairs)} pairs "
        f"{sum(row['located'] for row in pairs)} located; of {len(clean)} programs without a bug "
        f"{sum(bool(row['findings']) for row in clean)} with a finding"
    )


def _line(row: Row) -> str:
    if "findings" in row:
        return f"{row['program']} without a bug: {len(row['findings'])} findings"
    name = f"{row['name']} in {row['side']}" if "name" in row else " and ".join(row["bugs"])
    verdicts = [key if row[key] else f"not {key}" for key in ("located", "named") if key in row]
    told = f"{row['stage']} of {row['where']}: {row['cause']}" if row["stage"] else row["evidence"]
    return f"{name}: {', '.join(verdicts)}: {told}"


if __name__ == "__main__":
    sys.exit(main())
