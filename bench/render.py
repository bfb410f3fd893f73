"""Every figure and listing in README and docs, regenerated from records and sources.

``python -m bench.render`` rewrites what stands between the markers; ``--check`` only compares and
exits with 1 where something differs.
"""

import argparse
import ast
import hashlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from rich.console import Console
from rich.errors import ConsoleError

from bench import curves, learning, record, show, sides, speed_record, standing
from bench.record import ROOT
from shared import files
from shared.numerics import FLOAT64_RELATIVE, UNIT_ROUNDOFF

RESULTS = ROOT / "bench" / "results"
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
# Each picture, and the records that it is drawn from.
PICTURES = {
    "equality": ("compare-cpu", "mutants-cpu"),
    "training": ("training-cpu",),
    "ladder": ("speed-ladder-cpu",),
    "growth": ("speed-growth-cpu",),
}
# What a record of another form leads to, where it is shown.
_UNEXPECTED: tuple[type[Exception], ...] = (
    *(ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError),
    *(ConsoleError, TemplateError),
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


def load(name: str) -> dict[str, Any]:
    """The committed record ``name``; ``ValueError`` if it is no JSON object."""
    return files.read_object(RESULTS / f"{name}.json", "make it anew")


@contextmanager
def showing(name: str) -> Iterator[None]:
    """Within, what the record ``name`` lacks or has otherwise is said: raises ``ValueError``."""
    try:
        yield
    except _UNEXPECTED as error:
        said = f"{type(error).__name__}: {error}"[:200]
        raise ValueError(f"{name} is not what its command writes ({said}): make it anew") from error


def digest(picture: str) -> str:
    """A mark of the records that ``picture`` was drawn from."""
    content = b"".join((RESULTS / f"{name}.json").read_bytes() for name in PICTURES[picture])
    return hashlib.sha256(content).hexdigest()[:16]


def comparison(argument: str) -> str:
    """The verdict tables of a comparison, as the terminal shows them."""
    report = load(argument)
    text = io.StringIO()
    console = Console(file=text, width=116, highlight=False, color_system=None)
    found = record.outcomes(report)
    for program in report["programs"]:
        if "neuron" in program.get("lessons", {}):
            show.neuron(console, program["lessons"]["neuron"])
    titles = dict.fromkeys((outcome.program, outcome.preset) for outcome in found)
    for program, preset in titles:
        same = [o for o in found if (o.program, o.preset) == (program, preset)]
        show.outcomes(console, f"{program} {preset}" if preset else program, same)
    show.closing(console, found, report["seconds"])
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return "```\n" + "\n".join(lines).strip("\n") + "\n```"


def machine(argument: str) -> str:
    """One sentence on where a record was measured."""
    environment = load(argument)["environment"]
    hardware, versions = environment["hardware"], environment["versions"]
    named = ", ".join(
        f"{name} {versions[key]}"
        for name, key in (
            ("Python", "python"),
            ("PyTorch", "torch"),
            ("JAX", "jax"),
            ("Flax", "flax"),
            ("NumPy", "numpy"),
        )
        if key in versions
    )
    memory = hardware["memory_bytes"] / 2**30
    return (
        f"Measured on {hardware['processor']}, {hardware['cores']} cores, {memory:.0f} GiB, "
        f"device {environment['device']}; {named}; record `bench/results/{argument}.json`."
    )


def mutants(argument: str) -> str:
    """The table of planted bugs: which gate caught each, and by what factor."""
    report = load(argument)
    by_name: dict[str, dict[str, Any]] = {}
    for row in report["mutants"]:
        by_name.setdefault(row["name"], {})[row["side"]] = row
    lines = ["| planted bug | in PyTorch | in JAX |", "|---|---|---|"]
    for row_of in by_name.values():
        about = next(iter(row_of.values()))["about"]
        cells = [_caught(row_of.get(side)) for side in ("torch", "jax")]
        lines.append(f"| {about} | {cells[0]} | {cells[1]} |")
    caught = sum(row["caught"] for row in report["mutants"])
    trips = "nothing trips" if report["clean_ok"] else "a gate trips"
    lines += ["", f"{caught} of {len(report['mutants'])} caught; {trips} where there is none."]
    return "\n".join(lines)


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
        cells = [row["about"], show.NAMES[row["side"]], *marks, told(row)]
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
        lines.append(_row([row["about"], show.NAMES[row["side"]], told(row)]))
    return "\n".join(lines)


def told(row: dict[str, Any]) -> str:
    """A finding in one line."""
    if row["stage"] is None:
        return row["evidence"]
    return f"{row['stage']} of `{row['where']}`: {row['cause'] or 'no known cause'}"


def _row(cells: list[str]) -> str:
    safe = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(safe)} |"


