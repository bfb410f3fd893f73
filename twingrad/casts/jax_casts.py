"""JAX without casts below float64.

Code that says ``x.astype(jnp.float32)`` or ``preferred_element_type=jnp.float32`` computes in
float32 whatever it is given, and Flax's ``dtype=jnp.float32`` does. Every operation goes through
``Primitive.bind``: what would make an array of lower precision makes one of float64 here, so that
the code's own formula is judged and not its rounding. Functions that JAX has traced are kept by it;
those traced here are kept apart by the setting of the matrix products' precision, for which
"float32" and "highest" are two names of one thing.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax import lax
from jax.extend import core

from twingrad.casts import log
from twingrad.foreign import ModuleCall, Tree, Untyped

_LOWER = frozenset(log.LOWER)
_DOUBLE = np.dtype(np.float64)
# Parameters of primitives that say which dtype comes out.
_RESULTS = ("new_dtype", "dtype", "preferred_element_type")
# An operation made of others: its parts go through here themselves.
_MADE_OF_OTHERS = frozenset(
    ("jaxpr", "call_jaxpr", "branches", "cond_jaxpr", "fun_jaxpr", "jaxprs", "result_avals")
)
# Of the same bits: with another dtype there would be others.
_SAME_BITS = frozenset(("bitcast_convert_type", "random_bits", "threefry2x32"))


def _bound(bind: ModuleCall, primitive: Untyped, args: Tree, params: dict[str, Tree]) -> Tree:
    name = primitive.name
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


def _dtype(x: object) -> str:
    return str(x.dtype) if hasattr(x, "dtype") else ""


def _raised(bind: ModuleCall, x: Tree) -> Tree:
    return bind(lax.convert_element_type_p, x, new_dtype=_DOUBLE, weak_type=False, sharding=None)


def _precision(params: dict[str, Tree]) -> str:
    names = {8: {7: "bfloat16", 23: "float32", 10: "TF32"}, 5: {10: "float16"}}
    exponent, mantissa = params["exponent_bits"], params["mantissa_bits"]
    return names.get(exponent, {}).get(mantissa, f"{1 + exponent + mantissa} bits")


@contextmanager
def left_out() -> Iterator[None]:
    """Within, no operation makes an array of lower precision; casts are told to the log.

    JAX must compute in 64 bits (``jax_enable_x64``).
    """
    primitive: Untyped = core.Primitive
    bind = primitive.bind

    def lifted(self: Untyped, *args: Tree, **params: Tree) -> Tree:
        return _bound(bind, self, args, params)

    primitive.bind = lifted
    try:
        with jax.default_matmul_precision("float32"):
            yield
    finally:
        primitive.bind = bind
