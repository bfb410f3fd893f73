"""Every figure and listing in README and docs, regenerated from records and sources.

``python -m bench.render`` rewrites what stands between the markers; ``--check`` only compares and
exits with 1 where something differs.
"""

import argparse
import io
import re
import sys
from collections.abc import Callable

from rich.console import Console

from bench.harness.machine import measured_on
from bench.harness.records import ROOT, load, showing
from bench.mutation import results as mutation_results
from bench.parity.tables import comparison
from bench.planning.tables import planned, spent
from bench.reporting.figures import PICTURES, digest, draw
from bench.reporting.source_diff import twins
from bench.speed.markdown import ceilings, growth, ladder, repeated, speed
from bench.studies.decoding import decoding
from bench.studies.diagnosis_accuracy import diagnoses, diagnosis, undiagnosed
from bench.studies.distributed import layouts
from bench.studies.framework_defaults import defaults
from bench.studies.numerical_traps import findings
from bench.studies.scan_or_unroll import compile_times
from bench.studies.training_runs import markov, training

PAGES = (
    "README.md",
    "docs/equality.md",
    "docs/decisions.md",
    "docs/training.md",
    "docs/benchmark.md",
    "docs/defaults.md",
    "docs/plan.md",
    "docs/distributed.md",
    "docs/porting.md",
    "docs/diagnoses.md",
    "docs/security.md",
)
_BLOCK = re.compile(r"(<!-- from (?P<name>[\w.:-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(argv: list[str] | None = None) -> int:
    """Rewrite or check the pages and the picture; 1 where ``--check`` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m bench.render", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and change nothing")
    check = parser.parse_args(argv).check
    stale = []
    for page in PAGES:
        path = ROOT / page
        text = path.read_text()
        fresh = fill(text)
        if fresh != text:
            stale.append(page)
            if not check:
                path.write_text(fresh)
    for name in PICTURES:
        path = ROOT / "docs" / f"{name}.svg"
        if not check:
            draw(name, path)
        elif not path.exists() or digest(name) not in path.read_text():
            stale.append(str(path.relative_to(ROOT)))
    if check and stale:
        print(
            f"stale: {', '.join(stale)} differ from the records; run python -m bench.render",
            file=sys.stderr,
        )
        return 1
    return 0


def fill(text: str) -> str:
    """A page with all that stands between its markers made anew; raises ``ValueError``."""
    return _BLOCK.sub(_filled, text)


def _filled(match: re.Match[str]) -> str:
    name, _, argument = match["name"].partition(":")
    with showing(argument):
        return f"{match[1]}{BLOCKS[name](argument)}\n{match[3]}"


def example(argument: str) -> str:
    """What ``twingrad plan --preset PRESET --devices 64`` prints."""
    from bench.planning import command
    from bench.planning.formulas import Plan
    from bench.training import config

    run = config.resolve({"preset": argument, "batch_size": 8 * 64})
    step = Plan(model=run.model, train=run.train, length=run.length, data_parallel=64)
    text = io.StringIO()
    console = Console(file=text, width=116, highlight=False, color_system=None)
    command.run(command.Asked(step=step, preset=argument, devices=64), console)
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return "```\n" + "\n".join(lines).strip("\n") + "\n```"


def fuzzing(argument: str) -> str:
    """How many bad files each reader was given, and what became of them."""
    report = load(argument)
    lines = ["| reader | given | refused | read, or passed over |", "|---|---|---|---|"]
    for name, count in report["readers"].items():
        refused, read = count.get("refused", 0), count.get("read", 0)
        lines.append(f"| {name} | {refused + read:,} | {refused:,} | {read:,} |")
    total = sum(sum(count.values()) for count in report["readers"].values())
    lines += [
        "",
        f"{total:,} in all, in {report['seconds']:.0f} s. Besides, {report['configurations']:,} "
        "random configurations of GPT-2 passed the float64 gate of `compare`.",
    ]
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[str], str]] = {
    "compare": comparison,
    "machine": measured_on,
    "mutants": mutation_results.markdown,
    "twins": twins,
    "compile": compile_times,
    "findings": findings,
    "learning": training,
    "markov": markov,
    "decoding": decoding,
    "speed": speed,
    "ceilings": ceilings,
    "ladder": ladder,
    "growth": growth,
    "repeated": repeated,
    "defaults": defaults,
    "plan": planned,
    "spent": spent,
    "example": example,
    "diagnosis": diagnosis,
    "undiagnosed": undiagnosed,
    "diagnoses": diagnoses,
    "layouts": layouts,
    "fuzz": fuzzing,
}


if __name__ == "__main__":
    sys.exit(main())
