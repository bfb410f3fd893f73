"""What a benchmark record must hold, and whether one does: form, figures and certificates."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.speed import ceilings, statistics
from bench.speed.schema import SCHEMA
from shared import files

# Clean samples that a figure needs before the disturbed ones are left out.
FEWEST = 5
# What identifies a row; a ratio names two of them, and all but the contestant must agree.
KEYS = ("workload", "variant", "preset", "batch_size", "length", "n_layers", "dtype")
# What may grow alone.
AXES = ("batch_size", "length", "n_layers")


def counted(samples: list[dict[str, Any]], quiet: float) -> list[float]:
    """Seconds of the samples that count: the undisturbed ones where there are enough, else all.

    There are enough where they are ``FEWEST`` or more, and every start has one.
    """
    return [sample["seconds"] for sample in _counting(samples, quiet)]


def _counting(samples: list[dict[str, Any]], quiet: float) -> list[dict[str, Any]]:
    clean = [sample for sample in samples if sample["others_cores"] <= quiet]
    enough = len(clean) >= FEWEST and _starts(clean) == _starts(samples)
    return clean if enough else samples


def _starts(samples: list[dict[str, Any]]) -> set[int]:
    return {sample.get("start", 0) for sample in samples}


def by_start(row: dict[str, Any], quiet: float) -> dict[int, list[float]]:
    """Seconds of a row's samples that count, by the start whose process they come from."""
    found: dict[int, list[float]] = {}
    for sample in _counting(row["samples"], quiet):
        found.setdefault(sample.get("start", 0), []).append(sample["seconds"])
    return found


def derived(row: dict[str, Any], ceiling: float, quiet: float) -> dict[str, Any]:
    """What follows from a timed row's samples, its first step and its work.

    ``ceiling`` is the best rate of any matrix product alone, FLOP/s; 0 where none was measured.
    """
    median, work = row["median_s"], row["work"]
    datasheet, flops = row["datasheet_flops_per_s"], work.get("flops")
    return {
        "compile_s": max(0.0, row["first_s"] - row["step_s"]),
        "tokens_per_s": work["tokens"] / median if work else None,
        "bytes_per_s": work["bytes"] / median if "bytes" in work else None,
        "mfu": flops / median / ceiling if flops and ceiling else None,
        "mfu_datasheet": flops / median / datasheet if flops and datasheet else None,
        "clean": all(s["others_cores"] <= quiet for s in _counting(row["samples"], quiet)),
    }


def ratio(ours: dict[str, Any], theirs: dict[str, Any], method: dict[str, Any]) -> dict[str, Any]:
    """The ratio of two rows' medians, with its interval by the method of their record."""
    return {
        "numerator": ours["contestant"],
        "denominator": theirs["contestant"],
        **{key: ours[key] for key in KEYS},
        **_ratio(ours, theirs, method),
    }


def _ratio(
    ours: dict[str, Any], theirs: dict[str, Any], method: dict[str, Any]
) -> dict[str, float]:
    quiet = method["quiet_cores"]
    return statistics.ratio(
        by_start(ours, quiet), by_start(theirs, quiet), method["covered"], method["spread"]
    )


