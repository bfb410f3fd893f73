"""Figures of NVIDIA's datasheets, for plans of GPUs that nobody has measured here.

Peaks are without sparsity: where a datasheet gives a peak with it, this is the half.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Datasheet:
    """One GPU: bytes of memory, bytes/s of its memory, and FLOP/s of products by dtype.

    float64 is that of the tensor cores, which products run on, and float32 that of the other
    cores, as TF32 is a dtype of its own. ``source`` is the document and the place in it.
    """

    name: str
    memory_bytes: float
    bytes_per_s: float
    flops_per_s: dict[str, float]
    source: str


def _hopper(name: str, memory: float, bandwidth: float, source: str) -> Datasheet:
    return Datasheet(
        name=name,
        memory_bytes=memory,
        bytes_per_s=bandwidth,
        flops_per_s={"float64": 67e12, "float32": 67e12, "tf32": 494.5e12, "bfloat16": 989.5e12},
        source=source,
    )


DATASHEETS = {
    "a100": Datasheet(
        name="NVIDIA A100 80GB SXM",
        memory_bytes=80e9,
        bytes_per_s=2039e9,
        flops_per_s={"float64": 19.5e12, "float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12},
        source="NVIDIA A100 Tensor Core GPU datasheet, table of specifications",
    ),
    "h100": _hopper(
        "NVIDIA H100 SXM",
        80e9,
        3.35e12,
        "NVIDIA H100 Tensor Core GPU datasheet, table of specifications",
    ),
    "h200": _hopper(
        "NVIDIA H200 SXM",
        141e9,
        4.8e12,
        "NVIDIA H200 Tensor Core GPU datasheet, table of specifications",
    ),
}
