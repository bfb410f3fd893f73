"""Haiku's transformed functions with their parameters and state."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import haiku
import jax

from twingrad.calls import only_loss
from twingrad.foreign import Loss, Model, ModuleCall, Tree
from twingrad.jax_models.model import Calls, Handler, JaxModel, Tensors, dotted, is_number

# A recurrent core makes its first state in float32, whatever its parameters are.
CARRY = "initial_state"
AVERAGE = ".average"


class HaikuModel(JaxModel):
    """A tuple of ``hk.transform(f)`` and its parameters, or of one with state, and both of these.

    The loss is given a function of inputs: the random key is ``None``, unless the call has a
    keyword ``rng``.
    """

    def take(self, model: Model) -> None:
        """Read parameters and state, each a dictionary by module."""
        self.transformed, params, *state = model
        self.has_state = isinstance(self.transformed, haiku.TransformedWithState)
        if self.has_state != bool(state):
            needed = "(transformed, params, state)" if self.has_state else "(transformed, params)"
            raise ValueError(f"of this Haiku function jax is a tuple {needed}")
        parts = [params, *state]
        self.forms, self.paths = [], []
        for part in parts:
            flat, form = jax.tree_util.tree_flatten_with_path(part)
            paths = [self._free(_plain(dotted(path))) for path, _ in flat]
            self.tensors |= {p: self.cast(x) for p, (_, x) in zip(paths, flat, strict=True)}
            self.forms.append(form)
            self.paths.append(paths)
        self.trained = {path for path in self.paths[0] if is_number(self.tensors[path])}
        if state:
            self.state = {path for path in self.paths[1] if is_number(self.tensors[path])}
            # What a moving average is made from is no state of its own.
            self.state -= {f"{p.removesuffix(AVERAGE)}.hidden" for p in self.state}
        leading = 2 if self.has_state else 1
        names = list(inspect.signature(self.transformed.apply).parameters)[leading : leading + 1]
        self.takes_rng = names == ["rng"]

    def _free(self, path: str) -> str:
        return f"state.{path}" if path in self.tensors else path

    def run(
        self,
        tensors: Tensors,
        loss_fn: Loss,
        batch: tuple[jax.Array, ...],
        handler: Handler | None,
    ) -> tuple[jax.Array, Tensors]:
        """The loss; each call goes on from the state that the last one left."""
        params, *now = (
            jax.tree_util.tree_unflatten(form, [tensors[path] for path in paths])
            for form, paths in zip(self.forms, self.paths, strict=True)
        )

        def model(*args: Tree, **kwargs: Tree) -> Tree:
            rng = (kwargs.pop("rng", None),) if self.takes_rng else ()
            result = self.transformed.apply(params, *now, *rng, *args, **kwargs)
            if not self.has_state:
                return result
            output, now[0] = result
            return output

        calls = Calls(handler, self.hidden) if handler else None

        def whole(*args: Tree, **kwargs: Tree) -> Tree:
            return calls.handle("", model, args, kwargs) if calls else model(*args, **kwargs)

        with self._intercepted(calls) if calls else nullcontext():
            loss = only_loss(loss_fn(whole, *batch))
        after = jax.tree_util.tree_leaves(now[0]) if now else []
        named = dict(zip(self.paths[1], after, strict=True)) if now else {}
        return loss, {path: self.cast(x) for path, x in named.items()}

    def whole_tree(self, leaves: Mapping[str, object]) -> Tree:
        """The parameters as the pair gives them; with state, a dictionary of params and state."""
        trees = [
            jax.tree_util.tree_unflatten(form, [leaves[path] for path in paths])
            for form, paths in zip(self.forms, self.paths, strict=True)
        ]
        return dict(zip(("params", "state"), trees, strict=True)) if self.has_state else trees[0]

    @contextmanager
    def _intercepted(self, calls: Calls) -> Iterator[None]:
        def through(next_fun: ModuleCall, args: Tree, kwargs: Tree, context: Model) -> Tree:
            if context.method_name == CARRY:
                return self.cast_floats(next_fun(*args, **kwargs))
            if context.method_name != "__call__":
                return next_fun(*args, **kwargs)
            path = _plain(context.module.module_name)
            self.kinds[path] = type(context.module)
            return calls.handle(path, next_fun, args, kwargs)

        with haiku.intercept_methods(through):
            yield


def _plain(name: str) -> str:
    """Haiku's ``mlp/~/linear_0`` as ``mlp.linear_0``; ~ only says that it was made in ``init``."""
    return ".".join(part for part in name.replace(".", "/").split("/") if part != "~")
