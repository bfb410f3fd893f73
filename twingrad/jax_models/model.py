"""A JAX model of any kind, as its adapter has it: tensors by path, and a way to run it."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps

import jax
import jax.numpy as jnp
import numpy as np

from twingrad import devices
from twingrad.calls import Key
from twingrad.foreign import DType, Loss, Model, ModuleCall, Tree
from twingrad.jax_models import tracing
from twingrad.partners import Layout

Tensors = dict[str, jax.Array]
FloatType = DType
Handler = Callable[[Key, ModuleCall, Tree, Tree], Tree]  # (call, function, args, kwargs) -> output
# Layers of the libraries whose weights are known to lie so.
_LAYOUTS: dict[str, dict[Layout, tuple[str, ...]]] = {
    "flax": {
        "in out": ("Linear", "LinearGeneral", "Dense", "DenseGeneral", "Conv", "ConvTranspose"),
        "table": ("Embed",),
    },
    "keras": {
        "in out": ("Dense", "Conv1D", "Conv2D", "Conv3D"),
        "table": ("Embedding",),
    },
    "haiku": {
        "in out": ("Linear", "Conv1D", "Conv2D", "Conv3D", "ConvND"),
        "table": ("Embed",),
    },
    "equinox": {
        "out in": ("Linear", "Conv", "ConvTranspose", "GRUCell", "LSTMCell"),
        "table": ("Embedding",),
    },
}


def layout(kind: type | None) -> Layout:
    """How the weights of a library's own layer lie; empty for other classes."""
    for base in kind.__mro__ if kind else ():
        for known, names in _LAYOUTS.get(base.__module__.partition(".")[0], {}).items():
            if base.__name__ in names:
                return known
    return ""


class JaxModel(ABC):
    """Tensors of a model by path, those that are trained, and its pass with calls handled.

    ``state`` are paths of numbers that a pass may change; ``required`` those of them that have a
    partner in every port. A pass returns more than them, such as counters. ``kinds`` are classes
    of modules by path, as far as they are known.
    """

    tensors: Tensors
    trained: set[str]
    state: set[str]
    required: set[str]
    kinds: dict[str, type]
    channels_last = True  # how the library's convolutions have images

    def __init__(self, model: Model, dtype: FloatType, train: bool):
        self.dtype, self.train = dtype, train
        self.tensors, self.kinds = {}, {}
        self.trained, self.state, self.required = set(), set(), set()
        self.hidden: set[str] = set()  # modules with calls that no handler was given
        self.take(model)

    @abstractmethod
    def take(self, model: Model) -> None:
        """Read tensors and modules out of ``model``."""

    @abstractmethod
    def run(
        self,
        tensors: Tensors,
        loss_fn: Loss,
        batch: tuple[jax.Array, ...],
        handler: Handler | None,
    ) -> tuple[jax.Array, Tensors]:
        """The loss with these tensors, and the state afterwards, as far as the pass returns it."""

    def outputs(self, model: Model, *batch: jax.Array) -> tuple[Tree, ...]:
        """The output for a whole batch, and the new state if the loss is given state."""
        return (model(*batch),)

    def own_tree(self, parameters: Tensors) -> Tree:
        """Parameters as the model's own optimizer is given them, for masks that go by names.

        A dictionary of dictionaries where a kind of model has no other form, or where
        ``parameters`` are not all that it has.
        """
        return _nested(parameters)

    def whole_tree(self, leaves: Mapping[str, object]) -> Tree:
        """All tensors as the pair gives them, for a checkpoint: ``leaves`` by path, in a tree.

        With state it is a dictionary of two trees where parameters and state are two.
        """
        return _nested(leaves)

    def by_path(self, tree: Tree) -> Tensors:
        """The tensors of such a tree by path."""
        return {dotted(path): x for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]}

    def cast(self, x: Tree) -> jax.Array:
        """``x`` in the dtype under test: floats and complex numbers; all others as they are."""
        tensor: jax.Array = devices.put(jnp.asarray(x))
        if jnp.iscomplexobj(tensor):
            return tensor.astype(self.complex_dtype)
        return tensor.astype(self.dtype) if is_float(tensor) else tensor

    def cast_floats(self, tree: Tree) -> Tree:
        """All arrays in ``tree``, cast."""
        return jax.tree_util.tree_map(lambda x: self.cast(x) if is_float(x) else x, tree)

    @property
    def complex_dtype(self) -> type[np.complex64] | type[np.complex128]:
        """The complex dtype whose parts have this one's."""
        return np.complex128 if self.dtype == np.float64 else np.complex64


