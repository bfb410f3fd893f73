"""The floors of the house: who may import whom, and that importing does nothing."""

import ast
import os
import subprocess
import sys

import pytest

from bench.harness import frameworks
from tests.helpers import sources
from tests.helpers.sources import ROOT

TORCH, JAX = {"torch", "torch_impl"}, {"jax", "jaxlib", "flax", "optax", "jax_impl"}
OURS = {"bench", "jax_impl", "shared", "tests", "torch_impl", "twingrad"}
# What a package may never import, at any depth.
FORBIDDEN = {
    "shared": TORCH | JAX | OURS - {"shared"},
    "torch_impl": JAX | OURS - {"torch_impl", "shared"},
    "jax_impl": TORCH | OURS - {"jax_impl", "shared"},
    "twingrad": OURS - {"twingrad"},
    "bench": {"tests"},
}
# The packages of the workbench, top to bottom; those of one row do not import one another.
ROWS = (
    ("bench.cli",),
    ("bench.reporting",),
    ("bench.studies", "bench.gpu"),
    ("bench.planning", "bench.mutation", "bench.diagnosis", "bench.tutorial"),
    ("bench.speed", "bench.training", "bench.parity"),
    ("bench.harness",),
)
ROW_OF = {package: row for row, packages in enumerate(ROWS) for package in packages}
MODULES = sources.files()

each_module = pytest.mark.parametrize("path", MODULES, ids=sources.module_name)


def _forbidden(source: str, package: str) -> list[str]:
    """The imports of ``source`` that its package may not have."""
    return [n for n in sources.imports(source) if n.partition(".")[0] in FORBIDDEN[package]]


def _upward(module: str, imported: str) -> bool:
    """Whether a package of the workbench imports one above it or beside it."""
    package, other = (".".join(name.split(".")[:2]) for name in (module, imported))
    if package == other or package not in ROW_OF:
        return False  # bench.__main__ hands over to bench.cli
    return other.startswith("bench.") and ROW_OF[other] <= ROW_OF[package]


def _doings(source: str) -> list[str]:
    """Statements at the top of ``source`` that do more than import, define and document."""
    quiet = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    return [
        ast.unparse(node)
        for node in ast.parse(source).body
        if not isinstance(node, quiet)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        and not _attaches_a_derivative(node)
        and not _imports_for_types_alone(node)
        and not ast.unparse(node).startswith("if __name__ == '__main__'")
    ]


def _attaches_a_derivative(node: ast.stmt) -> bool:
    """Whether ``node`` is ``NAME.defvjp(...)``, which is how JAX is told of a derivative."""
    match node:
        case ast.Expr(ast.Call(ast.Attribute(ast.Name(), "defvjp"))):
            return True
    return False


def _imports_for_types_alone(node: ast.stmt) -> bool:
    """Whether ``node`` is ``if TYPE_CHECKING:`` with nothing but imports."""
    match node:
        case ast.If(ast.Name("TYPE_CHECKING"), body, []):
            return all(isinstance(inner, (ast.Import, ast.ImportFrom)) for inner in body)
    return False


@each_module
def test_a_package_imports_nothing_that_it_may_not(path):
    package = sources.module_name(path).partition(".")[0]
    assert _forbidden(path.read_text(encoding="utf-8"), package) == []


def test_the_workbench_imports_downwards_only():
    known = sources.sources()
    upward = [
        f"{module} imports {imported}"
        for module, text in known.items()
        for imported in sorted(sources.imported_modules(text, known))
        if _upward(module, imported)
    ]
    assert upward == []


def test_every_package_of_the_workbench_has_its_place():
    packages = {f"bench.{path.parent.name}" for path in (ROOT / "bench").glob("*/__init__.py")}
    assert packages == set(ROW_OF)


def test_no_modules_import_one_another_in_a_circle():
    known = sources.sources()
    edges = {name: sources.imported_modules(text, known) - {name} for name, text in known.items()}
    assert sources.circles(edges) == []


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("bench.harness.records", "bench.speed.record"),
        ("bench.parity.command", "bench.reporting.html"),
        ("bench.parity.command", "bench.training.session"),
        ("bench.studies.decoding", "bench.cli.main"),
    ],
)
def test_a_planted_upward_import_is_seen(module, imported):
    known = sources.sources() | {imported: ""}
    text = f"def f():\n    from {imported} import anything"
    assert [_upward(module, name) for name in sources.imported_modules(text, known)] == [True]


def test_a_planted_circle_is_seen():
    edges = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert sources.circles(edges) == [["b", "c"]]


@each_module
def test_the_top_of_a_module_only_defines(path):
    runs = path.stem == "__main__"  # which is there to do something
    assert runs or _doings(path.read_text(encoding="utf-8")) == []


def test_a_relative_import_is_not_used_to_hide_where_it_goes():
    for module, text in sources.sources().items():
        assert [name for name in sources.imports(text) if name.startswith(".")] == [], module


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("shared", "import torch"),
        ("shared", "import jax.numpy as jnp"),
        ("shared", "def f():\n    from bench import harness"),
        ("shared", "from twingrad import numerics"),
        ("torch_impl", "from jax_impl.gpt2 import GPT2"),
        ("torch_impl", "import numpy, optax"),
        ("jax_impl", "if True:\n    from torch import nn"),
        ("twingrad", "from shared.config import preset"),
        ("twingrad", "import bench.cli"),
    ],
)
def test_a_planted_forbidden_import_is_seen(package, source):
    assert len(_forbidden(source, package)) == 1


@pytest.mark.parametrize("source", ["print(1)", "for i in range(3): pass", "x = []\nx.append(1)"])
def test_the_reader_of_statements_sees_a_doing(source):
    assert len(_doings(source)) == 1


