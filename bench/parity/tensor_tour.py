"""The tensor tour, side by side: the same few lines in NumPy, PyTorch and JAX, with their results.

Every result is computed here and now, and so is the mark on the rows whose results differ.
"""

import inspect
import os
import platform
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.parity import tour_columns
from bench.parity.tour_columns import FRAMEWORKS, Column, column, definitions, tours
from shared import tensors as numpy_tour
from twingrad.environment import install_command
from twingrad.files import write_json
from twingrad.terminal import new_console

SECTION_STARTS = {
    "scalar": "Tensors",
    "arithmetic": "NumPy arrays and tensors",
    "python_ints": "Dtypes",
    "shape": "Operations",
    "item_assignment": "Differences to know",
}

_INT = (
    "JAX's default integer is int32, that of NumPy and PyTorch int64. Setting jax_enable_x64 "
    "makes it int64 in JAX too."
)
_INT_AGAIN = "The default integer again: int32 in JAX, int64 elsewhere."
_FLOAT_AGAIN = "The default float again: float64 in NumPy, float32 in PyTorch and JAX."
_IMMUTABLE = (
    "A JAX array never changes: an update makes a new array and the old one stays as it was. In "
    "NumPy and PyTorch both names mean the same memory."
)

NOTES = {
    "scalar": _INT,
    "vector": _INT_AGAIN,
    "matrix": _INT_AGAIN,
    "tensor_3d": _INT_AGAIN,
    "image_batch": "Layers in PyTorch expect the channels first (N, C, H, W). Layers in Flax, and "
    "image files read into NumPy, have them last (N, H, W, C).",
    "zeros": "NumPy's default float is float64; in PyTorch and JAX it is float32.",
    "share_from_numpy": "from_numpy shares the array's memory. jnp.asarray copies it, though JAX "
    "does not promise to; jax.device_put and jnp.from_dlpack share it on the CPU if its address is "
    "a multiple of 64. So do not write to an array that JAX was given.",
    "write_through_numpy": "PyTorch's array is a second name for the tensor's memory. JAX's is "
    "read-only, since a JAX array must not change.",
    "gradient": "NumPy has no autograd: this is a central difference, right to some ten digits. "
    "The other two apply the chain rule and are exact.",
    "device": "NumPy has host memory only. PyTorch stays on the CPU until told otherwise. JAX "
    "takes a GPU as soon as it finds one, and numbers even its CPU device.",
    "python_ints": _INT,
    "python_floats": "NumPy keeps a Python float's 64 bits; PyTorch and JAX halve them to float32.",
    "numpy_float64": "JAX drops half of the digits without a warning until jax_enable_x64 is set.",
    "large_int": "It does not fit JAX's default int32, and JAX refuses rather than wrap it round.",
    "item_assignment": "A JAX array cannot be written to: x = x.at[0].set(9) makes a changed copy.",
    "augmented_assignment": "In JAX, y += 1 means y = y + 1: a new array takes the name y. NumPy "
    "and PyTorch add in place, and x is the same object.",
    "write_to_a_slice": _IMMUTABLE,
    "write_to_a_reshape": _IMMUTABLE,
    "view_of_a_transpose": "PyTorch's view refuses to copy. Its reshape would copy here, as the "
    "other two do.",
    "int32_plus_float32": "NumPy looks for a float that holds every int32. PyTorch and JAX keep "
    "the float they were given.",
    "default_int_plus_float32": "As above: in PyTorch and JAX an integer never widens a float.",
    "int_plus_python_float": _FLOAT_AGAIN,
    "float16_plus_scalar_array": "In PyTorch a tensor of rank 0 never widens one that has axes, if "
    "both are floats. In NumPy and JAX it counts like any other array.",
    "float16_plus_bfloat16": "PyTorch and JAX go to the narrowest float that holds both. NumPy has "
    "no bfloat16 of its own; the package ml_dtypes, which JAX uses, adds one.",
    "true_division": _FLOAT_AGAIN,
    "mean_of_integers": "PyTorch wants to be told: i.mean(dtype=torch.float32). The other two take "
    "their default float.",
    "standard_deviation": "PyTorch divides by n - 1 (correction=1), NumPy and JAX by n (ddof=0).",
    "read_out_of_range": "Code compiled for an accelerator cannot raise: JAX clamps the index to "
    "the last element.",
    "write_out_of_range": "Code compiled for an accelerator cannot raise: JAX drops the write.",
    "random_numbers": "Three algorithms, so one seed gives three sequences. What both frameworks "
    "are to share is best drawn once, in NumPy.",
    "random_twice": "A JAX key is a value and is not used up: the same key gives the same numbers. "
    "jax.random.split makes new ones of it.",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One idea: the code and the result of each framework that is installed, by its module name."""

    section: str
    name: str
    idea: str
    code: dict[str, str]
    result: dict[str, str]
    differs: bool
    note: str

    @property
    def explained(self) -> bool:
        """Whether the note is there exactly when the results differ."""
        if len(self.result) == len(FRAMEWORKS):
            return self.differs == bool(self.note)
        # Where a framework is missing, the difference may be its own: a note can then be idle.
        return bool(self.note) or not self.differs


def environment(columns: Mapping[str, Column]) -> dict[str, str | None]:
    """Versions of everything that the results depend on; None for what is not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for framework in FRAMEWORKS:
        versions[framework] = columns[framework].version if framework in columns else None
    backend = columns["jax"].backend if "jax" in columns else None
    return {**versions, "jax_backend": backend, "platform": platform.platform()}


def all_rows(columns: Mapping[str, Column] | None = None) -> list[Row]:
    """Every row, computed here unless given, whether its difference is explained or not."""
    columns = columns or {framework: column(framework) for framework in tours()}
    functions = definitions(numpy_tour)
    for framework, twin in columns.items():
        if list(twin.cells) != list(functions):
            raise ValueError(f"the {framework} tour has other rows than NumPy's")
    rows, section = [], ""
    for name, function in functions.items():
        section = SECTION_STARTS.get(name, section)
        cells = {framework: twin.cells[name] for framework, twin in columns.items()}
        row = Row(
            section=section,
            name=name,
            idea=inspect.getdoc(function) or "",
            code={framework: cell.code for framework, cell in cells.items()},
            result={framework: cell.result for framework, cell in cells.items()},
            differs=len({cell.essence for cell in cells.values()}) > 1,
            note=NOTES.get(name, ""),
        )
        rows.append(row)
    return rows


def explained_rows() -> list[Row]:
    """Every row; ``ValueError`` unless notes are on the rows that differ and on no other."""
    rows = all_rows()
    for row in rows:
        if not row.explained:
            state = "differs without a note" if row.differs else "has a note but does not differ"
            raise ValueError(f"{row.name} {state}: {row.result}")
    return rows


def _folded(line: str, width: int, depth: int = 0) -> list[str]:
    """Code or a value in lines of ``width``, broken after the outermost comma that fits."""
    if len(line) <= width:
        return [line]
    code, hash_sign, comment = line.partition("  # ")
    margin = " " * (len(line) - len(line.lstrip()))
    if hash_sign:
        return [*_folded(f"{margin}# {comment}", width), *_folded(code, width)]
    at, best, depth_at = 0, (True, True, 0), depth
    for i, character in enumerate(line[: width + 1]):
        depth += (character in "([{") - (character in ")]}")
        # Outside all brackets Python allows no line break, so a space there comes last.
        rank = (depth == 0, line[i - 1] != ",", depth)
        if character == " " and i > len(margin) and (not at or rank <= best):
            at, best, depth_at = i, rank, depth
    if not at:
        return [line]
    return [line[:at], *_folded((margin or "    ") + line[at + 1 :], width, depth_at)]


def _result_lines(result: str, width: int) -> Iterator[str]:
    """A result behind an arrow, in lines of ``width``; a dtype that does not fit has its own."""
    for part in result.splitlines():
        value, gap, dtype = part.rpartition("  ")
        if len(part) + 2 <= width:
            yield f"→ {part}"
        elif gap:
            yield from (
                f"→ {line}" if i == 0 else line for i, line in enumerate(_folded(value, width - 2))
            )
            yield f"  {dtype}"
        else:
            yield from textwrap.wrap(part, width, initial_indent="→ ", subsequent_indent="  ")


def _columns(width: int) -> Table:
    table = Table(box=box.MINIMAL, show_header=False, show_edge=False, pad_edge=False)
    for _ in FRAMEWORKS:
        table.add_column(
            width=(width - 3 * (len(FRAMEWORKS) - 1)) // len(FRAMEWORKS), overflow="fold"
        )
    return table


def _heading(versions: dict[str, str | None], width: int) -> Table:
    """The head of the three columns: name and version, or that it is missing."""
    table = _columns(width)
    table.add_row(
        *(
            Text(f"{title} {versions[framework]}", style="bold cyan")
            if versions[framework]
            else Text(f"{title}: not installed", style="red")
            for framework, title in FRAMEWORKS.items()
        )
    )
    return table


def _cells(row: Row, width: int) -> Table:
    """Code above result, a column for each framework."""
    table = _columns(width)
    column = table.columns[0].width or width
    style = "bold yellow" if row.differs else "bold green"
    codes, results = [], []
    for framework in FRAMEWORKS:
        lines = row.code.get(framework, "").splitlines()
        codes.append(Text("\n".join(part for line in lines for part in _folded(line, column))))
        parts = _result_lines(row.result.get(framework, ""), column)
        results.append(Text("\n".join(parts), style=style))
    table.add_row(*codes)
    table.add_row(*results)
    return table


def render(console: Console, tour: list[Row], versions: dict[str, str | None]) -> None:
    """Print the tour, a section at a time; ≠ marks a row whose results differ."""
    section = ""
    for row in tour:
        if row.section != section:
            section = row.section
            console.print()
            console.rule(Text(section, style="bold"), style="cyan", characters="═")
            console.print(_heading(versions, console.width))
        console.print()
        mark, style = ("≠", "bold yellow") if row.differs else ("=", "bold green")
        console.print(Text.assemble((f"{mark} {row.name}", style), "  ", (row.idea, "italic")))
        console.print(_cells(row, console.width))
        if row.differs:
            console.print(Text(row.note or "No explanation is known for this difference."))
    differing = sum(row.differs for row in tour)
    console.print(f"\n{len(tour)} rows; in {differing} of them (≠) the results differ.")
    for framework, title in FRAMEWORKS.items():
        if not versions[framework]:
            command = install_command(framework)
            console.print(f"{title} is not installed: {command}", soft_wrap=True, markup=False)


def show(json_file: Path | None = None) -> int:
    """Print the tour; 0 if every difference is a known one, else 1.

    Raises ``ValueError`` where there is nothing to compare or ``json_file`` cannot be written.
    """
    # A tour of small tensors must not take three quarters of a GPU's memory, JAX's default.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    columns = tour_columns.compute()
    if len(columns) == 1:
        install = " or ".join(install_command(name) for name in ("torch", "jax"))
        raise ValueError(f"neither framework is installed: {install}")
    tour, versions = all_rows(columns), environment(columns)
    ok = all(row.explained for row in tour)
    if json_file:
        rows = [asdict(row) for row in tour]
        write_json(json_file, {"ok": ok, "environment": versions, "rows": rows})
    render(new_console(), tour, versions)
    for row in tour:
        if not row.explained:
            state = "is not explained" if row.differs else "is explained but not there"
            print(f"twingrad tensors: the difference in {row.name} {state}", file=sys.stderr)
    return 0 if ok else 1
