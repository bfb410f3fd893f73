"""Device, dtype, matmul precision and determinism in JAX: set explicitly, then read back."""

import os
import resource
from dataclasses import dataclass, replace
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from shared import allocator

DTYPES = {
    "float64": jnp.float64,
    "float32": jnp.float32,
    "tf32": jnp.float32,
    "bfloat16": jnp.bfloat16,
}


@dataclass(frozen=True)
class Runtime:
    """Device of the arrays and dtype of the model's computation."""

    device: jax.Device
    dtype: jnp.dtype

    @property
    def master(self) -> "Runtime":
        """The same in the dtype of parameters and moments: float32 at least."""
        return replace(self, dtype=jnp.promote_types(self.dtype, jnp.float32))

    @property
    def compiler_options(self) -> dict[str, str] | None:
        """Options for XLA. On a CPU it otherwise removes optimization barriers before it fuses."""
        keep = {"xla_disable_hlo_passes": "cse_barrier_expander"}
        return keep if self.device.platform == "cpu" else None

    def batch(self, *arrays: np.ndarray) -> tuple[Array, ...]:
        """``arrays`` on the device: floats in the compute dtype, integers as int32.

        Out-of-range indices are clamped silently here, so token ids are checked before.
        """
        narrowed = tuple(
            array.astype(self.dtype if array.dtype.kind == "f" else np.int32) for array in arrays
        )
        return jax.device_put(narrowed, self.device)


def devices() -> list[str]:
    """The devices this installation can use: ``cpu`` and, where there is one, ``cuda``."""
    _prepare()
    return ["cpu", "cuda"] if jax.default_backend() == "gpu" else ["cpu"]


def _prepare() -> None:
    """Set the variables that JAX's backend reads once, when it starts."""
    # By default JAX takes three quarters of a GPU's memory at once, and leaves PyTorch none.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    flags = os.environ.get("XLA_FLAGS", "")
    if "nondeterministic_ops" not in flags and "deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_exclude_nondeterministic_ops=true".strip()


def configure(dtype: str, device: str) -> Runtime:
    """Set every switch that changes numbers, and return device and dtype for models.

    ``float32`` means float32: on recent GPUs JAX would multiply matrices in TF32 by itself. Without
    ``jax_enable_x64`` float64 is truncated silently, so it is on for float64 alone. Raises
    ``ValueError`` when the device is not there.
    """
    if device not in devices():
        raise ValueError(f"JAX sees no {device} device here: use --device cpu")
    jax.config.update("jax_enable_x64", dtype == "float64")
    # float64 is the reference: its speed does not matter, so let the compiler be quick.
    quick = dtype == "float64" and device == "cpu"
    jax.config.update("jax_disable_most_optimizations", quick)
    precision = "tensorfloat32" if dtype == "tf32" else "highest"
    jax.config.update("jax_default_matmul_precision", precision)
    return Runtime(jax.local_devices(backend=device)[0], jnp.dtype(DTYPES[dtype]))


def tune(device: str, dtype: str, width: int) -> list[str]:
    """Choose faster kernels that round no worse for a model of ``width``; returns their names.

    XLA has one library for matrix products, so dtype and width make no difference here.
    """
    return ["freed memory kept"] if device == "cpu" and allocator.keep_freed() else []


def settings() -> dict[str, str]:
    """The switches of ``configure`` as the framework reports them now."""
    names = (
        "default_matmul_precision",
        "enable_x64",
        "disable_most_optimizations",
        "threefry_partitionable",
    )
    return {name: str(_read(name)) for name in names} | {
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "preallocate": os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", ""),
    }


def _read(name: str) -> object:
    # Options that also have a context manager are attributes, the others are read by name.
    if hasattr(jax.config, f"jax_{name}"):
        return getattr(jax.config, f"jax_{name}")
    return jax.config.read(f"jax_{name}")


def peak_memory(device: str) -> int:
    """Peak memory so far in bytes: of arrays on a GPU, of the whole process on a CPU."""
    if device == "cuda":
        return jax.local_devices(backend=device)[0].memory_stats()["peak_bytes_in_use"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def versions() -> dict[str, str]:
    """Versions of the framework, and the accelerator's name where there is one."""
    found = {name: version(name) for name in ("jax", "jaxlib", "flax", "optax")}
    if jax.default_backend() == "gpu":
        found |= {"gpu": jax.devices()[0].device_kind}
    return found