def _caught(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    if not row["caught"]:
        return "**not caught**"
    factor = "" if row["factor"] is None else f", {_times(row['factor'])}"
    return f"{row['gate']}{factor}"


def _times(factor: float) -> str:
    if factor >= 1e299:
        return "not a number"
    return f"{factor:,.0f}×" if 10 <= factor < 1e6 else f"{factor:.2g}×"


def twins(argument: str) -> str:
    """One definition of a twin file, both sides next to each other."""
    file, _, name = argument.partition("::")
    cells = []
    for side in ("torch_impl", "jax_impl"):
        source = (ROOT / side / file).read_text()
        node = next(n for n in ast.parse(source).body if getattr(n, "name", "") == name)
        code = ast.get_source_segment(source, node)
        cells.append(f"<td>\n\n```python\n# {side}/{file}\n{code}\n```\n\n</td>")
    head = "<tr><th>PyTorch</th><th>JAX with Flax NNX</th></tr>"
    return f"<table>\n{head}\n<tr>\n" + "\n".join(cells) + "\n</tr>\n</table>"


def compile_times(argument: str) -> str:
    """Trace, compile and run times of unrolled layers against a scan over layers."""
    report = load(argument)
    lines = [
        "| layers | trace and lower | compile | loss and gradients |",
        "|---|---|---|---|",
    ]
    for row in report["rows"]:
        lines.append(
            f"| {row['layers']} | {row['trace_s']:.2f} s | {row['compile_s']:.2f} s "
            f"| {row['step_s']:.3f} s |"
        )
    return "\n".join(lines)


def findings(argument: str) -> str:
    """What each trap does to a result, measured."""
    lines = ["| default | what it does | measured |", "|---|---|---|"]
    for row in load(argument)["rows"]:
        lines.append(f"| {row['default']} | {row['effect']} | {row['measured']} |")
    return "\n".join(lines)


def training(argument: str) -> str:
    """What the default training run came to, in both frameworks."""
    run = load(argument)["runs"]["default"]
    corpus, settings = run["corpus"], run["settings"]
    optimizer = settings["train"]["optimizer"]
    lines = [
        f"The default: {optimizer['total_steps']:,} steps of {settings['train']['batch_size']} x "
        f"{settings['length']} tokens in {settings['train']['dtype']}, dropout "
        f"{settings['model']['drop_rate']}, on {corpus['name']} ({corpus['files']:,} files, "
        f"{corpus['bytes'] / 1e6:.1f} MB, of which 5 % validate). Both frameworks together took "
        f"{run['seconds']:.0f} s. Predicting by frequency alone has {corpus['unigram_nats']:.3f} "
        "nats per token.",
        "",
        "| | validation loss, nats per token | tokens/s, median |",
        "|---|---|---|",
    ]
    for name, figures in run["frameworks"].items():
        loss = figures["validation"][-1][1]
        lines.append(f"| {show.NAMES[name]} | {loss:.4f} | {figures['tokens_per_s']:,.0f} |")
    lines += [
        "",
        f"At no step are the two losses further apart than {run['apart']:.1e}, relatively.",
    ]
    return "\n".join(lines)


def markov(argument: str) -> str:
    """How near both frameworks came to the entropy rate of a known source."""
    run = load(argument)["runs"]["markov"]
    rate = run["corpus"]["entropy_rate"]
    lines = [
        f"Entropy rate {rate:.4f} nats per token; after "
        f"{run['settings']['train']['optimizer']['total_steps']:,} steps of the tiny GPT-2:",
        "",
        "| | validation loss | over the entropy rate |",
        "|---|---|---|",
    ]
    for name, figures in run["frameworks"].items():
        loss = figures["validation"][-1][1]
        lines.append(f"| {show.NAMES[name]} | {loss:.4f} | {loss / rate - 1:.2%} |")
    return "\n".join(lines)


def decoding(argument: str) -> str:
    """Time a token at the first and the last position, cached, and what attention must cost."""
    lines = [
        "| model | | first position | last position | growth | growth of the bytes to read "
        "| last position without a cache |",
        "|---|---|---|---|---|---|---|",
    ]
    for model in load(argument)["models"]:
        for name in sides.NAMES:
            own = [point for point in model["points"] if point["framework"] == name]
            cached = [point for point in own if point["way"] == "cached"]
            whole = [point for point in own if point["way"] == "uncached"]
            fit = {fit["framework"]: fit for fit in model["fits"]}[name]
            first, last = (1e3 * points["median_s"] for points in (cached[0], cached[-1]))
            lines.append(
                f"| {model['model']} | {show.NAMES[name]} | {first:.2f} ms | {last:.2f} ms | "
                f"{fit['growth']:.2f}× | {model['needed']['growth_by_bytes']:.2f}× | "
                f"{1e3 * whole[-1]['median_s']:.1f} ms |"
            )
    return "\n".join(lines)


def speed(argument: str) -> str:
    """Results of one workload of a record, ``RECORD::train``, and ratios to the first."""
    name, _, workload = argument.partition("::")
    found = load(name)
    blocks = []
    for rows in standing.groups(found):
        head = [*standing.HEAD, "parity, worst of its limit"]
        if rows[0]["workload"] != workload:
            continue
        first = next((row for row in rows if row["status"] == "timed"), None)
        head[head.index("ratio")] = f"ratio to {first['contestant']}" if first else "ratio"
        cells = [standing.cells(row, first, found["ratios"]) for row in rows]
        kept = [i for i in range(len(head)) if any(row[i] for row in cells)]
        lines = [f"**{standing.title(rows[0])}**", ""]
        lines.append("| " + " | ".join(head[i] for i in kept) + " |")
        lines.append("|" + "---|" * len(kept))
        lines += ["| " + " | ".join(row[i] for i in kept) + " |" for row in cells]
        blocks.append("\n".join(lines))
    own = [row for row in found["results"] if row["workload"] == workload]
    notes = [f"In brackets: {speed_record.intervals(found, own)}."]
    if any(not row.get("clean", True) for row in own):
        notes.append("\\* samples that other processes disturbed are in it.")
    blocks.append(" ".join(notes))
    return "\n\n".join(blocks)


def ceilings(argument: str) -> str:
    """Rates of matrix products and of a copy, alone."""
    found = load(argument)["ceilings"]
    names = [row["name"] for row in found[0]["products"]]
    lines = ["| GFLOP/s | " + " | ".join(names) + " | copy, GB/s |"]
    lines.append("|" + "---|" * (len(names) + 2))
    for one in found:
        label = show.NAMES[one["framework"]]
        if one["framework"] == "torch":
            label += ", tuned" if one["fast"] else ", default"
        rates = [f"{row['flops_per_s'] / 1e9:.0f}" for row in one["products"]]
        lines.append(f"| {label} | {' | '.join(rates)} | {one['copy_bytes_per_s'] / 1e9:.1f} |")
    return "\n".join(lines)


def ladder(argument: str) -> str:
    """What each setting adds, framework by framework."""
    lines = ["| rung | step | quartiles | GiB | first step |", "|---|---|---|---|---|"]
    for row in rungs(load(argument)):
        low, high = (standing.seconds(row[f"quartile_{end}_s"]) for end in ("low", "high"))
        lines.append(
            f"| {show.NAMES[row['framework']]}: {row['about']['about']} | "
            f"{standing.seconds(row['median_s'])} | {low}–{high} | "
            f"{row['peak_bytes'] / 2**30:.2f} | {standing.seconds(row['first_s'])} |"
        )
    return "\n".join(lines)


def rungs(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Every rung that was timed; of one that ran beside each half of the others, the first time."""
    rows: dict[str, dict[str, Any]] = {}
    for row in found["results"]:
        if row["tier"] == "ladder" and row["status"] == "timed":
            rows.setdefault(row["contestant"], row)
    return list(rows.values())


def growth(argument: str) -> str:
    """Exponents of a step's time."""
    lines = ["| | size | from | to | exponent | R² |", "|---|---|---|---|---|---|"]
    for one in load(argument)["growth"]:
        ends = [f"{one['sizes'][i]}: {standing.seconds(one['median_s'][i])}" for i in (0, -1)]
        lines.append(
            f"| {one['contestant']} | {one['axis'].replace('_', ' ')} | {' | '.join(ends)} | "
            f"{one['exponent']:.2f} | {one['r_squared']:.3f} |"
        )
    return "\n".join(lines)


def repeated(argument: str) -> str:
    """Ratios to the first contestant in two calls, ``RECORD::RECORD``, and how many agree."""
    first, _, second = argument.partition("::")
    found = speed_record.repeated(load(first), load(second))
    lines = ["| | first call | second call | in each other's interval |", "|---|---|---|---|"]
    for one, other, covered in found:
        if (one["numerator"], one["workload"]) != (found[0][0]["numerator"], "train"):
            continue
        cells = (f"{r['ratio']:.2f} ({r['low']:.2f}–{r['high']:.2f})" for r in (one, other))
        names = f"{one['numerator']} / {one['denominator']}"
        lines.append(f"| {names} | {' | '.join(cells)} | {'yes' if covered else '**no**'} |")
    held = sum(covered for *_, covered in found)
    lines += ["", f"Of the {len(found)} ratios of any two contestants, {held} agree."]
    return "\n".join(lines)


def defaults(argument: str) -> str:
    """What either framework does unless told, and what that costs."""
    lines = ["| | PyTorch | JAX | effect | | so that they agree |", "|---|---|---|---|---|---|"]
    for row in load(argument)["rows"]:
        cells = (row["topic"], row["torch"], row["jax"], row["effect"], f"{row['size']:.2g}")
        advice = row["how"].replace("|", "\\|")
        lines.append(f"| {' | '.join(cells)} | {advice} |")
    return "\n".join(lines)


def planned(argument: str) -> str:
    """Plans next to what runs of the same sizes took."""
    found = load(argument)
    lines = [
        "| a step of | | peak, planned | measured | | time, planned | measured | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in (*found["sizes"], *found["layouts"]):
        name = f"{size['preset']}, B {size['batch_size']}, T {size['length']}"
        if "sharded" in size:
            name += f"; {size['data_parallel']} x {size['sharded']} processes"
        for row in size["rows"]:
            plan, measured, errors = row["planned"], row["measured"], row["errors"]
            lines.append(
                f"| {name} | {show.NAMES[row['framework']]} | {_gib(plan)} | {_gib(measured)} "
                f"| {errors['peak']:+.0%} | {standing.seconds(plan['step_s'])} "
                f"| {standing.seconds(measured['step_s'])} | {errors['step']:+.0%} |"
            )
    floors = " and ".join(
        f"{show.NAMES[name]}'s {size / 2**30:.2f} GiB" for name, size in found["floors"].items()
    )
    links = [row["link_bytes_per_s"] / 1e9 for size in found["layouts"] for row in size["rows"]]
    return "\n".join(lines) + (
        f"\n\nOf one process's peaks, {floors} are its own. Several sent {min(links):.2g} to "
        f"{max(links):.2g} GB/s each while all did nothing else."
    )


def _gib(row: dict[str, Any]) -> str:
    return f"{row['peak_bytes'] / 2**30:.2f} GiB"


def spent(argument: str) -> str:
    """What the planned memory and time of one size is made of, ``RECORD::PRESET``."""
    name, _, preset = argument.partition("::")
    size = next(size for size in load(name)["sizes"] if size["preset"] == preset)
    columns: dict[str, dict[str, str]] = {}
    for row in size["rows"]:
        memory = row["planned"]["memory"]
        held = memory["state"] | {"kept for the backward pass": memory["kept"]}
        held |= {"at work": memory["working"]} | memory["lost"]
        columns[row["framework"]] = {k: f"{v / 2**20:,.0f} MiB" for k, v in held.items()}
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    for row in size["rows"]:
        spent = row["planned"]["seconds"]
        columns[row["framework"]] |= {k: standing.seconds(v) for k, v in spent.items()}
        keys += [key for key in spent if key not in keys]
    lines = ["| | " + " | ".join(show.NAMES[name] for name in columns) + " |"]
    lines.append("|---|" + "---|" * len(columns))
    for key in keys:
        lines.append(f"| {key} | {' | '.join(c.get(key, '') for c in columns.values())} |")
    return "\n".join(lines)


def example(argument: str) -> str:
    """What ``twingrad plan --preset PRESET --devices 64`` prints."""
    from bench import planning, runs
    from bench.plan import Plan

    run = runs.resolve({"preset": argument, "batch_size": 8 * 64})
    step = Plan(model=run.model, train=run.train, length=run.length, data_parallel=64)
    text = io.StringIO()
    console = Console(file=text, width=116, highlight=False, color_system=None)
    planning.run(planning.Asked(step=step, preset=argument, devices=64), console)
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return "```\n" + "\n".join(lines).strip("\n") + "\n```"


def layouts(argument: str) -> str:
    """Runs of several processes against the run of one, in either framework."""
    found = load(argument)
    kinds = list(found["limits"])
    lines = [
        f"| layout | | loss | gradients | {found['steps']} steps | parameters and moments |",
        "|---|---|---|---|---|---|",
    ]
    own = [row for row in found["rows"] if row["framework"] == row["reference"]]
    for row in sorted(own, key=lambda row: (len(row["layout"]), row["layout"])):
        layout = row["layout"].replace("+", ", then ")
        cells = " | ".join(f"{row[kind]:.1e}" for kind in kinds)
        lines.append(f"| {layout} | {show.NAMES[row['framework']]} | {cells} |")
    across = [row for row in found["rows"] if row["framework"] != row["reference"]]
    worst = " | ".join(f"{max(row[kind] for row in across):.1e}" for kind in kinds)
    limits = " | ".join(f"{found['limits'][kind]:.0e}" for kind in kinds)
    lines += [f"| any | against the other framework | {worst} |", f"| | limit | {limits} |"]
    return "\n".join(lines)


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
    "machine": machine,
    "mutants": mutants,
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


def draw(name: str, path: Path) -> None:
    """The picture called ``name``, marked with the records that it was drawn from."""
    import matplotlib

    matplotlib.use("svg")
    style: Any = {"svg.hashsalt": "twingrad", "font.family": "sans-serif", "font.size": 10}
    with matplotlib.rc_context(style):
        drawn = {"equality": _equality, "training": _training, "ladder": _ladder, "growth": _growth}
        figure = drawn[name]()
        metadata = {"Date": None, "Description": f"records {digest(name)}"}
        figure.savefig(path, format="svg", metadata=metadata)


def _training() -> Any:
    """The loss curves of the default run, and their difference."""
    run = load("training-cpu")["runs"]["default"]
    rows = {name: learning.rows(figures) for name, figures in run["frameworks"].items()}
    return curves.plot(rows, {"by frequency alone": run["corpus"]["unigram_nats"]})


def _equality() -> Any:
    """How far the sides are apart, where the limit is, and where planted bugs land."""
    from matplotlib.figure import Figure

    found = record.outcomes(load("compare-cpu"))
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    _draw_gap(left, found)
    _draw_units(right, found)
    return figure


def _draw_gap(axes: Any, found: list[record.Outcome]) -> None:
    import numpy as np

    u = UNIT_ROUNDOFF["float64"]
    clean = [
        tensor.mutual_error_u * u
        for outcome in found
        for gate in outcome.gates
        if gate.name == outcome.dtype == "float64"
        for tensor in gate.tensors
    ]
    planted = [
        row["factor"] * FLOAT64_RELATIVE
        for row in load("mutants-cpu")["mutants"]
        if row["gate"] == "float64" and row["factor"] and row["factor"] < 1e20
    ]
    bins = np.logspace(-17.5, 3, 83)
    lowest = bins[0] * 1.2
    axes.hist(np.maximum(clean, lowest), bins, color="#2a7f9e", label="every tensor of the twins")
    axes.hist(planted, bins, color="#d1495b", label="worst tensor under each planted bug")
    axes.axvline(FLOAT64_RELATIVE, color="#333333", linewidth=1, linestyle="--")
    axes.annotate(
        "the gate, 1e-12",
        (FLOAT64_RELATIVE, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(5, 0),
        textcoords="offset points",
        va="top",
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="relative distance between PyTorch and JAX (leftmost bar: identical bits)",
        ylabel="tensors",
        title="float64: equal, or a bug",
    )
    axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.9))
    axes.spines[["top", "right"]].set_visible(False)


def _draw_units(axes: Any, found: list[record.Outcome]) -> None:
    import numpy as np

    colours = {"activation": "#2a7f9e", "gradient": "#e0a030", "update": "#6a4c93"}
    for kind, colour in colours.items():
        points = [
            (tensor.torch_error_u, tensor.jax_error_u)
            for outcome in found
            if outcome.preset == "124m" and outcome.dtype == "float32"
            for gate in outcome.gates
            for tensor in gate.tensors
            if tensor.kind == kind
        ]
        x, y = np.maximum(np.array(points).T, 0.02)
        axes.scatter(x, y, s=9, color=colour, alpha=0.7, label=f"{kind}s", linewidths=0)
    line = np.logspace(-2, np.log10(128), 200)
    axes.fill_between(
        line, np.where(line <= 4, 1e-3, line / 4), np.minimum(np.maximum(4 * line, 4), 128),
        color="#888888", alpha=0.13, linewidth=0,
    )  # fmt: skip
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(0.015, 160),
        ylim=(0.015, 160),
        xlabel="PyTorch's error, units of u",
        ylabel="JAX's error, units of u",
        title="float32: each side's own error, GPT-2 124M",
    )
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)


