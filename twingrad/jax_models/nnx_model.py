"""Flax NNX modules."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twingrad.calls import only_loss
from twingrad.foreign import Loss, Model, Tree
from twingrad.jax_models.model import (
    Calls,
    Handler,
    JaxModel,
    Tensors,
    is_number,
    patched,
)


class NNXModel(JaxModel):
    """An ``nnx.Module``: its Params are trained, its other Variables of numbers are state."""

    def take(self, model: Model) -> None:
        """Split the module into parameters, state, and the rest."""
        (model.train if self.train else model.eval)()
        modules = list(nnx.iter_modules(model))
        for _, module in modules:
            if isinstance(module, nnx.Embed):
                module.dtype = self.dtype
            # The dtype that parameters are made with; recurrent cells take it for what they carry.
            if getattr(module, "param_dtype", None) == jnp.float32:
                module.param_dtype = self.dtype
        parts = nnx.split(model, nnx.Param, _is_state, ...)
        self.graphdef, self.params, self.variables, self.rest = parts
        self.tensors = self._leaves(self.params) | self._leaves(self.variables)
        self.trained = {p for p, x in self._leaves(self.params).items() if is_number(x)}
        self.state = {p for p, x in self._leaves(self.variables).items() if is_number(x)}
        self.required = {
            _name(path)
            for path, variable in nnx.to_flat_state(self.variables)
            if isinstance(variable, nnx.BatchStat)
        }
        self.kinds = {_name(path): type(module) for path, module in modules}

    def run(
        self,
        tensors: Tensors,
        loss_fn: Loss,
        batch: tuple[jax.Array, ...],
        handler: Handler | None,
    ) -> tuple[jax.Array, Tensors]:
        """The loss of a module that is merged anew for each pass."""
        filled = (_filled(part, tensors) for part in (self.params, self.variables))
        merged = nnx.merge(self.graphdef, *filled, self.rest, copy=True)
        if handler is None:
            loss = only_loss(loss_fn(merged, *batch))
        else:
            modules = list(nnx.iter_modules(merged))
            paths = {id(m): _name(path) for path, m in modules if not _is_idle(m)}
            by_leaf = {id(x): path for path, x in tensors.items()}
            classes = {type(m) for _, m in modules if callable(m) and not _is_idle(m)}

            def path_of(module: object) -> str | None:
                known = paths.get(id(module))
                return _path_by_leaf(module, by_leaf) if known is None else known

            with patched(classes, path_of, Calls(handler, self.hidden)):
                loss = only_loss(loss_fn(merged, *batch))
        after = self._leaves(nnx.state(merged, _is_state))
        return loss, {path: x for path, x in after.items() if path in self.tensors}

    def own_tree(self, parameters: Tensors) -> Tree:
        """The ``nnx.State`` of all Params, as ``nnx.Optimizer`` has it."""
        if parameters.keys() != self._leaves(self.params).keys():
            return super().own_tree(parameters)
        return _filled(self.params, parameters)

    def by_path(self, tree: Tree) -> Tensors:
        """The tensors of an ``nnx.State``, or of dictionaries, by path."""
        return self._leaves(tree) if isinstance(tree, nnx.State) else super().by_path(tree)

    def _leaves(self, state: nnx.State) -> Tensors:
        return {_name(path): self.cast(v[...]) for path, v in nnx.to_flat_state(state)}


def _is_state(path: tuple[object, ...], variable: Model) -> bool:
    """Whether a variable is an array and no parameter; recorded outputs do not count."""
    is_other = isinstance(variable, nnx.Variable) and not isinstance(
        variable, nnx.Param | nnx.Intermediate | nnx.RngState
    )
    return is_other and isinstance(variable.get_value(), jax.Array | np.ndarray)


def _path_by_leaf(module: object, by_leaf: dict[int, str]) -> str | None:
    """The path of a module that a transformation has copied, known by one of its tensors."""
    for inner, variable in nnx.to_flat_state(nnx.state(module, nnx.Variable)):
        full, name = by_leaf.get(id(variable.get_value())), _name(inner)
        if full is not None and f".{full}".endswith(f".{name}"):
            return full[: len(full) - len(name)].rstrip(".")
    return None


def _is_idle(module: nnx.Module) -> bool:
    """Whether the module is dropout that drops nothing."""
    return isinstance(module, nnx.Dropout) and (module.deterministic or module.rate == 0)


def _filled(state: nnx.State, tensors: Tensors) -> nnx.State:
    leaves = [(path, v.replace(tensors[_name(path)])) for path, v in nnx.to_flat_state(state)]
    return nnx.from_flat_state(leaves) if leaves else state


def _name(path: tuple[object, ...]) -> str:
    return ".".join(map(str, path))
