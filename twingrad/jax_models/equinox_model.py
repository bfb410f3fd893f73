"""Equinox modules, alone, with state, or as the parameters of a plain function."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import equinox
import jax

from twingrad.calls import only_loss
from twingrad.foreign import Loss, Model, ModuleCall, Tree
from twingrad.jax_models.function_model import FunctionModel
from twingrad.jax_models.model import (
    Calls,
    Handler,
    JaxModel,
    PathOf,
    Tensors,
    dotted,
    is_number,
    patched,
)

# Names of what stock layers keep as the parts of one state.
_STATISTICS = {"0": "running_mean", "1": "running_var"}


class EquinoxModel(JaxModel):
    """An ``eqx.Module``, or a tuple of one with its ``eqx.nn.State``. Its numbers are trained.

    With state, the loss is called as ``loss(model, state, *batch)`` and returns the loss and the
    new state. Weights are (out, in) and images have channels first, as in PyTorch.
    """

    channels_last = False

    def take(self, model: Model) -> None:
        """Read arrays and modules; in evaluation mode dropout and norms are set to it."""
        module, *state = model if isinstance(model, tuple) else (model,)
        module = equinox.nn.inference_mode(module, not self.train)
        arrays, self.static = equinox.partition(module, equinox.is_array)
        flat, self.form = jax.tree_util.tree_flatten_with_path(arrays)
        self.paths = [dotted(path) for path, _ in flat]
        self.tensors = {p: self.cast(x) for p, (_, x) in zip(self.paths, flat, strict=True)}
        self.trained = {path for path, x in self.tensors.items() if is_number(x)}
        self.modules = dict(submodules(module))
        self.kinds = {path: type(m) for path, m in self.modules.items()}
        self.held: list[str] = []
        if state:
            self._take_state(module, state[0])

    def _take_state(self, module: Model, state: Model) -> None:
        # A state is a dictionary by index; an index lies in the module that it belongs to.
        is_index = _is_index
        leaves, _ = jax.tree_util.tree_flatten_with_path(module, is_leaf=is_index)
        named = [
            (f"{dotted(path)}.{dotted(inner)}".rstrip("."), x)
            for path, index in leaves
            if is_index(index)
            for inner, x in jax.tree_util.tree_flatten_with_path(state.get(index))[0]
        ]
        by_value = {id(x): _statistic(name) for name, x in named}
        flat, self.state_form = jax.tree_util.tree_flatten(state)
        self.held = [by_value[id(x)] for x in flat]
        self.tensors |= {p: self.cast(x) for p, x in zip(self.held, flat, strict=True)}
        self.state = {path for path in self.held if is_number(self.tensors[path])}

    def run(
        self,
        tensors: Tensors,
        loss_fn: Loss,
        batch: tuple[jax.Array, ...],
        handler: Handler | None,
    ) -> tuple[jax.Array, Tensors]:
        """The loss of a module put together from the tensors, and the state that it returns."""
        arrays = jax.tree_util.tree_unflatten(self.form, [tensors[p] for p in self.paths])
        module = equinox.combine(arrays, self.static)
        given = [module]
        if self.held:
            values = [tensors[path] for path in self.held]
            given.append(jax.tree_util.tree_unflatten(self.state_form, values))
        by_leaf = {id(tensors[path]): path for path in self.paths}
        calls = Calls(_without_state(handler), self.hidden) if handler else None
        with hooked(module, by_leaf, calls) if calls else nullcontext():
            result = loss_fn(*given, *batch)
        return only_loss(result), self._state_of(result)

    def outputs(self, model: Model, *batch: Tree) -> tuple[Tree, ...]:
        """Outputs of a module that is written for one example, over the batch's first axis."""
        if not self.held:
            return (jax.vmap(model, axis_name="batch")(*batch),)
        state, *inputs = batch
        axes = (*(0 for _ in inputs), None)
        mapped = jax.vmap(model, axis_name="batch", in_axes=axes, out_axes=(0, None))
        return tuple(mapped(*inputs, state))

    def own_tree(self, parameters: Tensors) -> Tree:
        """The module with its arrays alone, as ``eqx.filter(module, eqx.is_array)`` has it."""
        if parameters.keys() != set(self.paths):
            return super().own_tree(parameters)
        return jax.tree_util.tree_unflatten(self.form, [parameters[p] for p in self.paths])

    def whole_tree(self, leaves: Mapping[str, object]) -> Tree:
        """The module with its arrays alone; with state, a dictionary of model and state."""
        model = jax.tree_util.tree_unflatten(self.form, [leaves[path] for path in self.paths])
        if not self.held:
            return model
        state = jax.tree_util.tree_unflatten(self.state_form, [leaves[p] for p in self.held])
        return {"model": model, "state": state}

    def _state_of(self, result: Tree) -> Tensors:
        parts = result if isinstance(result, tuple | list) else ()
        states = [
            x
            for x in jax.tree_util.tree_leaves(parts, is_leaf=_is_state)
            if _is_state(x)
        ]  # fmt: skip
        if not self.held or not states:
            return {}
        after = dict(zip(self.held, jax.tree_util.tree_leaves(states[-1]), strict=True))
        return {path: self.cast(x) for path, x in after.items()}