def _ladder() -> Any:
    """A step's time on every rung, PyTorch beside JAX."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True)
    found = rungs(load("speed-ladder-cpu"))
    for part, name, colour in zip(axes, sides.NAMES, ("#d1495b", "#2a7f9e"), strict=True):
        own = [row for row in found if row["framework"] == name]
        labels = [row["about"]["about"] for row in own]
        times = [row["median_s"] for row in own]
        spread = [
            [row["median_s"] - row["quartile_low_s"] for row in own],
            [row["quartile_high_s"] - row["median_s"] for row in own],
        ]
        part.barh(range(len(own)), times, xerr=spread, color=colour, ecolor="#333333")
        part.set_yticks(range(len(own)), [label.replace(", ", ",\n", 1) for label in labels])
        part.tick_params(axis="y", labelsize=7)
        part.invert_yaxis()
        part.set(title=show.NAMES[name], xlabel="seconds a training step, quartiles marked")
        part.spines[["top", "right"]].set_visible(False)
    return figure


def _growth() -> Any:
    """A step's time against each size, on logarithmic axes, with the fitted exponent."""
    from matplotlib.figure import Figure

    found = load("speed-growth-cpu")["growth"]
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    names = list(dict.fromkeys(one["axis"] for one in found))
    ticks = (0.25, 0.5, 1, 2, 4)
    for part, axis in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        here = [one for one in found if one["axis"] == axis]
        for one in here:
            colour = "#2a7f9e" if one["contestant"].startswith("jax") else "#d1495b"
            label = f"{one['contestant']}, exponent {one['exponent']:.2f}"
            part.plot(one["sizes"], one["median_s"], "o-", color=colour, label=label)
        part.set(xscale="log", yscale="log", xlabel=axis.replace("_", " "))
        part.set_xticks(here[0]["sizes"], [str(size) for size in here[0]["sizes"]])
        part.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        part.minorticks_off()
        part.legend(frameon=False, fontsize=8)
        part.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("seconds a training step")
    return figure


if __name__ == "__main__":
    sys.exit(main())
