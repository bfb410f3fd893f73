"""Claims of the tensor tour: the same rows everywhere, computed, every difference explained."""

import ast
import importlib.util
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from rich.console import Console

from bench.cli.main import main
from bench.parity import tensor_tour as tour
from bench.parity import tour_columns
from twingrad.environment import install_command

ROOT = Path(__file__).parents[2]
PACKAGES = {"numpy": "shared", "torch": "torch_impl", "jax": "jax_impl"}


@pytest.fixture(autouse=True)
def _newcomer() -> Iterator[None]:
    with ExitStack() as stack:
        for framework in filter(importlib.util.find_spec, ("torch", "jax")):
            stack.enter_context(tour_columns.newcomer_defaults(framework))
        yield


@pytest.fixture(params=PACKAGES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    """The tour's module for each of the three that is installed."""
    pytest.importorskip(request.param)
    return tour_columns.tours()[request.param]


@pytest.fixture
def jax_tour() -> ModuleType:
    pytest.importorskip("jax")
    return tour_columns.tours()["jax"]


@pytest.fixture
def torch_tour() -> ModuleType:
    pytest.importorskip("torch")
    return tour_columns.tours()["torch"]


def _needs_both() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jax")


def _values(result: object) -> object:
    return np.asarray(result).tolist()


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )


