"""Device, dtype, matmul precision and determinism in PyTorch: set explicitly, then read back."""

import os
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.backends import cudnn

from shared import allocator, memory

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
}
# For narrower matrices a call of oneDNN takes longer than the product.
ONEDNN_WIDTH = 256


@dataclass(frozen=True)
class Runtime:
    """Device of the tensors and dtype of the model's computation."""

    device: torch.device
    dtype: torch.dtype

    @property
    def master(self) -> "Runtime":
        """The same in the dtype of parameters and moments: float32 at least."""
        return replace(self, dtype=torch.promote_types(self.dtype, torch.float32))

    def batch(self, *arrays: np.ndarray) -> tuple[Tensor, ...]:
        """``arrays`` on the device: floats in the compute dtype, integers as int64.

        Class indices must be int64: ``cross_entropy`` refuses int32.
        """
        return tuple(
            torch.tensor(array, device=self.device).to(
                self.dtype if array.dtype.kind == "f" else torch.int64
            )
            for array in arrays
        )


def devices() -> list[str]:
    """The devices this installation can use: ``cpu`` and, where there is one, ``cuda``."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def configure(dtype: str, device: str) -> Runtime:
    """Set every switch that changes numbers, and return device and dtype for models.

    ``float32`` means float32: PyTorch multiplies matrices in full precision unless told otherwise,
    but lets cuDNN use TF32. ``tf32`` asks for it in both. Raises ``ValueError`` when the device is
    not there.
    """
    if device not in devices():
        raise ValueError(f"PyTorch sees no {device} device here: use --device cpu")
    tf32 = dtype == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    cudnn.conv.fp32_precision = "tf32" if tf32 else "ieee"  # type: ignore[attr-defined]
    # By default cuBLAS may add up parts of a 16-bit product in 16 bits; XLA adds in float32.
    matmul = torch.backends.cuda.matmul
    matmul.allow_bf16_reduced_precision_reduction = False
    matmul.allow_fp16_reduced_precision_reduction = False
    # cuBLAS reads this when it starts; without it deterministic mode refuses to run.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As use_deterministic_algorithms(True), but that imports Inductor and SymPy to set Inductor's
    # own switch, which Inductor reads from this variable when it is imported.
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    torch.set_deterministic_debug_mode("error")
    # One kernel for each dtype: flash where it exists (16-bit floats on a GPU, any float on a CPU),
    # else memory-efficient, with the plain one for shapes that neither takes. cuDNN's is left out,
    # since it would be picked for some shapes and not for others.
    torch.backends.cuda.enable_flash_sdp(True)
    torch.backends.cuda.enable_mem_efficient_sdp(True)
    torch.backends.cuda.enable_math_sdp(True)
    torch.backends.cuda.enable_cudnn_sdp(False)
    return Runtime(torch.device(device), DTYPES[dtype])


def tune(device: str, dtype: str, width: int) -> list[str]:
    """Choose faster kernels that round no worse for a model of ``width``; returns their names.

    By rule, never by a stopwatch: the same run must choose the same kernels when it is resumed.
    """
    # Deterministic mode fills every new tensor, in case it is read before it is written to.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device != "cpu":
        return []
    done = ["freed memory kept"] if allocator.keep_freed() else []
    # "medium" allows bfloat16. On a processor without fast bfloat16 it means oneDNN in float32,
    # which is faster than MKL on some processors, but takes longer to call.
    wide = dtype == "float32" and width >= ONEDNN_WIDTH
    if wide and _product_error("medium") <= 4 * _product_error("highest"):
        torch.set_float32_matmul_precision("medium")
        done.append("oneDNN for matrix products")
    return done


def _product_error(precision: str) -> float:
    """Relative error (L2) of one float32 product at ``precision``, which is put back afterwards."""
    before = torch.get_float32_matmul_precision()
    a, b = (torch.arange(384.0 * 384.0).reshape(384, 384).mul(step).sin() for step in (0.7, 1.3))
    exact = a.double() @ b.double()
    torch.set_float32_matmul_precision(precision)
    product = a @ b
    torch.set_float32_matmul_precision(before)
    return float((product.double() - exact).norm() / exact.norm())


def settings() -> dict[str, str]:
    """The switches of ``configure`` as the framework reports them now."""
    return {
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_fp32_precision": str(cudnn.conv.fp32_precision),  # type: ignore[attr-defined]
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
        "cudnn_attention": str(torch.backends.cuda.cudnn_sdp_enabled()),
        "bf16_reduced_precision_reduction": str(
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
        ),
        "threads": str(torch.get_num_threads()),
    }


def peak_memory(device: str) -> int:
    """Peak memory so far in bytes: of tensors on a GPU, of the whole process on a CPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return memory.peak_bytes()


def versions() -> dict[str, str]:
    """Versions of the framework, and of the accelerator's libraries where there is one."""
    found = {"torch": str(torch.__version__)}
    if torch.cuda.is_available():
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
        found |= {"gpu": torch.cuda.get_device_name()}
    return found
