"""One value of PyTorch's pass, computed again with operations changed."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from twingrad.calls import LOSS, Site
from twingrad.casts.lifting import lifted
from twingrad.casts.log import CastLog
from twingrad.diagnosis.replay import Divergence, Replay
from twingrad.diagnosis.sites import Layout, layouts, may_be, rerun_of
from twingrad.foreign import Array
from twingrad.torch_replay import Change, Operation, Rerun
from twingrad.torch_subject import Subject

SAME = 1e-9  # relative: how near the value that is computed again must be to the recorded one


@dataclass(frozen=True, kw_only=True)
class PlaceTrial:
    """The value at one place, by a module that is run again by itself."""

    rerun: Rerun
    site: Site
    layout: Layout
    backward: bool
    lift: bool

    @property
    def operations(self) -> Sequence[Operation]:
        """What the module computes the value by."""
        return self.rerun.operations

    def predict(self, change: Change) -> Array | None:
        """The value after a change; nothing where PyTorch refuses to compute it."""
        with _quietly(self.lift):
            try:
                value = self.rerun.run(change, backward=self.backward).get(self.site)
            except Exception:  # whatever PyTorch, or the module's own code, raises for it
                return None
        return None if value is None else self.layout(value)


@contextmanager
def _quietly(lift: bool) -> Iterator[None]:
    """Within, PyTorch runs as it did in the pass, and warns of nothing."""
    with warnings.catch_warnings(), np.errstate(all="ignore"), lifted("torch", lift, CastLog()):
        warnings.simplefilter("ignore")
        yield


def trial(replay: Replay, place: Divergence) -> PlaceTrial | None:
    """The trial of a place; nothing where its module alone does not give the recorded value."""
    owner, given = rerun_of(replay, place)
    live = replay.live
    if not isinstance(live.torch, Subject):
        return None
    rerun = Rerun(
        model=live.torch.model,
        loss=live.torch_loss,
        batch=live.pair.batch,
        dtype=live.dtype,
        owner=owner,
        calls=replay.seen.calls,
        given=given,
    )
    backward = place.stage == "backward"
    with _quietly(bool(live.lift)):
        try:
            with replay.feeding():
                rerun.prepare()
            values = rerun.run(backward=backward)
        except Exception:  # a module that cannot be called again, whatever it raises
            return None
    for site, value in values.items():
        if not may_be(site, place, owner == LOSS):
            continue
        for layout in layouts(replay, place, site):
            found = layout(value)
            if found is not None and _is_same(found, place.torch):
                return PlaceTrial(
                    rerun=rerun, site=site, layout=layout, backward=backward, lift=bool(live.lift)
                )
    return None


def _is_same(x: Array, recorded: Array) -> bool:
    if x.shape != recorded.shape or np.iscomplexobj(x):
        return False
    gap = float(np.linalg.norm((x - recorded).ravel()))
    return gap <= SAME * float(np.linalg.norm(recorded.ravel()))