def growth(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Exponents of a step's time against each size that was varied alone."""
    rows = [row for row in results if row["workload"] == "growth" and row["status"] == "timed"]
    rows = [row for row in rows if row["variant"].partition(" ")[0] in AXES]
    found = []
    groups = dict.fromkeys((row["contestant"], row["variant"].split()[0]) for row in rows)
    for contestant, axis in groups:
        own = [r for r in rows if r["contestant"] == contestant and r["variant"].split()[0] == axis]
        sizes, seconds = [r[axis] for r in own], [r["median_s"] for r in own]
        if len(set(sizes)) > 2 and min(sizes) > 0:
            found.append(
                {
                    "contestant": contestant,
                    "axis": axis,
                    "sizes": sizes,
                    "median_s": seconds,
                    **statistics.exponent(sizes, seconds),
                }
            )
    return found


def repeated(
    first: dict[str, Any], second: dict[str, Any]
) -> list[tuple[dict[str, Any], dict[str, Any], bool]]:
    """Ratios that two records share, and whether each one's interval has the other's in it."""
    keys = ("numerator", "denominator", *KEYS)
    again = {tuple(one[key] for key in keys): one for one in second["ratios"]}
    pairs = [(one, again.get(tuple(one[key] for key in keys))) for one in first["ratios"]]
    return [
        (one, other, _within(one, other) and _within(other, one)) for one, other in pairs if other
    ]


def _within(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one["low"] <= other["ratio"] <= one["high"]


def check(path: Path) -> str:
    """What a record holds, in one sentence.

    Raises ``ValueError`` for what is no record, and ``Refused`` for one that does not hold: a field
    that is missing, a figure that its samples do not give, a certificate that failed.
    """
    try:
        found = files.read_json(path, parse_constant=_no_number)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: give a file that bench --json wrote") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not JSON ({error}): give what bench --json wrote") from None
    except _NoNumber as constant:
        raise Refused(f"{path} does not hold: {constant} is no figure") from None
    problem = next(problems(found), None)
    if problem:
        raise Refused(f"{path} does not hold: {problem}")
    timed = sum(row["status"] == "timed" for row in found["results"])
    others = len(found["results"]) - timed
    left = f", {others} without a time, and why" if others else ""
    return (
        f"{path} holds: {timed} results{left}, {len(found['ratios'])} ratios, "
        f"{intervals(found, found['results'])}, every figure follows from its samples, every "
        f"certificate is good; on {found['environment']['device']}, "
        f"{found['environment']['hardware']['processor']}"
    )


def intervals(found: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """What the intervals of the ratios of some of a record's rows are of, in a few words."""
    timed = [_starts(row["samples"]) for row in rows if row["status"] == "timed"]
    least, most = (pick(map(len, timed), default=0) for pick in (min, max))
    over = f"over {most} starts" if most >= statistics.STARTS else "over samples"
    if least < statistics.STARTS <= most:
        over += f", over samples where under {statistics.STARTS} are shared"
    return f"intervals of {100 * found['method']['covered']:.3g} % {over}"


class Refused(Exception):
    """A record that does not hold, and why."""


class _NoNumber(Exception):
    """NaN or an infinity, which Python reads and JSON does not have."""


def _no_number(constant: str) -> None:
    raise _NoNumber(constant)


def problems(found: Any) -> Iterator[str]:
    """Everything that is wrong with a record, the first that matters first."""
    from jsonschema import Draft202012Validator

    wrong = sorted(
        Draft202012Validator(SCHEMA).iter_errors(found), key=lambda e: list(map(str, e.path))
    )
    for error in wrong:
        place = "/".join(str(part) for part in error.path) or "the record"
        yield f"{place}: {error.message[:200]}"
    if wrong:
        return
    quiet = found["method"]["quiet_cores"]
    rows: dict[tuple, list[dict[str, Any]]] = {}
    for row in found["results"]:
        name = f"{row['contestant']}, {row['workload']} {row['variant']} {row['preset']}".strip()
        if row["status"] == "timed" and not row["parity"]["ok"]:
            yield f"{name}: it is timed though its parity certificate failed"
        if row["status"] != "timed":
            if row["samples"] or "median_s" in row:
                yield f"{name}: it has times though its status is {row['status']!r}"
            continue
        if row["parity"]["error_u"] > row["parity"]["limit_u"]:
            yield (
                f"{name}: parity error {row['parity']['error_u']:.3g} u is over its limit, "
                f"{row['parity']['limit_u']:.3g} u"
            )
        expected = counted(row["samples"], quiet)
        if row["samples_s"] != expected:
            yield f"{name}: samples_s are not the samples that count"
            continue
        if key := statistics.close(row, statistics.summary(expected)):
            right = statistics.summary(expected)[key]
            yield f"{name}: {key} is {row[key]:.6g}, its samples give {right:.6g}"
        for key, right in derived(row, ceilings.best(found["ceilings"]), quiet).items():
            same = row[key] == right or (
                isinstance(right, float)
                and isinstance(row[key], float)
                and statistics.close(row, {key: right}) is None
            )
            if not same:
                yield f"{name}: {key} is {row[key]}, and should be {right}"
        rows.setdefault((row["contestant"], *(row[key] for key in KEYS)), []).append(row)
    yield from _wrong_ratios(found["ratios"], rows, found["method"])
    ours = {(one["contestant"], one["axis"]): one for one in growth(found["results"])}
    for one in found["growth"]:
        own = ours.get((one["contestant"], one["axis"]))
        plain = ("sizes", "median_s")
        if own is None or any(one[key] != own.pop(key) for key in plain) or _apart(one, own):
            yield f"growth of {one['contestant']} against {one['axis']} does not follow"


def _apart(found: dict[str, Any], growth: dict[str, Any]) -> str | None:
    figures = {key: growth[key] for key in ("exponent", "r_squared")}
    return statistics.close(found, figures, relative=1e-6)


def _wrong_ratios(
    ratios: list[dict[str, Any]],
    rows: dict[tuple, list[dict[str, Any]]],
    method: dict[str, Any],
) -> Iterator[str]:
    for one in ratios:
        rest = tuple(one[key] for key in KEYS)
        pairs = [rows.get((one[side], *rest), []) for side in ("numerator", "denominator")]
        name = f"ratio {one['numerator']}/{one['denominator']}, {one['workload']} {one['preset']}"
        if not all(pairs):
            yield f"{name}: one of the two was not timed"
            continue
        # A contestant that ran in two heats has two rows, and a ratio is of one heat.
        wanted = [_ratio(a, b, method) for a in pairs[0] for b in pairs[1]]
        if all(statistics.close(one, right) for right in wanted):
            key = statistics.close(one, wanted[0]) or "ratio"
            yield f"{name}: {key} is {one[key]:.6g}, the samples give {wanted[0][key]:.6g}"
