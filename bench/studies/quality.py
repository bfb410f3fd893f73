"""How good the tests are: what they reach, and which changes of the code they notice.

The measurements are in ``tests/quality``; here stand the claims, the bounds and the tables.
"""

from collections.abc import Iterator

from bench.harness.records import Json, Record
from bench.studies.study import Command, Study, of_record

# The least share of lines reached, of mutants noticed, and of bugs that the quick set notices.
LINES, NOTICED, QUICK = 0.95, 0.9, 0.8
SHOWN = 6  # files that are named in a row of a table
# The kind of lines that are judged file by file, and how many of a file's go without a word.
OTHER, FEW = "other lines", 10
# The folders whose slow tests are counted with the quick set.
SLOW = tuple(
    f"tests/{name}"
    for name in ("parity", "phrases", "planning", "reporting", "speed", "studies", "twingrad")
)
_TESTS = ("tests/quality/*.py",)


def coverage_table(record: Record) -> str:
    """A table of lines and branches reached by package, and of what is left by its reason."""
    slow = ", ".join(f"`{name}`" for name in record["slow_folders"])
    lines = [
        f"{record['tests']:,} tests of the quick set"
        + (f", and {record['slow_tests']:,} slow ones of {slow}:" if slow else ":"),
        "",
        "| package | lines | reached | branches | reached |",
        "|---|---|---|---|---|",
    ]
    for name, row in record["packages"].items():
        shown = f"`{name}`" if name != "all" else "all"
        lines.append(
            f"| {shown} | {row['lines']:,} | {_share(row, 'lines')} | {row['branches']:,} "
            f"| {_share(row, 'branches')} |"
        )
    lines += ["", "| what is left | lines | where |", "|---|---|---|"]
    for reason, counts in _by_reason(record):
        most = sorted(counts.items(), key=lambda count: (-count[1], count[0]))
        shown = ", ".join(f"`{file}` ({count})" for file, count in most[:SHOWN])
        others = f" and {len(most) - SHOWN} other files" if len(most) > SHOWN else ""
        lines.append(f"| {reason} | {sum(counts.values()):,} | {shown}{others} |")
    return "\n".join(lines)


def _by_reason(record: Record) -> list[tuple[str, dict[str, int]]]:
    """The lines left in each file, by what kind of lines they are or why they are left."""
    groups: dict[str, dict[str, int]] = {}
    for row in record["files"]:
        for kind, count in row["kinds"].items():
            reason = kind if kind != OTHER else _reason(row)
            groups.setdefault(reason or "not judged", {})[row["file"]] = count
    return sorted(groups.items(), key=lambda group: -sum(group[1].values()))


def _reason(row: dict[str, Json]) -> str | None:
    """Why other lines of a file are left; None for many lines for which nothing is said."""
    if row["kinds"].get(OTHER, 0) <= FEW:
        return "a few lines of a file: inputs, options and systems that these tests do not have"
    return row["reason"] and str(row["reason"])


def _share(row: dict[str, Json], part: str) -> str:
    whole = row[part]
    return f"{row[f'{part}_reached'] / whole:.1%}" if whole else ""


def mutation_table(record: Record) -> str:
    """A table of mutants noticed by part, and one of every survivor with its judgement."""
    lines = [
        "| code that checks | mutants | noticed | survive | of them equivalent |",
        "|---|---|---|---|---|",
    ]
    for part in (*record["parts"], _whole(record)):
        alike = sum(map(_is_equivalent, part["survivors"]))
        lines.append(
            f"| {part['name']} | {part['mutants']} | {part['killed']} "
            f"({part['killed'] / part['mutants']:.1%}) | {len(part['survivors'])} | {alike} |"
        )
    lines += ["", "| survivor | change | judgement |", "|---|---|---|"]
    for row in _whole(record)["survivors"]:
        change = f"`{_cell(row['before'])}` → `{_cell(row['after'])}`"
        place = f"`{row['file']}`, line {row['line']}"
        lines.append(f"| {place} | {change} | {row['judgement'] or row['how']} |")
    return "\n".join(lines)


def _whole(record: Record) -> dict[str, Json]:
    parts = record["parts"]
    return {
        "name": "all",
        "mutants": sum(part["mutants"] for part in parts),
        "killed": sum(part["killed"] for part in parts),
        "survivors": [row for part in parts for row in part["survivors"]],
    }


def _is_equivalent(survivor: dict[str, Json]) -> bool:
    return str(survivor["judgement"]).startswith("equivalent")


def _cell(code: str) -> str:
    """Lines of code as they can stand in a cell of a table."""
    return " ".join(code.split()).replace("|", "\\|") or " "


