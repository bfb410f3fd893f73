"""Any JAX model, run with every module call given PyTorch's input to the same call.

Each module then computes from PyTorch's input, and whoever called it goes on from PyTorch's output.
An error of a module stays its own: nothing is passed on. The backward pass is cut in the same
places, so that one gradient of a sum says for every module what it passes back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from twingrad.alignment import placed
from twingrad.calls import Call, CallSite, Key, Plain, Replayed, Way
from twingrad.foreign import Array, Loss, ModuleCall, Tree
from twingrad.jax_models import tracing
from twingrad.jax_models.model import Tensors, is_float
from twingrad.jax_probe import Subject, conjugated
from twingrad.numerics import plain

SiteTensors = dict[CallSite, jax.Array]
_LOSS: CallSite = (Key("loss"), "out", 0)
# Passes of more call sites run operation by operation: what XLA takes to compile one grows with the
# square of its inputs and outputs, 4 s for 250 sites and 42 s for 1,000.
MOST_COMPILED = 128


def replay(
    subject: Subject,
    loss_fn: Loss,
    batch: Sequence[Array],
    partners: Mapping[Key, Call],
    channels_last: bool,
    known: Plain | None = None,
) -> Replayed:
    """Run ``subject`` with ``partners``' tensors in place of its own, wherever they fit.

    With ``known``, a pass of its own, tensors are matched by their numbers and not by position.
    """
    result = Replayed(loss=0.0)
    # Arguments of what is compiled: as constants they would be compiled with it.
    values: SiteTensors = {}
    weights: SiteTensors = {}

    def total(
        moving: Tensors, values: SiteTensors, weights: SiteTensors, collect: Replayed | None
    ) -> tuple[jax.Array, SiteTensors]:
        trace = _Trace(
            partners=partners,
            channels_last=channels_last,
            values=values,
            weights=weights,
            collect=collect,
            known=known,
            dtype=str(subject.dtype),
        )
        tensors = {**subject.tensors, **moving}
        loss, _ = subject.run(tensors, loss_fn, subject.batch(batch), trace.stand_in)
        terms = [*trace.terms, loss]
        return sum(terms, jnp.zeros((), loss.dtype)), {**trace.sites, _LOSS: loss}

    moving = {path: x for path, x in subject.tensors.items() if path in subject.trained}
    jax.eval_shape(lambda m: total(m, values, weights, result)[0], moving)
    gradient = jax.grad(lambda m, v, w: total(m, v, w, None), argnums=(0, 1), has_aux=True)
    if len(values) <= MOST_COMPILED:
        gradient = jax.jit(gradient)
    (gradients, at_sites), sites = gradient(moving, values, weights)
    result.loss = float(sites.pop(_LOSS))
    result.jax = {site: plain(x) for site, x in sites.items()}
    result.jax_gradients = {site: plain(x) for site, x in at_sites.items()}
    result.gradients = {path: conjugated(x) for path, x in gradients.items()}
    return result


@dataclass(kw_only=True)
class _Trace:
    """One trace of the model, with PyTorch's tensors in place of its own.

    ``sites`` are the model's own tensors, ``terms`` those weighted by PyTorch's gradients. The
    first trace fills ``values``, ``weights`` and ``collect`` with PyTorch's; later ones read them.
    """

    partners: Mapping[Key, Call]
    channels_last: bool
    values: SiteTensors
    weights: SiteTensors
    collect: Replayed | None
    known: Plain | None
    dtype: str
    sites: SiteTensors = field(default_factory=dict)
    terms: list[jax.Array] = field(default_factory=list)

    def stand_in(self, key: Key, call: ModuleCall, args: Tree, kwargs: Tree) -> Tree:
        """The output for the call's caller: PyTorch's where it fits."""
        partner = self.partners.get(key)
        if partner is None:
            return call(*args, **kwargs)
        flat, form = jax.tree_util.tree_flatten((args, kwargs))
        self._compare_integers(key, flat, partner)
        inputs = self._exchange(key, "in", flat, partner.inputs, partner.input_gradients)
        args, kwargs = jax.tree_util.tree_unflatten(form, inputs or flat)
        output = call(*args, **kwargs)
        if inputs is None:
            return output  # it went on from an input of its own
        flat, form = jax.tree_util.tree_flatten(output)
        outputs = self._exchange(key, "out", flat, partner.outputs, partner.output_gradients)
        return output if outputs is None else jax.tree_util.tree_unflatten(form, outputs)

    def _exchange(
        self, key: Key, way: Way, flat: list[Tree], torch: list[Array], gradients: list[Array]
    ) -> list[Tree] | None:
        """``flat`` with PyTorch's tensors for its floats; ``None`` where none fits.

        A float that PyTorch's call has no counterpart of stays as it is.
        """
        places = [i for i, x in enumerate(flat) if is_float(x)]
        if not places and not torch:
            return flat
        fits: list[bool] = []

        def exchange(own: list[jax.Array]) -> list[jax.Array]:
            exchanged = self._exchanged(key, way, own, torch, gradients)
            fits.append(exchanged is not None)
            return own if exchanged is None else exchanged

        exchanged = tracing.whole(exchange, [flat[i] for i in places])
        if exchanged is None or not all(fits):
            return None
        put = dict(zip(places, exchanged, strict=True))
        return [put.get(i, x) for i, x in enumerate(flat)]

    def _exchanged(
        self,
        key: Key,
        way: Way,
        own: list[jax.Array],
        torch: list[Array],
        gradients: list[Array],
    ) -> list[jax.Array] | None:
        shapes = [x.shape for x in own]
        matches = placed(torch, shapes, self._numbers(key, way), self.channels_last, self.dtype)
        if own and not any(matches):  # recorded, but not put in their place
            for number, (mine, x) in enumerate(zip(own, torch, strict=False)):
                self.sites[key, way, number] = mine
                if self.collect is not None:
                    self.collect.torch[key, way, number] = x
            return None
        exchanged = []
        for number, (mine, match) in enumerate(zip(own, matches, strict=True)):
            if match is None:
                exchanged.append(mine)
                continue
            site = (key, way, number)
            self.sites[site] = mine
            self._collect(site, match.value(torch), match.gradient(gradients), mine)
            self.terms.append(jnp.vdot(mine, self.weights[site]))
            exchanged.append(self.values[site])
        return exchanged

    def _numbers(self, key: Key, way: Way) -> list[Array] | None:
        """The model's own numbers there, where they may be looked for in another layout or order.

        What the model itself returns may not: there it is for users.
        """
        if self.known is None or (way == "out" and not key.path):
            return None
        return (self.known.inputs if way == "in" else self.known.outputs).get(key)

    def _collect(self, site: CallSite, value: Array, weight: Array, like: jax.Array) -> None:
        if self.collect is None:
            return
        self.collect.torch[site], self.collect.torch_gradients[site] = value, weight
        with jax.ensure_compile_time_eval():
            self.values[site] = jnp.asarray(value, like.dtype)
            self.weights[site] = jnp.asarray(weight, like.dtype)

    def _compare_integers(self, key: Key, flat: list[Tree], partner: Call) -> None:
        """Record indices, and leave them as they are."""
        indices = [x for x in flat if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.integer)]

        def record(own: list[jax.Array]) -> list[jax.Array]:
            for number, (x, ids) in enumerate(zip(own, partner.integers, strict=False)):
                self.sites[key, "index", number] = x
                if self.collect is not None:
                    fitting = ids.reshape(x.shape) if ids.size == x.size else ids
                    self.collect.integers[key, "index", number] = fitting
            return own

        tracing.whole(record, indices)
