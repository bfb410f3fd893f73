"""Tables and numbers as a terminal shows them."""

from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

NAMES = {"torch": "PyTorch", "jax": "JAX"}


def new_console() -> Console:
    """A console as wide as the terminal, or 120 columns in a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def table(*columns: str, title: str | None = None, right: tuple[str, ...] = ()) -> Table:
    """An empty table in the house's style; the columns in ``right`` are aligned to the right."""
    empty = Table(box=box.SIMPLE_HEAD, title=title, pad_edge=False)
    for column in columns:
        empty.add_column(column, justify="right" if column in right else "left")
    return empty


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