def bugs_table(record: Record) -> str:
    """A table of the planted bugs with the first test that notices each."""
    lines = [
        f"{record['quick']} of {len(record['bugs'])} are noticed by the quick set, "
        f"{record['long']} by the long one.",
        "",
        "| bug | change | quick set | long set |",
        "|---|---|---|---|",
    ]
    for row in record["bugs"]:
        change = f"`{_cell(row['before'])}` → `{_cell(row['after'])}`"
        noticed = f"`{row['long']}`" if row["long"] else ""
        lines.append(
            f"| `{row['file']}`, line {row['line']} | {change} | {row['quick']} | {noticed} |"
        )
    return "\n".join(lines)


def times_table(record: Record) -> str:
    """A table of what each set of tests takes, and one of the most expensive tests."""
    lines = [
        "| set | tests | skipped | left | time | of a processor |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in record["sets"].items():
        lines.append(
            f"| {name} | {row['passed']:,} | {row['skipped']:,} | {row['left'] or ''} "
            f"| {row['seconds']:,.0f} s | {row['processor_s']:,.0f} s |"
        )
    for name, row in record["sets"].items():
        lines += ["", f"| the most expensive of the {name} set | of a processor |", "|---|---|"]
        lines += [f"| `{one['test']}` | {one['processor_s']:.1f} s |" for one in row["slowest"]]
    return "\n".join(lines)


COVERAGE = Study(
    name="coverage",
    claim="Tests reach nearly every line of the packages beside the twins",
    sources=("bench/**/*.py", "shared/**/*.py", "twingrad/**/*.py", "tests/**/*.py"),
    command=Command(
        arguments=(
            *("-m", "tests.quality", "coverage"),
            *(word for name in SLOW for word in ("--slow", name)),
        )
    ),
    blocks={"coverage": of_record(coverage_table)},
)
MUTATION = Study(
    name="mutation-testing",
    claim="Nine in ten small changes of the code that checks are noticed by its own quick tests",
    sources=(
        *("twingrad/numerics.py", "twingrad/comparison.py"),
        *(f"bench/speed/{name}.py" for name in ("record", "derivation", "statistics")),
        *("bench/speed/json_form.py", "bench/speed/schema.py", "shared/checkpoint/*.py"),
        *(f"shared/{name}.py" for name in ("params", "safetensors_io", "transformers_io")),
        *("shared/files.py", "shared/loader.py"),
        *_TESTS,
    ),
    command=Command(arguments=("-m", "tests.quality", "mutants")),
    blocks={"mutation-testing": of_record(mutation_table)},
)
BUGS = Study(
    name="workbench-bugs",
    claim="Of twenty bugs planted at random places the quick set notices sixteen, the long set all",
    sources=("bench/**/*.py", "shared/**/*.py", "twingrad/**/*.py", *_TESTS),
    command=Command(arguments=("-m", "tests.quality", "bugs")),
    blocks={"workbench-bugs": of_record(bugs_table)},
)
TIMES = Study(
    name="test-times",
    claim="The quick set takes minutes, and no test of it more than seconds",
    sources=("tests/**/*.py", "pyproject.toml"),
    command=Command(arguments=("-m", "tests.quality", "times")),
    blocks={"test-times": of_record(times_table)},
)
# Those of which there is a record.
STUDIES: tuple[Study, ...] = (MUTATION, BUGS, COVERAGE, TIMES)


def broken(what: str, record: Record) -> Iterator[str]:
    """The bounds that a record of ``tests.quality`` breaks, each in a sentence."""
    if what == "coverage":
        whole = record["packages"]["all"]
        share = whole["lines_reached"] / whole["lines"]
        if share < LINES:
            yield f"{share:.1%} of the lines are reached: expected {LINES:.0%}"
        for row in record["files"]:
            if _reason(row) is None:
                yield f"{row['file']}: lines {row['lines']} are left, and it is not said why"
    elif what == "mutants":
        for part in (*record["parts"], _whole(record)):
            share = part["killed"] / part["mutants"]
            if share < NOTICED:
                yield f"{part['name']}: {share:.1%} are noticed, expected {NOTICED:.0%}"
        for row in _whole(record)["survivors"]:
            if not row["judgement"]:
                yield f"{row['file']}:{row['line']} survives and is not judged"
    elif what == "bugs":
        if record["quick"] < QUICK * len(record["bugs"]):
            yield f"the quick set notices {record['quick']} of {len(record['bugs'])}"
        if record["long"] < len(record["bugs"]):
            yield f"the long set notices {record['long']} of {len(record['bugs'])}"
