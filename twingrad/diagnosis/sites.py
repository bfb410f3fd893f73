"""Which value of a module that is run again by itself stands at a place where two models part."""

from collections.abc import Callable

from twingrad.alignment import Placed, default_axes, in_layout
from twingrad.calls import LOSS, Key, Site, given_calls
from twingrad.diagnosis.hypotheses import sketches
from twingrad.diagnosis.hypotheses.sketches import Scene, SiteSketch, Sketched
from twingrad.diagnosis.replay import Divergence, Replay
from twingrad.foreign import Array
from twingrad.live import ROOT

SAME = 1e-9  # relative: how near the value that is computed again must be to the recorded one
Layout = Callable[[Array], Array | None]


def rerun_of(replay: Replay, place: Divergence) -> tuple[Key, list[Key]]:
    """The module, or the loss, that computes the value at a place, and the calls not run in it."""
    owner = place.owner
    if place.what == "loss" or (owner == ROOT and ROOT not in replay.jax_calls):
        owner = LOSS
    handed = {key for key, way, _ in replay.replayed.torch_gradients if way == "out"}
    exchanged = {replay.torch_calls[key] for key in handed}
    return owner, given_calls(owner, replay.seen.events, exchanged)


def may_be(site: Site, place: Divergence, is_loss: bool) -> bool:
    """Whether a value is of the kind that stands at the place."""
    way, key, name = site
    if place.what == "parameter":
        return way == "parameter" and place.name.startswith(str(name))
    if place.what == "loss":
        return key == LOSS
    if place.stage == "forward":
        return (way, key) == (place.what, place.before if place.what == "in" else place.owner)
    return (way, key) == (place.what, place.owner if place.what == "in" else place.before)


def layouts(replay: Replay, place: Divergence, site: Site) -> list[Layout]:
    """Ways in which PyTorch's axes may stand at the place."""
    if place.what == "parameter":
        return [lambda x: replay.live.torch_parts({str(site[2]): x}).get(place.name)]
    shape = place.torch.shape
    return [
        lambda x: x if x.shape == shape else None,
        lambda x: in_layout(x, shape, channels_last=True),
        lambda x: in_layout(x, shape, channels_last=False),
    ]


def sketched(replay: Replay, place: Divergence, scenes: list[Scene]) -> Sketched | None:
    """The guesses that a record has for a place; nothing where they are of another computation."""
    owner, given = rerun_of(replay, place)
    backward = place.stage == "backward"
    for scene in scenes:
        if (scene.owner, set(scene.given), scene.backward) != (owner, set(given), backward):
            continue
        for site in scene.sites:
            name = site.name if site.way == "parameter" else int(site.name)
            if may_be((site.way, site.key, name), place, owner == LOSS):
                found = _as_sketched(site, place)
                if found is not None:
                    return found
    return None


def _as_sketched(site: SiteSketch, place: Divergence) -> Sketched | None:
    """JAX's tensor as PyTorch's lies, if PyTorch's own at the place is the one of the sketch."""
    if place.torch.shape != place.jax.shape or place.torch.dtype.kind != "f":
        return None
    for channels_last in (False, True):
        axes = default_axes(site.shape, place.torch.shape, channels_last)
        if axes is None:
            continue
        placed = Placed((0,), axes, place.torch.shape)
        torch, jax = (placed.undone(x, site.shape) for x in (place.torch, place.jax))
        if sketches.is_same(site.own, torch, SAME):
            return Sketched(site, jax)
    return None
