"""One pass of any JAX model, with the inputs and outputs of every module call and gradients there.

What ``torch_probe.observe`` records of a PyTorch model. Gradients are those of zeros that are added
to every tensor: to what a module is given, so that the gradient is what flows back through this
module alone, and to what its caller gets.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from twingrad.calls import Call, CallSite, Event, Key, Pass, Way
from twingrad.foreign import Array, Loss, ModuleCall, Tree, Untyped
from twingrad.jax_compiled import compiled
from twingrad.jax_models import tracing
from twingrad.jax_models.model import Tensors, is_float
from twingrad.jax_probe import Subject, conjugated

Sites = dict[CallSite, jax.Array]


def observe(
    subject: Subject, loss_fn: Loss, batch: Sequence[Array], only: str | None = None
) -> Pass:
    """Forward and backward, with every call's tensors and their gradients.

    ``statistics`` of the pass are the state afterwards. With ``only``, a regular expression,
    tensors are kept of the model's calls and of those of modules whose paths it finds; others are
    ``left_out``.
    """
    kinds = subject.paths(loss_fn, batch)
    moving = {path: x for path, x in subject.tensors.items() if path in subject.trained}
    nudges: Sites = {}

    def loss_of(moving: Tensors, nudges: Sites, trace: "_Trace") -> tuple[jax.Array, Tree]:
        tensors = {**subject.tensors, **moving}
        loss, state = subject.run(tensors, loss_fn, subject.batch(batch), trace.handle)
        return loss, (state, trace.sites)

    first = _Trace(only)
    jax.eval_shape(lambda m: loss_of(m, {}, first)[0], moving)
    nudges = {site: jnp.zeros(*shape) for site, shape in first.shapes.items()}
    run = compiled(
        jax.value_and_grad(
            lambda m, n: loss_of(m, n, _Trace(only, n)), argnums=(0, 1), has_aux=True
        )
    )
    (loss, (state, sites)), (gradients, at_sites) = run(moving, nudges)
    calls = {
        key: Call(
            key=key,
            kind=kinds.get(key, ""),
            inputs=_at(sites, key, "in"),
            integers=_at(sites, key, "index"),
            outputs=_at(sites, key, "out"),
            input_gradients=_at(at_sites, key, "in"),
            output_gradients=_at(at_sites, key, "out"),
        )
        for way, key in first.events
        if way == "enter"
    }
    return Pass(
        loss=float(loss),
        calls=calls,
        events=first.events,
        gradients={path: conjugated(g) for path, g in gradients.items()},
        statistics={path: np.asarray(x) for path, x in state.items()},
        left_out=[key for key in kinds if key not in calls],
    )


def _at(sites: Mapping[CallSite, jax.Array], key: Key, way: Way) -> list[Array]:
    """One call's tensors, in their order."""
    found = sorted((site for site in sites if site[:2] == (key, way)), key=lambda site: site[2])
    return [np.asarray(sites[site]) for site in found]


@dataclass
class _Trace:
    """One trace of the model: its tensors site by site, each with a nudge if there is one."""

    only: str | None
    nudges: Mapping[CallSite, jax.Array] = field(default_factory=dict)
    sites: Sites = field(default_factory=dict)
    shapes: dict[CallSite, tuple[tuple[int, ...], Untyped]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def handle(self, key: Key, call: ModuleCall, args: Tree, kwargs: Tree) -> Tree:
        """The output for the call's caller."""
        if key.path and self.only is not None and not re.search(self.only, key.path):
            return call(*args, **kwargs)
        self.events.append(("enter", key))
        flat, form = jax.tree_util.tree_flatten((args, kwargs))
        indices = [x for x in flat if _is_index(x)]
        tracing.whole(lambda xs: self._kept(key, "index", xs), indices)
        args, kwargs = jax.tree_util.tree_unflatten(form, self._nudged(key, "in", flat))
        output = call(*args, **kwargs)
        self.events.append(("leave", key))
        flat, form = jax.tree_util.tree_flatten(output)
        return jax.tree_util.tree_unflatten(form, self._nudged(key, "out", flat))

    def _nudged(self, key: Key, way: Way, flat: list[Tree]) -> list[Tree]:
        places = [i for i, x in enumerate(flat) if is_float(x)]
        moved = tracing.whole(lambda xs: self._kept(key, way, xs), [flat[i] for i in places])
        put = dict(zip(places, moved or [], strict=False))
        return [put.get(i, x) for i, x in enumerate(flat)]

    def _kept(self, key: Key, way: Way, tensors: list[jax.Array]) -> list[jax.Array]:
        moved = []
        for number, value in enumerate(tensors):
            site, x = (key, way, number), jnp.asarray(value)
            if way != "index":
                self.shapes[site] = (x.shape, x.dtype)
            self.sites[site] = x
            nudge = self.nudges.get(site)
            moved.append(value if nudge is None else x + nudge)
        return moved


def _is_index(x: Tree) -> bool:
    return hasattr(x, "dtype") and bool(jnp.issubdtype(x.dtype, jnp.integer))
