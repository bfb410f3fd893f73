"""The adapter for a JAX model, chosen by its kind."""

import sys
from types import ModuleType

import jax
import jax.numpy as jnp

from twingrad.foreign import Model, Tree
from twingrad.jax_models.function_model import FunctionModel
from twingrad.jax_models.model import JaxModel

EXPECTED = (
    "expected an nnx.Module, an eqx.Module (with its state: a tuple of both), a Keras model, or a "
    "tuple of a Linen module, a Haiku transformed function or a function with its parameters, and "
    "its state if it has one"
)


def adapter(model: Model, dtype: str, train: bool) -> JaxModel:
    """The adapter of ``model`` in ``dtype``. Raises ``ValueError`` for a model of no known kind."""
    return _kind(model)(model, jnp.dtype(dtype), train)


def _kind(model: Model) -> type[JaxModel]:
    """Libraries are looked at where they are loaded: a model of one cannot be there without it."""
    nnx, linen, equinox, haiku = map(loaded, ("flax.nnx", "flax.linen", "equinox", "haiku"))
    keras = loaded("keras")
    if keras and isinstance(model, keras.Layer):
        from twingrad.jax_models.keras_model import KerasModel

        return KerasModel
    if nnx and isinstance(model, nnx.Module):
        from twingrad.jax_models.nnx_model import NNXModel

        return NNXModel
    if haiku and isinstance(model, haiku.Transformed | haiku.TransformedWithState):
        raise ValueError(
            "jax made a Haiku function alone: give it with its parameters, as a tuple "
            "(hk.transform(f), params)"
        )
    first = model[0] if isinstance(model, tuple) and model else model
    if equinox and isinstance(first, equinox.Module) and (first is model or _has_state(model)):
        from twingrad.jax_models.equinox_model import EquinoxModel

        return EquinoxModel
    if first is model or len(model) not in (2, 3):
        raise ValueError(f"jax made a {type(model).__name__}: {EXPECTED}")
    if linen and isinstance(first, linen.Module):
        from twingrad.jax_models.linen_model import LinenModel

        return LinenModel
    if haiku and isinstance(first, haiku.Transformed | haiku.TransformedWithState):
        from twingrad.jax_models.haiku_model import HaikuModel

        return HaikuModel
    if not callable(first):
        raise ValueError(f"jax made a tuple of a {type(first).__name__}: {EXPECTED}")
    if equinox and _holds_modules(model[1], equinox):
        from twingrad.jax_models.equinox_model import FunctionOfModules

        return FunctionOfModules
    return FunctionModel


def loaded(name: str) -> ModuleType | None:
    """The module ``name`` if somebody has imported it."""
    return sys.modules.get(name)


def _has_state(model: Model) -> bool:
    return len(model) == 2 and type(model[1]).__name__ == "State"


def _holds_modules(tree: Tree, equinox: ModuleType) -> bool:
    def is_module(x: object) -> bool:
        return isinstance(x, equinox.Module)

    return any(map(is_module, jax.tree_util.tree_leaves(tree, is_leaf=is_module)))