class Calls:
    """Calls of one pass, counted module by module, each given to a handler.

    Those that a handler could not see into go by uncounted; ``hidden`` are their modules' paths.
    """

    def __init__(self, handler: Handler, hidden: set[str]):
        self.handler, self.hidden = handler, hidden
        self.counts: Counter[str] = Counter()

    def pass_by(self, kind: str, args: Tree, kwargs: Tree) -> None:
        """Remember a call of a module whose path is not known, if it is out of reach."""
        if not tracing.within_reach((args, kwargs)):
            self.hidden.add(kind)

    def handle(self, path: str, call: ModuleCall, args: Tree, kwargs: Tree) -> Tree:
        """The output of one call of the module at ``path``."""
        if not tracing.within_reach((args, kwargs)):
            self.hidden.add(path)
            return call(*args, **kwargs)
        key = Key(path, self.counts[path])
        self.counts[path] += 1
        return self.handler(key, call, args, kwargs)


# (module) -> its path, or None where its calls are nobody's business
PathOf = Callable[[object], str | None]


@contextmanager
def patched(classes: set[type], path_of: PathOf, calls: Calls) -> Iterator[None]:
    """Within, calls of instances of ``classes`` go through ``calls``.

    For libraries without hooks: the classes' own ``__call__`` is replaced for the time being.
    """
    unpatched = {cls: vars(cls).get("__call__") for cls in classes}
    inside: set[int] = set()  # a class may call the one it is made from

    def hooked(call: ModuleCall) -> ModuleCall:
        @wraps(call)
        def through(module: object, *args: Tree, **kwargs: Tree) -> Tree:
            if id(module) in inside:
                return call(module, *args, **kwargs)
            path = path_of(module)
            if path is None:
                calls.pass_by(type(module).__name__, args, kwargs)
                return call(module, *args, **kwargs)
            inside.add(id(module))
            try:
                return calls.handle(path, lambda *a, **k: call(module, *a, **k), args, kwargs)
            finally:
                inside.discard(id(module))

        return through

    replaced = {cls: hooked(cls.__call__) for cls in classes}
    for cls, call in replaced.items():
        cls.__call__ = call  # type: ignore[method-assign]
    try:
        yield
    finally:
        for cls, own in unpatched.items():
            if own is None:  # inherited: uncover it again
                del cls.__call__
            else:
                cls.__call__ = own  # type: ignore[method-assign]


def is_float(x: object) -> bool:
    """Whether ``x`` is an array of floating-point numbers."""
    return hasattr(x, "dtype") and bool(jnp.issubdtype(x.dtype, jnp.floating))


def is_number(x: object) -> bool:
    """Whether ``x`` is an array of floating-point or complex numbers."""
    return hasattr(x, "dtype") and bool(jnp.issubdtype(x.dtype, jnp.inexact))


def _nested(leaves: Mapping[str, object]) -> Tree:
    """A dictionary of dictionaries, a level for each word of a path."""
    tree: dict[str, Tree] = {}
    for path, x in leaves.items():
        *words, last = path.split(".")
        within = tree
        for word in words:
            within = within.setdefault(word, {})
        within[last] = x
    return tree


def dotted(path: tuple[object, ...]) -> str:
    """A path in a tree as one name."""
    return ".".join(keys(path))


def keys(path: tuple[object, ...]) -> tuple[str, ...]:
    """The keys, indices and attributes that lead to a leaf of a tree."""
    return tuple(
        str(getattr(part, "key", getattr(part, "idx", getattr(part, "name", part))))
        for part in path
    )
