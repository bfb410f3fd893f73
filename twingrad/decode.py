"""How one side of a pair decodes with a cache."""

from dataclasses import dataclass

from twingrad.foreign import ModuleCall


@dataclass(frozen=True, kw_only=True)
class Decode:
    """The functions by which one side of a pair decodes, given as ``torch_decode``, ``jax_decode``.

    ``cache(model, rows, length)`` makes an empty cache for ``rows`` sequences of ``length``
    positions, in whatever containers. ``step(model, tokens, cache, position)`` is given integers
    [B, T], of which the first stands at ``position``, an ``int``: several tokens from position 0
    for a prompt, one afterwards. It returns logits and the cache to go on from; logits [B, T, V],
    or of the last token alone [B, V] or [B, 1, V]. ``forward(model, tokens)`` returns the logits of
    all positions [B, T, V] without a cache; where it is left out, the model is called with the
    tokens, and the first of several outputs taken.
    ``model`` is what the side's loss is given. With an Equinox state it is a tuple of module and
    state.

    Raises ``ValueError`` for what is no function.

    Example::

        decode = twingrad.Decode(
            cache=lambda model, rows, length: model.new_cache(rows, length),
            step=lambda model, tokens, cache, position: model.step(tokens, cache, position),
        )
    """

    cache: ModuleCall
    step: ModuleCall
    forward: ModuleCall | None = None

    def __post_init__(self) -> None:
        for name in ("cache", "step", "forward"):
            value = getattr(self, name)
            if not callable(value) and not (name == "forward" and value is None):
                raise ValueError(f"{name} of Decode is {value!r:.200}: expected a function")