def test_the_reader_of_statements_lets_types_be_imported_for_the_checker_alone():
    assert _doings("if TYPE_CHECKING:\n    from a import b") == []
    assert len(_doings("if TYPE_CHECKING:\n    print(1)")) == 1
    assert len(_doings("if TYPE_CHECKING:\n    import a\nelse:\n    b = 1")) == 1


def test_the_reader_of_statements_lets_a_derivative_be_attached():
    assert _doings("def f(x): ...\nf.defvjp(forward, backward)") == []


@pytest.mark.parametrize(
    "source",
    [
        "f.g.defvjp(a, b)",
        "f().defvjp(a, b)",
        "f.defvjp",
        "f.defjvp(a)",
        "defvjp(f)",
        "f.defvjp(a)()",
    ],
)
def test_the_reader_of_statements_takes_nothing_else_for_that(source):
    assert len(_doings(source)) == 1


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def _names(*packages: str) -> list[str]:
    """The modules of the packages that have names of their own."""
    return [sources.module_name(p) for p in sources.files(*packages) if p.stem[0] != "_"]


# Modules that import a framework at their top; the others load it where they use it.
LOADS_A_FRAMEWORK = (
    "bench.diagnosis.",
    "bench.speed.backends.",
    "bench.speed.jax_ceilings",
    "bench.speed.torch_ceilings",
    "bench.studies.random_models.building",
    "bench.studies.random_models.equinox_model",
    "bench.studies.random_models.function_model",
    "bench.studies.random_models.haiku_model",
    "bench.studies.random_models.jax_blocks",
    "bench.studies.random_models.linen_model",
    "bench.studies.random_models.nnx_model",
    "bench.studies.random_models.torch_model",
    "twingrad.casts.jax_casts",
    "twingrad.casts.torch_casts",
    "twingrad.casts.torch_tables",
    "twingrad.convert.check",
    "twingrad.convert.folder",
    "twingrad.convert.models",
    "twingrad.convert.orbax_folder",
    "twingrad.convert.to_jax",
    "twingrad.convert.to_torch",
    "twingrad.convert.torch_source",
    "twingrad.decoding.jax_runner",
    "twingrad.decoding.torch_runner",
    "twingrad.diagnosis.hypotheses.changes.",
    "twingrad.diagnosis.trial",
    "twingrad.jax_models.",
    "twingrad.jax_compiled",
    "twingrad.jax_observe",
    "twingrad.jax_probe",
    "twingrad.jax_replay",
    "twingrad.phrases.jax_code.",
    "twingrad.phrases.torch_code.",
    "twingrad.timing.jax_calls",
    "twingrad.timing.torch_calls",
    "twingrad.torch_arrays",
    "twingrad.torch_feed",
    "twingrad.torch_probe",
    "twingrad.torch_replay",
    "twingrad.torch_sketch",
    "twingrad.torch_subject",
)


IMPORT_ALL = """
import importlib, os, sys
for framework in {frameworks}:
    importlib.import_module(framework)
before = dict(os.environ)
for name in {names}:
    importlib.import_module(name)
    for other in {others}:
        assert other not in sys.modules, f"{{name}} loads {{other}}"
    assert dict(os.environ) == before, f"{{name}} changes the environment"
{after}
"""


def test_a_side_leaves_the_other_framework_unloaded_and_does_nothing_on_import(framework):
    own, other, after = {
        "torch": (
            ("torch",),
            sorted(JAX),
            "assert not torch.are_deterministic_algorithms_enabled()",
        ),
        "jax": (("jax", "flax", "optax"), sorted(TORCH), "assert not jax.config.jax_enable_x64"),
    }[framework.name]
    after = f"import {framework.name}\n{after}"
    names = _names(f"{framework.name}_impl")
    done = _python(IMPORT_ALL.format(frameworks=own, names=names, others=other, after=after))
    assert done.stderr == done.stdout == ""


def test_all_other_modules_load_neither_framework_and_print_nothing():
    names = _names("shared", "twingrad", "bench")
    names = [name for name in names if not name.startswith(LOADS_A_FRAMEWORK)]
    others = sorted({"torch", "jax", "flax", "optax"})
    done = _python(IMPORT_ALL.format(frameworks=(), names=names, others=others, after=""))
    assert done.stderr == done.stdout == ""


def test_signatures_are_checked_while_the_tests_run(framework):
    import numpy as np
    from jaxtyping import TypeCheckError

    from shared import by_hand, params

    start = params.init_uniform(params.SIMPLE_NET_SHAPES)
    wrong = np.zeros((3, 9), np.float32), np.zeros((3, 1), np.float32)
    with pytest.raises(TypeCheckError):
        by_hand.simple_net(start, *wrong)
    runtime = framework.runtime.configure("float32", "cpu")
    make = framework.simple_net.SimpleNet
    if framework.name == "jax":
        from flax import nnx

        model = framework.params.build(lambda: make(rngs=nnx.Rngs(0)), start, runtime)
    else:
        model = framework.params.build(make, start, runtime)
    with pytest.raises(TypeCheckError):
        framework.simple_net.loss_fn(model, *runtime.batch(*wrong))


def test_the_names_of_the_sides_are_those_of_their_packages():
    for name in frameworks.NAMES:
        assert (ROOT / f"{name}_impl" / "__init__.py").exists(), name


def test_configuring_pytorch_leaves_its_compiler_unloaded():
    pytest.importorskip("torch")
    run = _python(
        "import sys, torch\n"
        "from torch_impl import runtime\n"
        "runtime.configure('float32', 'cpu')\n"
        "assert torch.are_deterministic_algorithms_enabled()\n"
        "print({'sympy', 'torch._inductor.config'} & {*sys.modules})"
    )
    assert run.stdout == "set()\n", run.stderr
