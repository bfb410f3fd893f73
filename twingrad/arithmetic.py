"""How JAX computes while a pair is judged."""

from collections.abc import Iterator
from contextlib import contextmanager

from twingrad import devices
from twingrad.environment import installed
from twingrad.foreign import Untyped


@contextmanager
def arithmetic(dtype: str, hurry: bool = True) -> Iterator[None]:
    """Within, both compute on the device in use, JAX in ``dtype`` and in full precision.

    Where few passes are run of what is compiled, the compiler is told to ``hurry``.
    """
    if not installed("jax"):
        with devices.torch_defaults():
            yield  # JAX's numbers are recorded ones
        return
    import jax

    config: Untyped = jax.config
    wanted = {
        "jax_enable_x64": dtype == "float64",
        "jax_default_matmul_precision": "highest",
        "jax_default_device": devices.jax_device(),
        "jax_disable_most_optimizations": hurry,
    }
    # Options that also have a context manager are attributes, the others are read by name.
    before = {
        name: getattr(config, name) if hasattr(config, name) else config.read(name)
        for name in wanted
    }
    for name, value in wanted.items():
        config.update(name, value)
    try:
        with devices.torch_defaults():
            yield
    finally:
        for name, value in before.items():
            config.update(name, value)
