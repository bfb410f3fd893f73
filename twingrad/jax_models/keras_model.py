"""Keras layers and models, on Keras' JAX backend."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import jax
import keras

from twingrad.calls import only_loss
from twingrad.foreign import Loss, Model, ModuleCall, Tree, Untyped
from twingrad.jax_models.model import Calls, Handler, JaxModel, Tensors, is_number, patched

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class KerasModel(JaxModel):
    """A ``keras.Model`` or a layer that is built; its non-trainable numbers are state.

    It stays as it is: the tensors under test stand in for its variables while a pass goes on, as in
    ``stateless_call``, and its layers compute in the dtype under test. Names that Keras numbers
    through a whole process, such as ``dense_3``, are counted through the model.
    """

    def take(self, model: Model) -> None:
        """Read variables and layers; ``ValueError`` for another backend, and if it is not built."""
        backend = keras.backend.backend()
        if backend != "jax":
            raise ValueError(
                f"Keras computes with {backend}: set KERAS_BACKEND=jax before it is imported"
            )
        if not model.built:
            raise ValueError(
                f"the Keras model {model.name} has no weights yet: call it on an input, or give it "
                "an Input, before it is handed over"
            )
        self.model, self.layers = model, _layers(model)
        self.variables = _variables(model, self.layers)
        self.tensors = {path: self.cast(v.value) for path, v in self.variables.items()}
        numbers = {path for path, x in self.tensors.items() if is_number(x)}
        trained = {id(v) for v in model.trainable_variables}
        self.trained = {p for p in numbers if id(self.variables[p]) in trained}
        self.state = numbers - self.trained
        norms = [x for x in self.layers.values() if isinstance(x, keras.layers.BatchNormalization)]
        kept = {id(v) for norm in norms for v in norm.non_trainable_variables}
        self.required = {p for p in self.state if id(self.variables[p]) in kept}
        self.kinds = {path: type(layer) for path, layer in self.layers.items()}

    def run(
        self,
        tensors: Tensors,
        loss_fn: Loss,
        batch: tuple[jax.Array, ...],
        handler: Handler | None,
    ) -> tuple[jax.Array, Tensors]:
        """The loss, and what the pass has assigned to variables that are not trained."""
        mapping = [(variable, tensors[path]) for path, variable in self.variables.items()]
        hooks = nullcontext() if handler is None else self._hooked(handler)
        with self._in_dtype(), keras.StatelessScope(state_mapping=mapping) as scope, hooks:
            loss = only_loss(loss_fn(_InMode(self.model, self.train), *batch))
        still = [path for path in self.variables if path not in self.trained]
        after = {path: scope.get_current_value(self.variables[path]) for path in still}
        return loss, {path: tensors[path] if x is None else x for path, x in after.items()}

    def _hooked(self, handler: Handler) -> Tree:
        """A context in which calls of all layers that do something are handled."""
        paths = {id(x): path for path, x in self.layers.items() if not self._is_idle(x)}
        classes = {type(x) for x in self.layers.values() if id(x) in paths}
        return patched(classes, lambda x: paths.get(id(x)), Calls(handler, self.hidden))

    def _is_idle(self, layer: Model) -> bool:
        return isinstance(layer, keras.layers.Dropout) and not (self.train and layer.rate > 0)

    @contextmanager
    def _in_dtype(self) -> Iterator[None]:
        """Within, layers, their variables and the model's inputs have the dtype under test."""
        name = str(self.dtype)
        policy = keras.DTypePolicy(name)
        layers: list[Untyped] = list(self.model._flatten_layers())
        # A Sequential hands its calls to a model that is among no layers.
        layers += [x._functional for x in layers if getattr(x, "_functional", None) is not None]
        inputs = [x for layer in layers for x in getattr(layer, "_inputs", None) or ()]
        own = [v for v in self.variables.values() if "float" in str(v.dtype)]
        before = (
            [(x, "_dtype_policy", x._dtype_policy) for x in layers]
            + [(v, "_dtype", v._dtype) for v in own]
            + [(x, "_dtype", x._dtype) for x in inputs if "float" in str(x.dtype)]
        )
        for thing, attribute, _ in before:
            object.__setattr__(thing, attribute, policy if "policy" in attribute else name)
        try:
            yield
        finally:
            for thing, attribute, value in before:
                object.__setattr__(thing, attribute, value)


class _InMode:
    """A model whose calls say whether it trains, unless they do so themselves."""

    def __init__(self, model: Model, train: bool):
        self._model, self._train = model, train

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        return self._model(*args, **{"training": self._train, **kwargs})

    def __getattr__(self, name: str) -> ModuleCall:
        return getattr(self._model, name)  # type: ignore[no-any-return]


def _layers(model: Model) -> dict[str, Untyped]:
    """Every layer by its path within the model, the outer before the inner.

    A name of a user's own is a word of the path. In place of one that Keras made of the layer's
    class stands the attribute that holds the layer, or its name counted anew through the model.
    """
    found: dict[str, Untyped] = {"": model}
    seen = {id(model)}
    counts: dict[str, int] = {}

    def visit(parent: Untyped, path: str) -> None:
        attributes = _attributes(parent)
        children = []
        for layer in parent._layers:
            if id(layer) in seen or isinstance(layer, keras.layers.InputLayer):
                continue
            seen.add(id(layer))
            name = _name(layer, attributes, counts)
            here = f"{path}.{name}".lstrip(".")
            while here in found:
                here += "_"
            found[here] = layer
            children.append((layer, here))
        for layer, here in children:
            visit(layer, here)

    visit(model, "")
    return found


def _name(layer: Untyped, attributes: dict[int, str], counts: dict[str, int]) -> str:
    own = _WORDS.sub("_", type(layer).__name__).lower()
    name = str(layer.name)
    if not re.fullmatch(rf"{own}(_\d+)?", name):
        return name
    if id(layer) in attributes:
        return attributes[id(layer)]
    count = counts[own] = counts.get(own, -1) + 1
    return f"{own}_{count}" if count else own


def _attributes(parent: Untyped) -> dict[int, str]:
    """The attributes of a layer that hold others, in lists too, by the identity of these."""
    held: dict[int, str] = {}
    for name, value in vars(parent).items():
        if name.startswith("_"):
            continue
        if isinstance(value, keras.Layer):
            held.setdefault(id(value), name)
        elif isinstance(value, list | tuple):
            for place, x in enumerate(value):
                if isinstance(x, keras.Layer):
                    held.setdefault(id(x), f"{name}.{place}")
    return held


def _variables(model: Model, layers: dict[str, Untyped]) -> dict[str, Untyped]:
    """The model's variables by path: that of the layer that made each, and its own name."""
    owners = {
        id(v): path
        for path, layer in layers.items()
        for v in [*layer._trainable_variables, *layer._non_trainable_variables]
    }
    found: dict[str, Untyped] = {}
    for v in [*model.trainable_variables, *model.non_trainable_variables]:
        path = f"{owners[id(v)]}.{v.name}" if id(v) in owners else str(v.path).replace("/", ".")
        path = path.lstrip(".")
        while path in found:
            path += "_"
        found[path] = v
    return found
