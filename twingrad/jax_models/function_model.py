"""Plain functions of parameters, with state or without."""

from collections.abc import Mapping

import jax

from twingrad.calls import only_loss
from twingrad.foreign import Loss, Model, Tree
from twingrad.jax_models.model import Calls, Handler, JaxModel, Tensors, dotted, is_number


class FunctionModel(JaxModel):
    """A tuple of a function and its parameters, or of a function, its parameters and its state.

    The loss is given a function of inputs alone. A function with state is called as
    ``function(params, state, *inputs)`` and returns its output and the new state.
    """

    def take(self, model: Model) -> None:
        """Read parameters and state, each a tree."""
        self.function, params, *state = model
        self.has_state = bool(state)
        flat, self.params_form = jax.tree_util.tree_flatten_with_path(params)
        self.params = [dotted(path) for path, _ in flat]
        self.tensors = {p: self.cast(x) for p, (_, x) in zip(self.params, flat, strict=True)}
        self.trained = {path for path, x in self.tensors.items() if is_number(x)}
        self.kinds[""] = type(self.function)
        self.held: list[str] = []
        if state:
            flat, self.state_form = jax.tree_util.tree_flatten_with_path(state[0])
            self.held = [self._free(dotted(path)) for path, _ in flat]
            self.tensors |= {p: self.cast(x) for p, (_, x) in zip(self.held, flat, strict=True)}
            self.state = {path for path in self.held if is_number(self.tensors[path])}

    def _free(self, path: str) -> str:
        return f"state.{path}" if path in self.tensors else path

    def run(
        self,
        tensors: Tensors,
        loss_fn: Loss,
        batch: tuple[jax.Array, ...],
        handler: Handler | None,
    ) -> tuple[jax.Array, Tensors]:
        """The loss; each call of the function goes on from the state that the last one left."""
        params = self._tree(self.params_form, self.params, tensors)
        now = [self._tree(self.state_form, self.held, tensors)] if self.has_state else []
        calls = Calls(handler, self.hidden) if handler else None

        def apply(*args: Tree, **kwargs: Tree) -> Tree:
            result = self.function(params, *now, *args, **kwargs)
            if not self.has_state:
                return result
            output, now[0] = result
            return output

        def model(*args: Tree, **kwargs: Tree) -> Tree:
            return calls.handle("", apply, args, kwargs) if calls else apply(*args, **kwargs)

        loss = only_loss(loss_fn(model, *batch))
        after = jax.tree_util.tree_leaves(now[0]) if now else []
        named = dict(zip(self.held, after, strict=True))
        return loss, {path: self.cast(x) for path, x in named.items()}

    def own_tree(self, parameters: Tensors) -> Tree:
        """The parameters in the containers in which the pair gives them."""
        if parameters.keys() != set(self.params):
            return super().own_tree(parameters)
        return self._tree(self.params_form, self.params, parameters)

    def whole_tree(self, leaves: Mapping[str, object]) -> Tree:
        """The parameters as the pair gives them; with state, a dictionary of params and state."""
        params = self._tree(self.params_form, self.params, leaves)
        if not self.has_state:
            return params
        return {"params": params, "state": self._tree(self.state_form, self.held, leaves)}

    @staticmethod
    def _tree(
        form: jax.tree_util.PyTreeDef, paths: list[str], tensors: Mapping[str, object]
    ) -> Tree:
        return jax.tree_util.tree_unflatten(form, [tensors[path] for path in paths])
