"""What a benchmark record says twice and differently, or what cannot be.

Whatever follows from other fields of the record, from the programs or from the bounds is computed
anew and compared. What follows from nothing is listed in docs/security.md.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bench.speed import reference, statistics, workloads
from bench.speed.results import Configuration, Outcome, Result, SpeedRecord, Work
from shared import params
from shared.config import GPTConfig, preset
from twingrad import numerics

# How often the quickest step may be longer or shorter than every sample.
_APART = 20.0
# Bytes that a process with a framework has at least, where all of its memory counts.
_LEAST_BYTES = 1 << 24
_ITEMSIZES = {"bfloat16": 2}


def of_row(row: Result, device: str) -> Iterator[str]:
    """The contradictions within a row that was timed on ``device``."""
    yield from _of_samples(row)
    yield from _of_parity(row)
    yield from _of_framework(row)
    timing = row.timing
    if timing is None:
        return
    try:
        config, work = _model(row), expected_work(row)
    except ValueError as error:
        yield f"{row.title}: {error}"
        return
    for name, right in vars(work).items():
        recorded = getattr(timing.work, name)
        if (recorded is None) != (right is None) or (
            right is not None and not statistics.close(recorded, right)
        ):
            yield f"{row.title}: its work has {name} {recorded}, and should have {right}"
    sheets = set(workloads.DATASHEET.values()) if device == "cuda" else set()
    if timing.datasheet_flops_per_s not in {None, *sheets}:
        yield f"{row.title}: no datasheet has {timing.datasheet_flops_per_s:.6g} FLOP/s"
    least = _LEAST_BYTES if device == "cpu" else 1
    if config is not None:
        least = max(least, 2 * params.count(params.gpt2_shapes(config)))
    if timing.peak_bytes is not None and timing.peak_bytes < least:
        yield f"{row.title}: a peak of {timing.peak_bytes} bytes is under the {least} that it holds"


def _of_samples(row: Result) -> Iterator[str]:
    taken = Counter((sample.start, sample.round) for sample in row.samples)
    (start, turn), times = max(taken.items(), key=lambda one: one[1], default=((0, 0), 1))
    if times > 1:
        yield f"{row.title}: {times} samples are of round {turn} of process {start}"
    timing, seconds = row.timing, [sample.seconds for sample in row.samples]
    if timing is None or not seconds:
        return
    if not min(seconds) / _APART <= timing.step_s <= max(seconds) * _APART:
        yield f"{row.title}: step_s is {timing.step_s:.6g}, and no sample is like that"
    if row.workload == "cold":
        if not timing.first_s == timing.step_s == seconds[0]:
            yield f"{row.title}: first_s and step_s are not its first start, {seconds[0]:.6g}"
    elif timing.first_s == timing.step_s:
        yield f"{row.title}: first_s is step_s to the last digit, and two steps never take the same"


def _of_parity(row: Result) -> Iterator[str]:
    parity = row.parity
    if parity is None:
        return
    if parity.judged < 1:
        yield f"{row.title}: its parity check judged nothing"
    ceiling = 0.0 if _is_exact(row) else numerics.CEILING_U.get(row.dtype, math.inf)
    if parity.limit_u > ceiling:
        yield (
            f"{row.title}: its parity limit is {parity.limit_u:.3g} u, and the bounds allow "
            f"{ceiling:.3g} u at most"
        )


def _of_framework(row: Result) -> Iterator[str]:
    own, other = ("torch", "jax") if row.framework == "torch" else ("jax", "torch")
    if row.contestant.startswith(f"{other}-"):
        yield f"{row.title}: its framework is given as {own}"
    if row.versions and own not in row.versions:
        yield f"{row.title}: its process had no {own}"


def _model(row: Result) -> GPTConfig | None:
    """The GPT-2 of the row; None for a small program. Raises ``ValueError`` for an unknown one."""
    if row.workload == "overhead":
        return None
    return replace(preset(row.preset), n_layers=row.n_layers)


def expected_work(row: Result) -> Work:
    """The work of one step of the row, by its sizes. Raises ``ValueError`` for unknown programs."""
    config = _model(row)
    if config is None or row.workload == "cold":
        return Work()
    if row.workload == "decode":
        itemsize = _ITEMSIZES.get(row.dtype, 4)
        read = workloads.decode_bytes(config, itemsize) * workloads.FOLLOWING
        return Work(tokens=row.batch_size * workloads.FOLLOWING, bytes=read)
    workload = "train" if row.workload == "growth" else row.workload
    flops = workloads.flops(workload, config, row.batch_size, row.length)
    return Work(tokens=row.batch_size * row.length, flops=flops)


def of_record(record: SpeedRecord) -> Iterator[str]:
    """The contradictions between the parts of a record."""
    timed = [row for row in record.results if row.status.outcome is Outcome.TIMED]
    spent = math.fsum(sample.seconds for row in timed for sample in row.samples)
    if record.seconds < spent:
        yield f"all of it took {record.seconds:.3g} s, and its samples alone {spent:.3g} s"
    seen: dict[tuple[object, ...], Result] = {}
    for row in timed:
        if (first := seen.setdefault(row.samples, row)) is not row:
            yield f"{row.title}: its samples are those of {first.title}"
    versions = record.environment.get("versions", {})
    for row in record.results:
        for name, version in row.versions.items():
            if versions.get(name, version) != version:
                yield f"{row.title}: {name} {version}, and {versions[name]} in the environment"
    by_configuration: dict[Configuration, list[Result]] = {}
    for row in timed:
        by_configuration.setdefault(row.configuration, []).append(row)
    ratios: dict[Configuration, Counter[tuple[str, str]]] = {}
    for ratio in record.ratios:
        pair = (ratio.numerator, ratio.denominator)
        ratios.setdefault(ratio.configuration, Counter())[pair] += 1
    for configuration, rows in by_configuration.items():
        yield from _missing_ratios(rows, ratios.get(configuration, Counter()))


def _missing_ratios(rows: Sequence[Result], pairs: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """What is wrong with which ``rows`` of one configuration were compared: ``pairs``, counted.

    Those that were timed in turn stand together, and each of them is compared with all others.
    """
    groups: list[list[Result]] = []
    for row in rows:
        if groups and pairs.get((groups[-1][0].contestant, row.contestant)):
            groups[-1].append(row)
        else:
            groups.append([row])
    expected: Counter[tuple[str, str]] = Counter()
    for group in groups:
        if len(group) == 1 < len(rows):
            yield f"{group[0].title}: it is compared with none of the others"
        for number, row in enumerate(group):
            expected.update((row.contestant, other.contestant) for other in group[number + 1 :])
    for (numerator, denominator), count in expected.items():
        if pairs.get((numerator, denominator), 0) < count:
            yield f"{rows[0].title}: the ratio {numerator}/{denominator} is missing"
    for (numerator, denominator), count in pairs.items():
        if count > expected.get((numerator, denominator), 0):
            yield f"{rows[0].title}: the ratio {numerator}/{denominator} is there {count} times"


def _is_exact(row: Result) -> bool:
    """Whether the row was judged by equal tokens; with fewer bits decoding is judged by logits."""
    return row.workload == "decode" and row.dtype == reference.SAME_TOKENS
