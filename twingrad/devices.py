"""The device on which both sides of a pair run: the CPU, or a GPU.

Models, batches and parameters are put there by the functions of this module alone.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from twingrad.environment import NEEDS, installed
from twingrad.foreign import Tensor, Untyped

if TYPE_CHECKING:
    import torch

DEVICES = ("cpu", "cuda")
# JAX would take most of a GPU's memory for itself, of which PyTorch needs some.
PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"
_DEVICE: ContextVar[str] = ContextVar("device", default="cpu")


def current() -> str:
    """The device that is in use."""
    return _DEVICE.get()


@contextmanager
def using(device: str, *frameworks: str) -> Iterator[None]:
    """Within, the ``frameworks``, both if none is named, run on ``device``.

    Raises ``ValueError`` for another device, and where a framework does not see it.
    """
    require(device, *frameworks)
    token = _DEVICE.set(device)
    try:
        yield
    finally:
        _DEVICE.reset(token)


def require(device: str, *frameworks: str) -> None:
    """Raise ``ValueError`` where ``device`` is none, or a framework does not see it."""
    if device not in DEVICES:
        raise ValueError(f"device {device!r}: a pair runs on {' or '.join(DEVICES)}")
    if device == "cpu":
        return
    os.environ.setdefault(PREALLOCATE, "false")
    without = [name for name in frameworks or NEEDS if not _sees(name, device)]
    if without:
        verb = "sees" if len(without) == 1 else "see"
        raise ValueError(
            f"{' and '.join(without)} {verb} no {device} device here: install 'twingrad[cuda]' on "
            "a machine with an NVIDIA GPU, or use --device cpu"
        )


def _sees(framework: str, device: str) -> bool:
    if framework == "torch":
        import torch

        return device == "cuda" and torch.cuda.is_available()
    import jax

    try:
        return bool(jax.devices(device))
    except RuntimeError:
        return False


def torch_device() -> "torch.device":
    """The device in use, as PyTorch has it."""
    import torch

    return torch.device(current())


def jax_device() -> Untyped:
    """The device in use, as JAX has it."""
    import jax

    return jax.devices(current())[0]


def put(x: Tensor) -> Tensor:
    """An array of JAX's on the device in use; what is traced, or is there, as it is."""
    import jax

    if isinstance(x, jax.core.Tracer):
        return x
    device = jax_device()
    return x if device in x.devices() else jax.device_put(x, device)


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Within, PyTorch makes tensors on the device in use; on a GPU it multiplies without TF32."""
    if current() == "cpu" or not installed("torch"):
        yield
        return
    import torch

    # Not ``allow_tf32`` of cuDNN, which raises where a convolution's precision was set by itself.
    cudnn: Untyped = torch.backends.cudnn
    layers = (cudnn.conv, cudnn.rnn)
    matmul, before = torch.get_float32_matmul_precision(), [one.fp32_precision for one in layers]
    torch.set_float32_matmul_precision("highest")
    for layer in layers:
        layer.fp32_precision = "ieee"
    try:
        with ExitStack() as within:
            within.enter_context(torch_device())
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        for layer, precision in zip(layers, before, strict=True):
            layer.fp32_precision = precision


def settings() -> dict[str, dict[str, str]]:
    """Whether products on a GPU are rounded to TF32, read back by framework; empty on a CPU."""
    if current() == "cpu":
        return {}
    found: dict[str, dict[str, str]] = {}
    if installed("torch"):
        import torch

        cudnn: Untyped = torch.backends.cudnn
        found["torch"] = {
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "cudnn.conv.fp32_precision": str(cudnn.conv.fp32_precision),
            "cudnn.rnn.fp32_precision": str(cudnn.rnn.fp32_precision),
        }
    if installed("jax"):
        import jax

        config: Untyped = jax.config
        found["jax"] = {"jax_default_matmul_precision": str(config.jax_default_matmul_precision)}
    return found


def sentence(read: Mapping[str, Mapping[str, str]]) -> str:
    """The settings that were read back, in a sentence."""
    words = [f"{name} {value}" for side in read.values() for name, value in side.items()]
    return f"On a GPU, products in float32 without TF32: {', '.join(words)}."
