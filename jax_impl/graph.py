"""The graph that JAX traces of a loss, with every value and gradient, in JAX."""

from collections.abc import Mapping
from inspect import signature

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from jax_impl.params import to_numpy
from jax_impl.train import LossFn
from shared import graph
from shared.graph import Amount, Edge, Graph, Node

# An equation by its index in the jaxpr, and one of its operands.
Use = tuple[int, int]


def record(model: nnx.Module, loss_fn: LossFn, *batch: Array) -> Graph:
    """The jaxpr of the loss of ``loss_fn(model, *batch)``, from parameters and batch to the loss.

    Equations that do not lead to the loss are left out. A function that is compiled by itself, such
    as ``log_sigmoid``, is one node.
    """
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    paths, leaves = zip(*nnx.to_flat_state(params), strict=True)
    arrays = [leaf[...] for leaf in leaves]

    def loss(arrays: list[Array], *batch: Array) -> Array:
        filled = [leaf.replace(array) for leaf, array in zip(leaves, arrays, strict=True)]
        state = nnx.from_flat_state(zip(paths, filled, strict=True))
        return loss_fn(nnx.merge(graphdef, state, rest), *batch)[0]

    closed = jax.make_jaxpr(loss)(arrays, *batch)
    jaxpr, given = closed.jaxpr, [*closed.consts, *arrays, *batch]
    variables = [*jaxpr.constvars, *jaxpr.invars]
    names = [*(f"constant {i}" for i, _ in enumerate(closed.consts))]
    names += [".".join(map(str, path)) for path in paths]
    names += [*signature(loss_fn).parameters][1:]
    parameters = set(variables[len(closed.consts) :][: len(arrays)])
    used, depending = _leading_to(jaxpr), _depending_on(jaxpr, parameters)
    uses = {
        (i, j): operand
        for i, equation in used.items()
        for j, operand in enumerate(equation.invars)
        if not isinstance(operand, Literal)
    }
    values = _values(jaxpr, given, {})
    # A probe is a zero added to an operand: the gradient at the probe is that of this use alone.
    probes = {use: jnp.zeros_like(values[v]) for use, v in uses.items() if v in depending}
    gradients = jax.grad(lambda p: _values(jaxpr, given, p)[jaxpr.outvars[0]])(probes)

    kinds = {v: graph.PARAMETER if v in parameters else graph.INPUT for v in variables}
    needed = set(uses.values())
    nodes = [Node(n, kinds[v]) for n, v in zip(names, variables, strict=True) if v in needed]
    index = {v: i for i, v in enumerate(v for v in variables if v in needed)}
    for equation in used.values():
        index |= dict.fromkeys(equation.outvars, len(nodes))
        nodes.append(Node(_name(equation), graph.OPERATION))
    found = Graph(nodes, float(values[jaxpr.outvars[0]]))
    for (i, j), v in uses.items():
        gradient = Amount.of(to_numpy(gradients[i, j])) if (i, j) in gradients else None
        value = Amount.of(to_numpy(values[v]))
        target = index[used[i].outvars[0]]
        found.edges.append(Edge(index[v], target, value.shape, value, gradient))
    return found


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


def _values(jaxpr: Jaxpr, given: list[Array], probes: Mapping[Use, Array]) -> dict[Var, Array]:
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