def _source(package: str) -> list[tuple[str, str | None]]:
    tree = ast.parse((ROOT / package / "tensors.py").read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [(node.name, ast.get_docstring(node)) for node in found]


# The twins


@pytest.mark.parametrize("package", ["torch_impl", "jax_impl"])
def test_the_tour_has_the_same_rows_in_the_same_order_everywhere(package):
    assert _source(package) == _source("shared")


def test_every_row_stands_in_a_section():
    names = [name for name, _ in _source("shared")]
    assert next(iter(tour.SECTION_STARTS)) == names[0]
    starts = [name for name in names if name in tour.SECTION_STARTS]
    assert starts == list(tour.SECTION_STARTS)


def test_every_idea_fits_one_line():
    for name, idea in _source("shared"):
        assert idea, name
        assert "\n" not in idea, name


def test_importing_the_tour_loads_neither_framework():
    done = _python(
        "import sys, bench.parity.tensor_tour; print({'torch', 'jax'} & set(sys.modules))"
    )
    assert done.stdout.strip() == "set()", done.stderr


# What the curriculum promises


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scalar", 1),
        ("vector", [1, 2, 3]),
        ("matrix", [[1, 2], [3, 4]]),
        ("tensor_3d", [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
        ("rank", 3),
        ("shape", [2, 2]),
        ("reshape", [[1], [2], [3], [4]]),
        ("view", [1, 2, 3, 4]),
        ("transpose", [[1, 3], [2, 4]]),
        ("matmul", [[5, 11], [11, 25]]),
        ("broadcast", [[11, 22], [13, 24]]),
        ("channels_first", [16, 3, 32, 32]),
    ],
)
def test_the_numbers_of_the_curriculum_come_out(module, name, expected):
    assert _values(getattr(module, name)()) == expected


def test_gradients_are_exact_by_autograd_and_close_by_central_difference(module):
    error = abs(float(module.gradient()) - 24)
    assert error < 1e-8 if module is tour.numpy_tour else error == 0


def test_conversion_gives_the_dtype_asked_for(module):
    assert tour_columns.formatted(module.convert()) == "[1.0, 2.0, 3.0]  float32"


def test_torch_takes_int64_and_float32_from_python_numbers(torch_tour):
    assert tour_columns.formatted(torch_tour.python_ints()) == "int64"
    assert tour_columns.formatted(torch_tour.python_floats()) == "float32"


def test_jax_takes_int32_and_float32_from_python_numbers(jax_tour):
    assert tour_columns.formatted(jax_tour.python_ints()) == "int32"
    assert tour_columns.formatted(jax_tour.python_floats()) == "float32"


# Memory


def test_the_way_to_numpy_copies_nothing_on_the_cpu(module):
    assert module.zero_copy_to_numpy() is True


def test_a_torch_tensor_sees_writes_to_the_array_it_came_from_and_goes_to(torch_tour):
    assert _values(torch_tour.share_from_numpy()) == [9, 2, 3]
    assert _values(torch_tour.write_through_numpy()) == [9, 2, 3]


def test_a_jax_array_copies_on_the_way_in_and_is_read_only_on_the_way_out(jax_tour):
    assert _values(jax_tour.share_from_numpy()) == [1, 2, 3]
    assert isinstance(jax_tour.write_through_numpy(), ValueError)


@pytest.mark.parametrize("offset", [0, 4, 16, 64])
def test_jax_shares_a_numpy_buffer_on_the_cpu_only_at_an_address_that_64_divides(offset):
    jax = pytest.importorskip("jax")
    cpu = jax.devices("cpu")[0]
    memory = np.zeros(256, dtype=np.uint8)
    start = -memory.ctypes.data % 64 + offset
    seen = {}
    for name, convert in {
        "device_put": lambda a: jax.device_put(a, cpu),
        "from_dlpack": jax.numpy.from_dlpack,
        "asarray": lambda a: jax.numpy.asarray(a, device=cpu),
    }.items():
        a = memory[start : start + 12].view(np.float32)
        a[:] = [1, 2, 3]
        x = convert(a)
        a[0] = 9
        seen[name] = float(x[0]) == 9
    shared = offset % 64 == 0
    assert seen == {"device_put": shared, "from_dlpack": shared, "asarray": False}


def test_a_write_to_a_slice_reaches_the_base_in_torch(torch_tour):
    assert _values(torch_tour.write_to_a_slice()) == [9, 2, 3]
    assert _values(torch_tour.augmented_assignment()) == [2, 3, 4]


def test_nothing_changes_a_jax_array(jax_tour):
    assert isinstance(jax_tour.item_assignment(), TypeError)
    assert _values(jax_tour.write_to_a_slice()) == [1, 2, 3]
    assert _values(jax_tour.write_to_a_reshape()) == [[1, 2], [3, 4]]
    assert _values(jax_tour.augmented_assignment()) == [1, 2, 3]


# Indices, promotion, randomness


def test_torch_raises_at_an_index_out_of_range(torch_tour):
    assert isinstance(torch_tour.read_out_of_range(), IndexError)
    assert isinstance(torch_tour.write_out_of_range(), IndexError)


def test_jax_clamps_an_index_out_of_range_and_drops_the_write(jax_tour):
    assert _values(jax_tour.read_out_of_range()) == 3
    assert _values(jax_tour.write_out_of_range()) == [1, 2, 3]


def test_only_numpy_widens_a_float_for_an_integer(module):
    expected = "float64" if module is tour.numpy_tour else "float32"
    for name in ("int32_plus_float32", "default_int_plus_float32", "int_plus_python_float"):
        assert tour_columns.formatted(getattr(module, name)()) == expected, name


def test_only_a_jax_key_gives_the_same_numbers_twice(module):
    assert module.random_twice() is (module.__name__ == "jax_impl.tensors")


# The front door


def test_every_difference_is_explained_and_every_explanation_is_of_a_difference():
    _needs_both()
    found = tour.explained_rows()
    assert {row.name for row in found if row.differs} == set(tour.NOTES)


@pytest.mark.slow
def test_a_difference_without_an_explanation_is_refused(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.delitem(tour.NOTES, "standard_deviation")
    with pytest.raises(ValueError, match="standard_deviation differs without a note"):
        tour.explained_rows()
    assert main(["tensors"]) == 1


def test_an_explanation_of_nothing_is_refused(monkeypatch):
    _needs_both()
    monkeypatch.setitem(tour.NOTES, "matmul", "They agree.")
    with pytest.raises(ValueError, match="matmul has a note but does not differ"):
        tour.explained_rows()


def test_an_error_nobody_foresaw_is_shown_and_refused(monkeypatch):
    _needs_both()

    def broken() -> object:
        raise RuntimeError("no such luck")

    broken.__module__ = tour.numpy_tour.__name__
    monkeypatch.setattr(tour_columns, "listing", lambda function: "")
    monkeypatch.setattr(tour.numpy_tour, "matmul", broken)
    with pytest.raises(ValueError, match=r"matmul differs .*RuntimeError: no such luck"):
        tour.explained_rows()


def test_the_code_that_is_shown_gives_the_result_that_is_shown(module):
    known = ("np", "torch", "jax", "jnp", "Array", "Tensor")
    names = {name: getattr(module, name) for name in known if hasattr(module, name)}
    for name, function in tour_columns.definitions(module).items():
        tree = ast.parse(tour_columns.listing(function))
        last = tree.body.pop()
        assert isinstance(last, ast.Expr), name
        space = dict(names)
        try:
            exec(compile(tree, name, "exec"), space)
            result = eval(compile(ast.Expression(last.value), name, "eval"), space)
        except Exception as error:
            result = error
        assert tour_columns.formatted(result) == tour_columns.formatted(function()), name


def test_the_tour_is_a_newcomers_whatever_the_process_has_set():
    _needs_both()
    import jax
    import torch

    expected = tour.explained_rows()
    torch.set_default_dtype(torch.float64)
    try:
        with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
            assert tour.explained_rows() == expected
            assert jax.numpy.array(1).dtype == "int64"
            assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_table_fits_its_console(width):
    columns = {name: tour_columns.column(name) for name in tour_columns.tours()}
    found = tour.all_rows(columns)
    console = Console(width=width, file=io.StringIO())
    tour.render(console, found, tour.environment(columns))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert text.count("≠ ") == sum(row.differs for row in found)


def test_at_100_columns_no_word_of_code_is_cut():
    column = tour._columns(100).columns[0].width
    for row in tour.all_rows():
        for code in row.code.values():
            for line in code.splitlines():
                assert max(map(len, tour._folded(line, column))) <= column, (row.name, line)


@pytest.mark.slow
def test_json_holds_the_whole_tour(tmp_path, capsys):
    if len(tour_columns.tours()) == 1:
        pytest.skip("neither framework is installed")
    file = tmp_path / "tour.json"
    assert main(["tensors", "--json", str(file)]) == 0
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["ok"] is True
    assert content["environment"]["numpy"] == np.__version__
    assert [row["name"] for row in content["rows"]] == [name for name, _ in _source("shared")]
    assert list(tmp_path.iterdir()) == [file]
    assert "Differences to know" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_is_one_sentence_and_status_2(tmp_path, capsys):
    if len(tour_columns.tours()) == 1:
        pytest.skip("neither framework is installed")
    assert main(["tensors", "--json", str(tmp_path / "absent" / "tour.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow("torch-jax")
@pytest.mark.parametrize(("present", "absent"), [("torch", "jax"), ("jax", "torch")])
def test_a_missing_framework_is_named_with_what_to_install(present, absent):
    pytest.importorskip(present)
    done = _python(
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from bench.cli.main import main; from bench.parity import tensor_tour\n"
        "tensor_tour.explained_rows(); sys.exit(main(['tensors']))"
    )
    assert done.returncode == 0, done.stderr
    title = tour_columns.FRAMEWORKS[absent]
    assert done.stdout.endswith(f"{title} is not installed: {install_command(absent)}\n")


def test_without_both_frameworks_the_tour_is_one_sentence_and_status_2():
    done = _python(
        "import sys; sys.modules.update(torch=None, jax=None)\n"
        "from bench.cli.main import main; sys.exit(main(['tensors']))"
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_columns_computed_beside_one_another_are_those_computed_here():
    _needs_both()
    here = {name: tour_columns.column(name) for name in tour_columns.FRAMEWORKS}
    assert tour_columns.compute() == here
