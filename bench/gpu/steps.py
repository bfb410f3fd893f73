"""The steps of the measurement of a GPU, most important first."""

import importlib.util
from dataclasses import dataclass, field

from bench.gpu.options import GpuOptions
from bench.speed.options import DEFAULT_DTYPES

# Whose steps the GPU is measured for, in the two frameworks.
TUNED = ("jax-tuned", "torch-tuned")
# The next larger size, and sequences a step of it that fit beside one another into 80 GB.
LARGER = {"tiny": ("small", None), "small": ("124m", None), "124m": ("gpt2-medium", 16)}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One part of the measurement: timings of contestants, or a comparison of both frameworks.

    A comparison has no ``contestants``. ``missing_packages`` are those that contestants left out
    would need.
    """

    name: str
    about: str
    preset: str
    dtype: str
    contestants: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    batch_size: int | None = None
    ceilings: bool = False
    missing_packages: tuple[str, ...] = field(default=())


def steps(options: GpuOptions, device: str) -> list[Step]:
    """The steps that a call asks for, in their order; ``ValueError`` for a name that is none."""
    every = _every(options, device)
    unknown = set(options.names) - {step.name for step in every}
    if unknown:
        raise ValueError(
            f"unknown step {min(unknown)!r}: choose from {', '.join(step.name for step in every)}"
        )
    return [step for step in every if not options.names or step.name in options.names]


def _compared(name: str, size: str, dtype: str) -> Step:
    about = f"both frameworks compared, {size}, {dtype}"
    return Step(name=name, about=about, preset=size, dtype=dtype)


def _every(options: GpuOptions, device: str) -> list[Step]:
    """All steps on ``device``, in their order; a CPU is timed in float32."""
    preset, dtype = options.preset, DEFAULT_DTYPES[device]
    larger, larger_batch = LARGER.get(preset, ("gpt2-large", 8))
    transformers = importlib.util.find_spec("transformers") is not None
    absent = () if transformers else ("transformers",)
    hf = ("hf-compiled",) if transformers else ()
    peers = tuple(name for peer in options.peers for name in (peer, f"{peer}-tuned"))
    idiomatic = ("jax-idiomatic", "torch-idiomatic")

    def timed(
        name: str,
        about: str,
        workloads: tuple[str, ...],
        contestants: tuple[str, ...],
        **more: bool,
    ) -> Step:
        return Step(
            name=name,
            about=about,
            preset=preset,
            dtype=dtype,
            workloads=workloads,
            contestants=contestants,
            missing_packages=absent if name == "peers" else (),
            **more,
        )

    return [
        timed("train", "a training step, both tuned", ("train",), TUNED),
        _compared("compare-tiny", "tiny", "all"),
        _compared("compare-bfloat16", preset, "bfloat16"),
        _compared("compare-float32", preset, "float32"),
        timed(
            "peers", "a training step beside peers", ("train",), (*TUNED, *idiomatic, *hf, *peers)
        ),
        timed("ladder-torch", "what each setting adds in PyTorch", ("train",), ("torch-ladder",)),
        timed("ladder-jax", "what each setting adds in JAX", ("train",), ("jax-ladder",)),
        timed("decode", "a decoded token", ("decode",), (*TUNED, *idiomatic)),
        _compared("compare-float64", preset, "float64"),
        timed(
            "passes",
            "forward and backward passes, and the ceilings of products and copies",
            ("forward-backward", "forward"),
            TUNED,
            ceilings=True,
        ),
        Step(
            name="larger",
            about="a training step of the next larger size",
            preset=larger,
            dtype=dtype,
            workloads=("train",),
            contestants=TUNED,
            batch_size=larger_batch,
        ),
    ]
