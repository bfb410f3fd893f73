"""Defaults that differ: their values in both frameworks, the effect, and what ends it.

Every row is computed: both defaults are read from the frameworks or seen in what they do, the
effect is measured, and so is what remains of it once the row's advice is followed.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict

from bench.harness import frameworks, machine
from bench.harness.records import Record
from bench.studies.defaults import arrays, functions, layers, training
from bench.studies.defaults.difference import Difference
from bench.studies.study import Study, StudyOptions, of_record

DIFFERENCES: tuple[Callable[[], Difference], ...] = (
    layers.layer_norm,
    layers.fast_variance,
    layers.gelu,
    arrays.variance,
    arrays.median,
    layers.convolution,
    layers.batch_norm,
    layers.running_variance,
    training.adamw,
    training.clipping,
    layers.linear_start,
    layers.embedding_start,
    arrays.integers,
    arrays.float64,
    arrays.out_of_range,
    functions.written_out_of_range,
    functions.token_out_of_range,
    training.saturated,
    training.cross_entropy,
    functions.divergence,
    functions.similarity_of_zeros,
    arrays.grid,
    layers.pooling,
    layers.resize,
    functions.nearest_pixels,
    functions.bucket_at_an_edge,
    arrays.clip_at_the_bound,
    arrays.norm_at_zero,
    functions.unused_parameter,
)


def measure(options: StudyOptions) -> Record:
    """Measure every difference."""
    environment = machine.environment(frameworks.both(), "cpu")
    return Record(environment, {"rows": [asdict(in_float64(row)) for row in DIFFERENCES]})


def in_float64(difference: Callable[[], Difference]) -> Difference:
    """One difference, measured in float64 where it says nothing else."""
    import jax

    with jax.enable_x64(True):
        return difference()


def lines(record: Record) -> Iterator[str]:
    """The size of every difference."""
    for row in record["rows"]:
        yield f"{row['topic']}: {row['effect']}: {row['size']:.2g}"


def markdown(record: Record) -> str:
    """A table of the defaults, what they cost, and what to write."""
    table = ["| | PyTorch | JAX | effect | | so that they agree |", "|---|---|---|---|---|---|"]
    for row in record["rows"]:
        cells = (row["topic"], row["torch"], row["jax"], row["effect"], f"{row['size']:.2g}")
        advice = row["how"].replace("|", "\\|")
        table.append(f"| {' | '.join(cells)} | {advice} |")
    return "\n".join(table)


STUDY = Study(
    name="defaults",
    claim="Defaults of the frameworks differ, and the advice of each row ends that",
    sources=("bench/studies/defaults/*.py",),
    measure=measure,
    lines=lines,
    blocks={"defaults": of_record(markdown)},
)
