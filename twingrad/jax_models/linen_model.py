"""Flax Linen modules with their variables."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import jax
from flax import linen

from twingrad.calls import only_loss
from twingrad.foreign import Loss, Model, ModuleCall, Tree
from twingrad.jax_models.model import Calls, Handler, JaxModel, Tensors, dotted, is_number

TRAINED = "params"
STATISTICS = "batch_stats"
# Recurrent cells make what they carry in their parameters' dtype, which says float32.
CARRY = "initialize_carry"


class LinenModel(JaxModel):
    """A tuple of a ``linen.Module`` and its variables; collections beside ``params`` are state.

    The loss is given a function of inputs, which passes keyword arguments on to ``apply``. In
    training mode all state is mutable, whether or not the call says so.
    """

    def take(self, model: Model) -> None:
        """Read the variables, by collection."""
        self.module, variables = model
        if not isinstance(variables, Mapping) or TRAINED not in variables:
            variables = {TRAINED: variables}
        flat, self.form = jax.tree_util.tree_flatten_with_path(variables)
        self.collections = [dotted(path[:1]) for path, _ in flat]
        inner = [dotted(path[1:]) or dotted(path) for path, _ in flat]
        self.paths = [
            name if inner.count(name) == 1 or kind == TRAINED else f"{kind}.{name}"
            for name, kind in zip(inner, self.collections, strict=True)
        ]
        self.tensors = {p: self.cast(x) for p, (_, x) in zip(self.paths, flat, strict=True)}
        kind_of = dict(zip(self.paths, self.collections, strict=True))
        numbers = {path for path, x in self.tensors.items() if is_number(x)}
        self.trained = {path for path in numbers if kind_of[path] == TRAINED}
        self.state = numbers - self.trained
        self.required = {path for path in self.state if kind_of[path] == STATISTICS}

    def run(
        self,
        tensors: Tensors,
        loss_fn: Loss,
        batch: tuple[jax.Array, ...],
        handler: Handler | None,
    ) -> tuple[jax.Array, Tensors]:
        """The loss, with the updates of every ``apply`` that has some."""
        variables = jax.tree_util.tree_unflatten(self.form, [tensors[p] for p in self.paths])
        after: Tensors = {}
        others = sorted(set(self.collections) - {TRAINED})

        def model(*args: Tree, **kwargs: Tree) -> Tree:
            asked = kwargs.get("mutable", False)
            if asked is False and self.train and others:
                kwargs["mutable"] = others
            result = self.module.apply(variables, *args, **kwargs)
            if kwargs.get("mutable", False) is False:
                return result
            after.update(self._updates(result[1]))
            return result if asked is not False else result[0]

        with self._intercepted(handler) if handler else nullcontext():
            return only_loss(loss_fn(model, *batch)), after

    def whole_tree(self, leaves: Mapping[str, object]) -> Tree:
        """The variables, by collection."""
        return jax.tree_util.tree_unflatten(self.form, [leaves[path] for path in self.paths])

    def _updates(self, collections: Mapping[str, Tree]) -> Tensors:
        """Updated state by path; collections that are new, as recorded outputs, are left out."""
        flat, _ = jax.tree_util.tree_flatten_with_path(dict(collections))
        named = {}
        for path, x in flat:
            name, long = dotted(path[1:]), dotted(path)
            named[long if long in self.tensors else name] = x
        return {path: self.cast(x) for path, x in named.items() if path in self.tensors}

    @contextmanager
    def _intercepted(self, handler: Handler) -> Iterator[None]:
        calls = Calls(handler, self.hidden)

        def through(next_fun: ModuleCall, args: Tree, kwargs: Tree, context: Model) -> Tree:
            module = context.module
            if context.method_name == CARRY:
                return self.cast_floats(next_fun(*args, **kwargs))
            if context.method_name != "__call__" or isinstance(module, linen.Dropout):
                return next_fun(*args, **kwargs)
            path = ".".join(module.path)
            self.kinds[path] = type(module)
            return calls.handle(path, next_fun, args, kwargs)

        with linen.intercept_methods(through):
            yield
