"""Runners of a live pair's sides."""

from collections.abc import Callable
from typing import TypeVar

from twingrad.decode import Decode
from twingrad.decoding.runner import Runner
from twingrad.live import LivePair
from twingrad.sides import Framework

T = TypeVar("T")


def decode_of(live: LivePair, side: Framework) -> Decode:
    """The decoding functions of a side that has them."""
    decode = live.pair.torch_decode if side == "torch" else live.pair.jax_decode
    assert decode is not None
    return decode


def on_side(live: LivePair, side: Framework, use: Callable[[Runner], T]) -> T:
    """The result of ``use``, which is given a runner of a model as it was before all decoding."""
    decode = decode_of(live, side)
    if side == "torch":
        from twingrad.decoding import torch_runner
        from twingrad.torch_subject import Subject

        torch = live.torch
        assert isinstance(torch, Subject)
        return live.on_torch(lambda: torch_runner.within(torch, decode, use), what="torch_decode")
    from twingrad import jax_probe
    from twingrad.decoding import jax_runner

    jax = live.jax
    assert isinstance(jax, jax_probe.Subject)
    return live.on_jax(lambda: jax_runner.within(jax, decode, use), what="jax_decode")