class FunctionOfModules(FunctionModel):
    """A tuple of a function and parameters among which are Equinox modules, which are seen."""

    channels_last = False

    def take(self, model: Model) -> None:
        """Read parameters as those of any function, and the modules in them."""
        super().take(model)
        self.given = model[1]
        self.kinds |= {path: type(m) for path, m in submodules(self.given)}

    def run(
        self,
        tensors: Tensors,
        loss_fn: Loss,
        batch: tuple[jax.Array, ...],
        handler: Handler | None,
    ) -> tuple[jax.Array, Tensors]:
        """The loss, with calls of the modules handled."""
        by_leaf = {id(tensors[path]): path for path in self.params}
        calls = Calls(_without_state(handler), self.hidden) if handler else None
        with hooked(self.given, by_leaf, calls, whole=False) if calls else nullcontext():
            return super().run(tensors, loss_fn, batch, handler)


def submodules(tree: Tree) -> Iterator[tuple[str, Model]]:
    """Every Equinox module in a tree with its path, the outer before the inner."""

    def inside(path: tuple[object, ...], tree: Tree) -> Iterator[tuple[str, Model]]:
        if isinstance(tree, equinox.Module):
            yield dotted(path), tree
        children, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is not tree)
        for part, child in children:
            if child is not tree:
                yield from inside((*path, *part), child)

    yield from inside((), tree)


@contextmanager
def hooked(tree: Tree, by_leaf: dict[int, str], calls: Calls, whole: bool = True) -> Iterator[None]:
    """Within, calls of the modules in ``tree`` are handled, whatever copies of them are called.

    Those of ``tree`` itself are handled if ``whole``: where it is a function's parameters, the
    function is the whole.
    """
    classes = {type(m) for _, m in submodules(tree) if callable(m)}
    classes -= {cls for cls in classes if cls.__module__.startswith("equinox._")}
    path_of = _path_of(by_leaf, tree)

    def inner(module: object) -> str | None:
        return path_of(module) or None

    with patched(classes, path_of if whole else inner, calls):
        yield


def _path_of(by_leaf: dict[int, str], tree: Tree) -> PathOf:
    """Paths of modules, known by one of their tensors, since modules are copied all the time."""
    by_id = {id(module): path for path, module in submodules(tree)}

    def path_of(module: object) -> str | None:
        if isinstance(module, equinox.nn.Dropout):
            return None
        for inner, leaf in jax.tree_util.tree_flatten_with_path(module)[0]:
            full, name = by_leaf.get(id(leaf)), dotted(inner)
            if full is not None and f".{full}".endswith(f".{name}"):
                return full[: len(full) - len(name)].rstrip(".")
        return by_id.get(id(module))

    return path_of


class _Opaque:
    """State or a random key on its way through a handler, which leaves it alone."""

    def __init__(self, value: Tree):
        self.value = value


def _without_state(handler: Handler) -> Handler:
    """The handler that sees no state among inputs and outputs."""

    def handle(key: Tree, call: ModuleCall, args: Tree, kwargs: Tree) -> Tree:
        hidden = {n: _Opaque(x) if n == "key" else _hide(x) for n, x in kwargs.items()}

        def shown(*a: Tree, **k: Tree) -> Tree:
            return _hide(call(*_show(a), **_show(k)))

        return _show(handler(key, shown, _hide(args), hidden))

    return handle


def _hide(tree: Tree) -> Tree:
    return jax.tree_util.tree_map(
        lambda x: _Opaque(x) if _is_state(x) else x, tree, is_leaf=_is_state
    )


def _show(tree: Tree) -> Tree:
    return jax.tree_util.tree_map(lambda x: x.value if isinstance(x, _Opaque) else x, tree)


def _is_state(x: object) -> bool:
    return isinstance(x, equinox.nn.State)


def _is_index(x: object) -> bool:
    return isinstance(x, equinox.nn.StateIndex)


def _statistic(name: str) -> str:
    """``norm.batch_state_index.0`` as ``norm.running_mean``; others as they are."""
    owner, _, part = name.rpartition(".")
    layer, _, index = owner.rpartition(".")
    if index in ("batch_state_index", "ema_state_index") and part in _STATISTICS:
        return f"{layer}.{_STATISTICS[part]}".lstrip(".")
    return name
