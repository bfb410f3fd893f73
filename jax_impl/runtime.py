"""Device, dtype, matmul precision and determinism in JAX: set explicitly, then read back."""

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from packaging.version import Version

from shared import allocator, memory

DTYPES = {
    "float64": jnp.float64,
    "float32": jnp.float32,
    "tf32": jnp.float32,
    "bfloat16": jnp.bfloat16,
}
# Their LLVM makes a loop of a float32 scatter-add on a GPU, as in the gradient of an embedding, up
# to 2,000 times slower (jax-ml/jax issue 38806). The option has it add as the GPU does again.
SLOW_SCATTER = (Version("0.10.2"), Version("0.11.0"))
_OWN_ADDITION = "--xla_backend_extra_options=-nvptx-allow-ftz-atomics"
_CUDA_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")


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
        flags = f"{flags} --xla_gpu_exclude_nondeterministic_ops=true".strip()
    first, last = SLOW_SCATTER
    slow = first <= Version(version("jaxlib")) <= last and any(map(find_spec, _CUDA_PLUGINS))
    if slow and "xla_backend_extra_options" not in flags:
        flags = f"{flags} {_OWN_ADDITION}".strip()
    os.environ["XLA_FLAGS"] = flags


def computes_on_gpu() -> bool:
    """Whether a computation runs on a GPU that names no other device, as ``configure`` left it."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    return (device.platform if device else jax.default_backend()) == "gpu"


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
    chosen = jax.local_devices(backend=device)[0]
    # Else the CPU of a machine with a GPU would be given programs that are meant for the GPU.
    usual = chosen.platform == jax.default_backend()
    jax.config.update("jax_default_device", None if usual else chosen)
    if chosen.platform == "gpu":
        _check_values(chosen)
    return Runtime(chosen, jnp.dtype(DTYPES[dtype]))


@lru_cache
def _check_values(device: jax.Device) -> None:
    """Raise ``ValueError`` where ``device`` computes single operations wrongly.

    jaxlib 0.11.0 and 0.11.1 were reported to do so with CUDA 13 (jax-ml/jax issue 40633).
    """
    with jax.default_device(device), jax.enable_x64(False):
        jnp.full(4, 512.0).block_until_ready()  # a wrong value was that of the operation before
        found = {
            "ones + 1": jnp.ones(4) + 1,
            "sqrt(256)": jnp.sqrt(jnp.full(4, 256.0)),
            "-(-3)": -jnp.full(4, -3.0),
        }
        right = (2.0, 16.0, 3.0)
        for (name, value), expected in zip(found.items(), right, strict=True):
            if not np.allclose(np.asarray(value), expected, rtol=1e-5, atol=0.0):
                raise ValueError(
                    f"jaxlib {version('jaxlib')} computes wrong values on {device.device_kind}: "
                    f"{name} is {np.asarray(value).tolist()}, not {expected:g}; "
                    "install another version (jax-ml/jax issue 40633 says which are right)"
                )


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
    return memory.peak_bytes()


def versions() -> dict[str, str]:
    """Versions of the framework, and the accelerator's name where there is one."""
    found = {name: version(name) for name in ("jax", "jaxlib", "flax", "optax")}
    if computes_on_gpu():
        found |= {"gpu": jax.devices("gpu")[0].device_kind}
    return found
