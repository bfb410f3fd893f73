"""JAX without casts below float64.

Code that says ``x.astype(jnp.float32)`` or ``preferred_element_type=jnp.float32`` computes in
float32 whatever it is given, and Flax's ``dtype=jnp.float32`` does. Every operation goes through
``Primitive.bind``: what would make an array of lower precision makes one of float64 here, so that
the code's own formula is judged and not its rounding. Functions that JAX has traced are kept by it;
those traced here are kept apart by the setting of the matrix products' precision, for which
"float32" and "highest" are two names of one thing. Those traced with the digits that constants have
lost (``originals``) are kept apart by a third setting, which a CPU does not look at in float64.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax import lax
from jax.extend import core

from twingrad.casts import log
from twingrad.casts.originals import MOST, Originals, is_rounded
from twingrad.foreign import ModuleCall, Tree, Untyped

_LOWER = frozenset(log.LOWER)
_DOUBLE = np.dtype(np.float64)
# Parameters of primitives that say which dtype comes out.
_RESULTS = ("new_dtype", "dtype", "preferred_element_type")
# An operation made of others: its parts go through here themselves.
_MADE_OF_OTHERS = frozenset(
    ("jaxpr", "call_jaxpr", "branches", "cond_jaxpr", "fun_jaxpr", "jaxprs", "result_avals")
)
# A function that is compiled by itself.
_INLINED = frozenset(("jit", "pjit"))
# Of the same bits: with another dtype there would be others.
_SAME_BITS = frozenset(("bitcast_convert_type", "random_bits", "threefry2x32"))


def _bound(
    bind: ModuleCall,
    primitive: Untyped,
    args: Tree,
    params: dict[str, Tree],
    originals: Originals | None,
) -> Tree:
    name = primitive.name
    constants = [place for place, x in enumerate(args) if _is_rounded_constant(x)]
    if constants and originals is not None:
        found = {place: originals.of(np.asarray(args[place])) for place in constants}
        if any(value is not None for value in found.values()):
            log.add("float32")
            args = [args[n] if found.get(n) is None else found[n] for n in range(len(args))]
            if name in _INLINED:  # it was traced for float32
                return _inlined(params["jaxpr"], args)
        constants = [
            place for place, value in found.items() if value is None or is_rounded(value).any()
        ]
    if constants:
        log.add_constant()
    if name in _SAME_BITS or not _MADE_OF_OTHERS.isdisjoint(params):
        return bind(primitive, *args, **params)
    if name == "reduce_precision" and _dtype(args[0]) == "float64":
        log.add(_precision(params))
        return args[0]
    is_heard = any(_dtype(x) == "float64" or _dtype(x)[:3] == "int" for x in args)
    for key in _RESULTS:
        asked = params.get(key)
        if asked is not None and str(np.dtype(asked)) in _LOWER:
            params = {**params, key: _DOUBLE}
            if is_heard:
                log.add(str(np.dtype(asked)))
    if isinstance(params.get("precision"), lax.DotAlgorithm | lax.DotAlgorithmPreset):
        params = {**params, "precision": None}  # an algorithm is one for its own dtype
    raised = [_raised(bind, x) if _dtype(x) in _LOWER else x for x in args]
    return bind(primitive, *raised, **params)


def _is_rounded_constant(x: Tree) -> bool:
    """Whether ``x`` is an array that is known while a function is traced, and float32's."""
    if isinstance(x, jax.core.Tracer) or _dtype(x) not in ("float32", "float64"):
        return False
    return 0 < np.size(x) <= MOST and bool(is_rounded(np.asarray(x)).any())


def _inlined(jaxpr: Untyped, args: Tree) -> Tree:
    """The results of a traced function, its operations one by one."""
    evaluated: Tree = jax.core.eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *args)
    return evaluated


def _dtype(x: object) -> str:
    return str(x.dtype) if hasattr(x, "dtype") else ""


def _unheard(shape_of: ModuleCall) -> ModuleCall:
    """``jax.eval_shape`` that tells the log nothing, since it computes shapes and no numbers.

    Linen calls it at every pass for the shapes of its initializers, which are full of constants.
    """

    def unheard(*args: Tree, **kwargs: Tree) -> Tree:
        with log.watching(log.CastLog()):
            return shape_of(*args, **kwargs)

    return unheard


def _raised(bind: ModuleCall, x: Tree) -> Tree:
    return bind(lax.convert_element_type_p, x, new_dtype=_DOUBLE, weak_type=False, sharding=None)


def _precision(params: dict[str, Tree]) -> str:
    names = {8: {7: "bfloat16", 23: "float32", 10: "TF32"}, 5: {10: "float16"}}
    exponent, mantissa = params["exponent_bits"], params["mantissa_bits"]
    return names.get(exponent, {}).get(mantissa, f"{1 + exponent + mantissa} bits")


@contextmanager
def left_out(originals: Originals | None = None) -> Iterator[None]:
    """Within, no operation makes an array of lower precision; casts are told to the log.

    With ``originals``, constants have the digits that they lost to float32. JAX must compute in 64
    bits (``jax_enable_x64``).
    """
    primitive: Untyped = core.Primitive
    bind, shape_of = primitive.bind, jax.eval_shape

    def lifted(self: Untyped, *args: Tree, **params: Tree) -> Tree:
        return _bound(bind, self, args, params, originals)

    primitive.bind = lifted
    jax.eval_shape = _unheard(shape_of)
    try:
        with jax.default_matmul_precision("float32" if originals is None else "tensorfloat32"):
            yield
    finally:
        primitive.bind, jax.eval_shape = bind, shape_of
