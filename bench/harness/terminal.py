"""Tables and sentences on a terminal."""

from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table


def gib(size: float) -> str:
    """Bytes in GiB, to three digits."""
    return f"{size / 2**30:.3g}"


NAMES = {"torch": "PyTorch", "jax": "JAX"}


def table(*columns: str, title: str | None = None, right: tuple[str, ...] = ()) -> Table:
    """An empty table in the house's style."""
    made = Table(box=box.SIMPLE_HEAD, title=title, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    return made


def put(console: Console, rows: Table) -> None:
    """Print a table under its title, which may be wider than the table is."""
    if rows.title:
        console.print(rows.title, style="bold", highlight=False, markup=False)
        rows.title = None
    console.print(rows)


def saying(status: Status) -> Callable[[str], None]:
    """A function that shows what is being done, in words that may hold names of others."""
    return lambda text: status.update(escape(text))


def units(value: float) -> str:
    """An error in units of u, short."""
    if value >= 1e6:
        return "∞" if value >= 1e299 else f"{value:.1e}"
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def seconds(value: float) -> str:
    """A time in the unit that leaves three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"
