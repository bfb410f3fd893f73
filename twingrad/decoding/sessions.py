"""Sessions of decoding: uses of a model as it was before all decoding."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from twingrad.decode import Decode
from twingrad.decoding.runner import Runner
from twingrad.live import LivePair
from twingrad.pair import Pair
from twingrad.sides import Framework, JaxSide, TorchSide

T = TypeVar("T")


class Session(Protocol):
    """One side of a pair that decodes, whose model is as it was before each time."""

    def __call__(self, use: Callable[[Runner], T]) -> T:
        """The result of ``use``, which is given a runner."""


def decode_of(pair: Pair, side: Framework) -> Decode:
    """The decoding functions of a side that has them."""
    decode = pair.torch_decode if side == "torch" else pair.jax_decode
    assert decode is not None
    return decode


def on_side(live: LivePair, side: Framework, use: Callable[[Runner], T]) -> T:
    """The result of ``use``, which is given a runner of a live side."""
    decode = decode_of(live.pair, side)
    if side == "torch":
        return live.on_torch(lambda: on_model(live.torch, side, decode, use), what="torch_decode")
    return live.on_jax(lambda: on_model(live.jax, side, decode, use), what="jax_decode")


def on_model(
    subject: TorchSide | JaxSide, side: Framework, decode: Decode, use: Callable[[Runner], T]
) -> T:
    """The result of ``use``, which is given a runner of a model that is here."""
    if side == "torch":
        from twingrad.decoding import torch_runner
        from twingrad.torch_subject import Subject

        assert isinstance(subject, Subject)
        return torch_runner.within(subject, decode, use)
    from twingrad import jax_probe
    from twingrad.decoding import jax_runner

    assert isinstance(subject, jax_probe.Subject)
    return jax_runner.within(subject, decode, use)
