"""The columns of the tensor tour: every idea in one framework, computed with its defaults.

JAX compiles each operation by itself, so its column is computed in a process of its own while
PyTorch is loaded in this one.
"""

import ast
import contextlib
import importlib
import importlib.util
import inspect
import multiprocessing
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from bench.harness.foreign import Array
from bench.harness.side_process import begin_worker, ended_on_error
from shared import tensors as numpy_tour

FRAMEWORKS = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}


@dataclass(frozen=True)
class Cell:
    """The code of one idea in one framework, its result, and the part of it that must agree."""

    code: str
    result: str
    essence: str


@dataclass(frozen=True)
class Column:
    """Every idea in one framework, with the version that computed it, and JAX's backend."""

    cells: dict[str, Cell]
    version: str
    backend: str | None = None


def definitions(module: ModuleType) -> dict[str, Callable[[], object]]:
    """The public functions that ``module`` defines, in the order of its lines."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }


def tours(names: Iterable[str] = tuple(FRAMEWORKS)) -> dict[str, ModuleType]:
    """The tour's module for NumPy and for each framework that is installed, of these names."""
    modules = {"numpy": numpy_tour}
    for framework in names:
        if framework == "numpy":
            continue
        try:
            modules[framework] = importlib.import_module(f"{framework}_impl.tensors")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in (framework, f"{framework}lib"):
                raise
    return modules


@contextlib.contextmanager
def newcomer_defaults(framework: str) -> Iterator[None]:
    """The framework as it is when installed, whatever this process has set, until the end."""
    with contextlib.ExitStack() as stack:
        if framework == "jax":
            import jax

            stack.enter_context(jax.enable_x64(False))
            stack.enter_context(jax.numpy_dtype_promotion("standard"))
            stack.enter_context(jax.numpy_rank_promotion("allow"))
        if framework == "torch":
            import torch

            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float32)
        yield


def listing(function: Callable[[], object]) -> str:
    """The body of ``function`` as typed at a prompt: no docstring, no return, no except clause."""
    source = textwrap.dedent(inspect.getsource(function))
    (definition,) = ast.parse(source).body
    if not isinstance(definition, ast.FunctionDef):
        raise TypeError(f"{function} is not a plain function")
    statements = definition.body[1:]
    if isinstance(statements[0], ast.Try):
        statements = statements[0].body
    first, last = statements[0], statements[-1]
    if not isinstance(last, ast.Return):
        raise TypeError(f"{definition.name} does not end with what it returns")
    lines = source.splitlines()
    lines[last.lineno - 1] = lines[last.lineno - 1].replace("return ", "", 1)
    code = textwrap.dedent("\n".join(lines[first.lineno - 1 : last.end_lineno]))
    code = re.sub(r"  # type: ignore\S*", "", code)
    return "\n".join(line for line in code.splitlines() if line.strip())


def _digits(array: Array) -> str:
    """Nested lists of the shortest decimals that read back as the same numbers."""
    if array.ndim == 0:
        return str(array[()])
    return "[" + ", ".join(_digits(part) for part in array) + "]"


def formatted(result: object) -> str:
    """A result in one notation for all three: value and dtype, or the exception raised."""
    if isinstance(result, Exception):
        sentence = str(result).partition("\n")[0].partition(". ")[0].rstrip(".")
        return f"{type(result).__name__}: {sentence}"
    if hasattr(result, "dtype"):  # an array or tensor of any of the three
        dtype = str(result.dtype).removeprefix("torch.")
        return f"{_digits(np.asarray(result))}  {dtype}"
    if isinstance(result, tuple) and any(hasattr(part, "dtype") for part in result):
        return "\n".join(formatted(part) for part in result)
    if isinstance(result, tuple):
        return str(tuple(result))
    return str(result).removeprefix("torch.")


def _essence(result: object) -> str:
    """The part of a result that must agree: an exception's type, else all that is shown."""
    return type(result).__name__ if isinstance(result, Exception) else formatted(result)


def _run(function: Callable[[], object]) -> object:
    try:
        return function()
    except Exception as error:
        return (
            error  # one the twin did not foresee: the row shows it, and explained_rows() refuses it
        )


def column(framework: str) -> Column:
    """Every idea in ``framework``, computed here."""
    functions = definitions(tours((framework,))[framework])
    library = importlib.import_module(framework)
    with newcomer_defaults(framework):
        results = {name: _run(function) for name, function in functions.items()}
    return Column(
        cells={
            name: Cell(listing(functions[name]), formatted(value), _essence(value))
            for name, value in results.items()
        },
        version=str(library.__version__),
        backend=str(library.default_backend()) if framework == "jax" else None,
    )


def compute() -> dict[str, Column]:
    """Every column whose framework is installed; JAX's beside the others where there are cores."""
    frameworks = [name for name in FRAMEWORKS if importlib.util.find_spec(name)]
    here = [name for name in frameworks if name != "jax"]
    if len(frameworks) < len(FRAMEWORKS) or (os.cpu_count() or 1) < 2:
        return {name: column(name) for name in frameworks}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, begin_worker) as pool, ended_on_error():
        beside = pool.submit(column, "jax")
        columns = {name: column(name) for name in here}
        try:
            return {**columns, "jax": beside.result()}
        except BrokenProcessPool:
            return {**columns, "jax": column("jax")}
