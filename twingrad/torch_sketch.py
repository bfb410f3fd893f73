"""A PyTorch model's modules run again with operations changed, and what they give, in sketches.

A record has them, so that where PyTorch is not installed the causes are known that are found by
running its modules again.
"""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from torch import nn

from twingrad.calls import LOSS, Key, Pass, Site, given_calls
from twingrad.casts.lifting import lifted
from twingrad.casts.log import CastLog
from twingrad.diagnosis.hypotheses.changes import search
from twingrad.diagnosis.hypotheses.sketches import (
    MOST,
    NUMBERS,
    Guess,
    Scene,
    SiteSketch,
    sketch,
)
from twingrad.foreign import Array, Loss
from twingrad.torch_replay import Rerun

BUDGET_S = 30.0  # for all modules of a model
MOST_GUESSES = 2000  # of one module
CHANGED = 1e-12  # relative: what is nearer to PyTorch's own is no other computation


def scenes(
    model: nn.Module,
    loss: Loss,
    batch: Sequence[Array],
    dtype: str,
    lift: bool,
    seen: Pass,
    budget_s: float = BUDGET_S,
) -> list[Scene]:
    """What each module of ``model`` gives that is run again, its calls as in the pass ``seen``.

    Which calls within it are not run depends on which modules the other model has: those with
    parameters, all, or none. Modules for which there is no time are left out.
    """
    deadline = time.monotonic() + budget_s
    found: list[Scene] = []
    for owner, given in _reruns(model, seen):
        if time.monotonic() > deadline:
            break
        rerun = Rerun(
            model=model, loss=loss, batch=batch, dtype=dtype, owner=owner, calls=seen.calls,
            given=given,
        )  # fmt: skip
        with _quietly(lift):
            try:
                rerun.prepare()
            except Exception:  # a module that cannot be called again, whatever it raises
                continue
            for backward in (False, True):
                sites = _sites(rerun, backward, min(deadline, time.monotonic() + search.BUDGET_S))
                if sites:
                    found.append(
                        Scene(owner=owner, given=list(given), backward=backward, sites=sites)
                    )
    return found


def _reruns(model: nn.Module, seen: Pass) -> Iterator[tuple[Key, list[Key]]]:
    """Modules and the calls within that are not run, the likeliest choices first."""
    trained = {
        path for path, module in model.named_modules() if any(True for _ in module.parameters())
    }
    owners = [LOSS, *(key for key in seen.calls if not key.number)]
    exchanged = ({key for key in seen.calls if key.path in trained}, set(seen.calls), set[Key]())
    done: set[tuple[Key, tuple[Key, ...]]] = set()
    for keys in exchanged:
        for owner in owners:
            given = given_calls(owner, seen.events, keys - {owner})
            if (owner, tuple(given)) not in done:
                done.add((owner, tuple(given)))
                yield owner, given


@contextmanager
def _quietly(lift: bool) -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"), lifted("torch", lift, CastLog()):
        warnings.simplefilter("ignore")
        yield


def _sites(rerun: Rerun, backward: bool, deadline: float) -> list[SiteSketch]:
    """Every tensor of one way through the module, and what each change makes of it."""
    try:
        own = _small(rerun.run(backward=backward))
    except Exception:
        return []
    guesses: dict[Site, list[Guess]] = {site: [] for site in own}
    rows: dict[Site, list[Array]] = {site: [] for site in own}
    count = 0
    for rank, words, is_arithmetic, change in search.candidates(rerun.operations):
        count += 1
        if time.monotonic() > deadline or count > MOST_GUESSES:
            break
        try:
            values = rerun.run(change, backward=backward)
        except Exception:  # whatever PyTorch, or the module's own code, raises for it
            continue
        guess = Guess(rank=rank, torch=words.torch, jax=words.jax, is_arithmetic=is_arithmetic)
        for site, x in own.items():
            value = values.get(site)
            if value is not None and value.shape == x.shape and _is_other(value, x):
                guesses[site].append(guess)
                rows[site].append(sketch(value))
    return [
        SiteSketch(
            way=site[0], key=site[1], name=str(site[2]), shape=x.shape, own=sketch(x),
            guesses=guesses[site], rows=np.array(rows[site]).reshape(-1, NUMBERS),
        )
        for site, x in own.items()
    ]  # fmt: skip


def _small(values: Mapping[Site, Array]) -> dict[Site, Array]:
    """Tensors of real numbers that are small enough to be sketched."""
    return {
        site: x
        for site, x in values.items()
        if x.dtype.kind == "f" and x.size <= MOST and np.isfinite(x).all()
    }


def _is_other(value: Array, own: Array) -> bool:
    if value.dtype.kind != "f" or not np.isfinite(value).all():
        return False
    gap = float(np.linalg.norm((value - own).ravel()))
    return gap > CHANGED * float(np.linalg.norm(own.ravel()))
