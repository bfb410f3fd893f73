"""The graph that JAX traces of a loss, with every value and gradient, in JAX."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from itertools import takewhile
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from jax_impl.params import to_numpy
from jax_impl.train import LossFn
from shared import graph
from shared.graph import Graph, Node, Recording, Use
from shared.statements import assigned

FOLDER = Path(__file__).parent
# An equation by its index in the jaxpr, and one of its operands.
Operand = tuple[int, int]


def record(model: nnx.Module, loss_fn: LossFn, *batch: Array) -> Graph:
    """The jaxpr of the loss of ``loss_fn(model, *batch)``, from parameters and batch to the loss.

    Equations that do not lead to the loss are left out. A function that is compiled by itself, such
    as ``log_sigmoid``, is one node.
    """
    return _recording(model, loss_fn, *batch).graph()


def record_parts(model: nnx.Module, loss_fn: LossFn, *batch: Array) -> Graph:
    """The same with one node for all that one place in the code has made.

    A place is a module of Flax's, by its path, or a statement in the files of this folder, by
    the path of the module that runs it and the names that it assigns.
    """
    return _recording(model, loss_fn, *batch).graph_of_parts()


def _recording(model: nnx.Module, loss_fn: LossFn, *batch: Array) -> Recording:
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    paths, leaves = zip(*nnx.to_flat_state(params), strict=True)
    arrays = [leaf[...] for leaf in leaves]

    def loss(arrays: list[Array], *batch: Array) -> Array:
        filled = [leaf.replace(array) for leaf, array in zip(leaves, arrays, strict=True)]
        state = nnx.from_flat_state(zip(paths, filled, strict=True))
        merged = nnx.merge(graphdef, state, rest)
        with _scoped(merged):
            return loss_fn(merged, *batch)[0]

    closed = jax.make_jaxpr(loss)(arrays, *batch)
    jaxpr, given = closed.jaxpr, [*closed.consts, *arrays, *batch]
    variables = [*jaxpr.constvars, *jaxpr.invars]
    names = [*(f"constant {i}" for i, _ in enumerate(closed.consts))]
    names += [".".join(map(str, path)) for path in paths]
    names += [*signature(loss_fn).parameters][1:]
    parameters = set(variables[len(closed.consts) :][: len(arrays)])
    used = _leading_to(jaxpr)
    operands = {
        (i, j): operand
        for i, equation in used.items()
        for j, operand in enumerate(equation.invars)
        if not isinstance(operand, Literal)
    }
    values = _values(jaxpr, given, {})
    # A probe is a zero added to an operand: the gradient at the probe is that of this use alone.
    depending = _depending_on(jaxpr, parameters) & values.keys()
    real = {v for v in depending if jnp.issubdtype(values[v].dtype, jnp.floating)}
    probes = {use: jnp.zeros_like(values[v]) for use, v in operands.items() if v in real}
    gradients = jax.grad(lambda p: _values(jaxpr, given, p)[jaxpr.outvars[0]])(probes)

    kinds = {v: graph.PARAMETER if v in parameters else graph.INPUT for v in variables}
    needed = set(operands.values())
    nodes = [Node(n, kinds[v]) for n, v in zip(names, variables, strict=True) if v in needed]
    index = {v: (i, 0) for i, v in enumerate(v for v in variables if v in needed)}
    parts: list[tuple[int, str] | None] = [None for _ in nodes]
    runs = graph.consecutive([_place(equation) for equation in jaxpr.eqns])
    for i, equation in used.items():
        index |= {v: (len(nodes), output) for output, v in enumerate(equation.outvars)}
        nodes.append(Node(_name(equation), graph.OPERATION))
        parts.append(runs[i])
    uses = []
    for (i, j), v in operands.items():
        target, _ = index[used[i].outvars[0]]
        value, gradient = to_numpy(values[v]), gradients.get((i, j))
        back = None if gradient is None else to_numpy(gradient)
        uses.append(Use(*index[v], target, value.shape, value, back))
    return Recording(nodes, parts, float(values[jaxpr.outvars[0]]), uses)


@contextmanager
def _scoped(model: nnx.Module) -> Iterator[None]:
    """Within, every equation carries the path of the module that it is of.

    NNX has no hooks, so the classes' own ``__call__`` is replaced for the time being.
    """
    modules = {id(module): ".".join(map(str, path)) for path, module in nnx.iter_modules(model)}
    classes = {type(module) for _, module in nnx.iter_modules(model) if callable(module)}
    own = {cls: vars(cls).get("__call__") for cls in classes}

    def scoped(call: Callable[..., Array]) -> Callable[..., Array]:
        @wraps(call)
        def run(module: nnx.Module, *args: Array) -> Array:
            with jax.named_scope(f"module:{modules.get(id(module), '')}"):
                return call(module, *args)

        return run

    for cls in classes:
        cls.__call__ = scoped(cls.__call__)
    try:
        yield
    finally:
        for cls, call in own.items():
            if call is None:  # inherited: uncover it again
                del cls.__call__
            else:
                cls.__call__ = call


def _place(equation: JaxprEqn) -> str:
    """The path of the module that an equation is of, and the names that are assigned from it."""
    scopes = re.findall(r"module:([\w.]*)", str(equation.source_info.name_stack))
    recorded = getattr(equation.source_info.traceback, "frames", ())  # None if JAX kept no stack
    stack = ((f.file_name, f.line_num, f.function_name) for f in recorded)
    frames = takewhile(lambda frame: frame[0] != __file__, stack)
    parts = (scopes[-1] if scopes else "", assigned(frames, FOLDER))
    return ": ".join(filter(None, parts)) or str(equation.primitive)


def _leading_to(jaxpr: Jaxpr) -> dict[int, JaxprEqn]:
    """The equations that the result needs, by their index."""
    needed = {v for v in jaxpr.outvars if isinstance(v, Var)}
    found = []
    for i, equation in reversed([*enumerate(jaxpr.eqns)]):
        if needed & set(equation.outvars):
            needed |= {v for v in equation.invars if isinstance(v, Var)}
            found.append((i, equation))
    return dict(reversed(found))


def _depending_on(jaxpr: Jaxpr, variables: set[Var]) -> set[Var]:
    """The variables whose values change with one of ``variables``."""
    found = set(variables)
    for equation in jaxpr.eqns:
        if found & {v for v in equation.invars if isinstance(v, Var)}:
            found |= set(equation.outvars)
    return found


def _values(jaxpr: Jaxpr, given: list[Array], probes: Mapping[Operand, Array]) -> dict[Var, Array]:
    """The value of every variable, equation by equation, with probes added to operands."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], given, strict=True))
    for i, equation in enumerate(jaxpr.eqns):
        operands = [v.val if isinstance(v, Literal) else values[v] for v in equation.invars]
        for j, operand in enumerate(operands):
            operands[j] = operand + probes[i, j] if (i, j) in probes else operand
        results = equation.primitive.bind(
            *operands, **equation.primitive.get_bind_params(equation.params)
        )
        several = results if equation.primitive.multiple_results else [results]
        values |= zip(equation.outvars, several, strict=True)
    return values


def _name(equation: JaxprEqn) -> str:
    """The primitive, or the function that a call is of; with its literals, as in ``sub(1, ·)``."""
    name = str(equation.params.get("name") or equation.primitive)
    if "call_jaxpr" in equation.params:  # a function with a derivative of its own, such as relu
        name = equation.params["call_jaxpr"].jaxpr.debug_info.func_name
    if not any(isinstance(v, Literal) for v in equation.invars):
        return name
    operands = (f"{v.val:g}" if isinstance(v, Literal) else "·" for v in equation.invars)
    return f"{name}({', '.join(operands)})"
