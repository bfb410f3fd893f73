"""Who races in ``twingrad bench``: both frameworks, idiomatic and tuned, the rungs between, peers.

A contestant is a name, a racer (the code in ``bench.racers`` that runs it) and settings. Settings
are data, so that a record can say what was switched on, and a peer can be given ours.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

# What is in the environment of a contestant's process when freed memory is to be kept: glibc hands
# large blocks back to the kernel at once, and a step that allocates them anew faults in every page.
KEPT_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    # Threads' own arenas are too small for large blocks, and give them back whatever is set.
    "MALLOC_ARENA_MAX": "1",
}
# Variables of ours that must not leak from the caller into a contestant that runs at its defaults.
CLEARED = (*KEPT_MEMORY, "THP_MEM_ALLOC_ENABLE", "OMP_WAIT_POLICY", "XLA_FLAGS", "MALLOC_TOP_PAD_")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a contestant switches on.

    ``compiled`` is what one program holds: nothing, a ``block``, the ``loss`` with its gradients,
    or the whole ``step``. ``optimizer`` is PyTorch's implementation of AdamW. ``fast_matmul`` takes
    the faster of PyTorch's CPU libraries. ``split`` is ``jax.jit`` over split state, where
    ``nnx.jit`` is plainer. ``graphs`` replays a step's kernels as one CUDA graph.
    """

    attention: str = "fused"
    compiled: str = "none"
    optimizer: str = "foreach"
    fast_matmul: bool = False
    kept_memory: bool = False
    chunk: int = 0
    split: bool = False
    donate: bool = False
    graphs: bool = False


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One row of the results; ``name`` is unique, ``family`` may be asked for as a group."""

    name: str
    family: str
    framework: str
    tier: str
    racer: str
    about: str
    settings: Settings = field(default_factory=Settings)
    path: str | None = None

    @property
    def decodes(self) -> bool:
        """Whether it generates with a key/value cache."""
        return self.racer in ("torch_twin", "jax_twin", "hf", "nanogpt", "checkout")

    def environment(self) -> dict[str, str]:
        """What its process has in its environment besides everybody's."""
        found = dict(KEPT_MEMORY) if self.settings.kept_memory else {}
        if self.settings.graphs and self.framework == "jax":
            found["XLA_FLAGS"] = "--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUDNN"
        return found

    def described(self) -> dict[str, Any]:
        """The contestant as a record keeps it; where its checkout lay is nobody's business."""
        found = asdict(self)
        del found["path"]
        return found | {"process_environment": self.environment()}


# How many positions' logits exist at once: no slower than all of them on a CPU; where memory is
# dearer than time; and as few as keep a GPU busy.
CHUNK, FEW, MANY = 512, 128, 8192

_Rung = tuple[str, str, dict[str, Any]]
_TORCH_RUNGS: tuple[_Rung, ...] = (
    ("naive", "attention written out, eager, AdamW one parameter after the other", {}),
    ("attention", "fused attention", {"attention": "fused"}),
    ("compiled", "torch.compile of model and loss", {"compiled": "loss"}),
    ("optimizer", "fused AdamW", {"optimizer": "fused"}),
    # In this order: what switches the library on keeps memory too.
    ("memory", "freed memory kept", {"kept_memory": True}),
    ("matmul", "the faster matrix library", {"fast_matmul": True}),
    ("unfused", "attention written out, for the compiler to fuse", {"attention": "reference"}),
    ("blocks", "each block compiled by itself, the loss not", {"compiled": "block"}),
    ("chunked", "the loss in chunks, its gradient on the way forward", {"chunk": CHUNK}),
)
_JAX_RUNGS: tuple[_Rung, ...] = (
    ("naive", "attention written out, loss and gradients in nnx.jit, the update outside", {}),
    ("attention", "fused attention", {"attention": "fused"}),
    ("step", "the whole step in one nnx.jit", {"compiled": "step"}),
    ("split", "jax.jit over split state", {"split": True}),
    ("donation", "the old state donated", {"donate": True}),
    ("memory", "freed memory kept", {"kept_memory": True}),
    ("unfused", "attention written out, for the compiler to fuse", {"attention": "reference"}),
    ("chunked", "the loss in chunks, its gradient on the way forward", {"chunk": CHUNK}),
)
_NAIVE = {
    "torch": Settings(attention="reference", optimizer="loop"),
    "jax": Settings(attention="reference", compiled="loss"),
}
_RUNGS = {"torch": _TORCH_RUNGS, "jax": _JAX_RUNGS}
_ON_GPU_ALONE: tuple[_Rung, ...] = (
    ("chunked", "the loss in chunks, its gradient on the way forward", {"chunk": MANY}),
    ("graphs", "kernels replayed as one graph", {"graphs": True}),
)

# Settings of one device alone: both kinds of memory, libraries and kernels differ.
_ON_CPU_ALONE = ("memory", "matmul", "unfused", "blocks", "chunked")

TUNED = {
    "torch": Settings(
        attention="reference",
        compiled="block",
        optimizer="fused",
        fast_matmul=True,
        kept_memory=True,
        chunk=CHUNK,
    ),
    "jax": Settings(
        attention="reference",
        compiled="step",
        split=True,
        donate=True,
        kept_memory=True,
        chunk=CHUNK,
    ),
}
# Where memory is dearer than time. Eager: what a compiler needs to compile stays with the process.
LEAN = {
    "torch": replace(TUNED["torch"], attention="fused", compiled="none", chunk=FEW),
    "jax": replace(TUNED["jax"], chunk=FEW),
}
# What of it a peer's own code can be given from outside.
OURS = {
    "torch": Settings(compiled="loss", optimizer="fused", fast_matmul=True, kept_memory=True),
    "jax": Settings(compiled="step", split=True, donate=True, kept_memory=True),
}


def ladder(framework: str, device: str) -> list[Contestant]:
    """From the naive contestant up, each with one thing more than the one before."""
    settings, found = _NAIVE[framework], []
    rungs = _RUNGS[framework]
    if device == "cuda":
        rungs = (*(rung for rung in rungs if rung[0] not in _ON_CPU_ALONE), *_ON_GPU_ALONE)
    for number, (name, about, change) in enumerate(rungs):
        settings = replace(settings, **change)
        found.append(
            Contestant(
                name=f"{framework}-{number}-{name}",
                family=f"{framework}-ladder",
                framework=framework,
                tier="ladder",
                racer=f"{framework}_twin",
                about=about if number == 0 else f"and {about}",
                settings=settings,
            )
        )
    return found


def built_in(device: str) -> list[Contestant]:
    """Everybody who can race here without being brought along, ours first."""
    tuned, lean = (
        {name: _suited(settings, device) for name, settings in tier.items()}
        for tier in (TUNED, LEAN)
    )
    rows = [
        ("jax-tuned", "jax", "tuned", "jax_twin", "the trainer of twingrad train", tuned["jax"]),
        (
            "torch-tuned",
            "torch",
            "tuned",
            "torch_twin",
            "the trainer of twingrad train",
            tuned["torch"],
        ),
        (
            "jax-idiomatic",
            "jax",
            "idiomatic",
            "jax_twin",
            "nnx.jit of the step, as Flax's documentation has it",
            Settings(compiled="step"),
        ),
        (
            "torch-idiomatic",
            "torch",
            "idiomatic",
            "torch_twin",
            "eager, as PyTorch's tutorials have it",
            Settings(),
        ),
        ("jax-lean", "jax", "lean", "jax_twin", "the trainer, the loss in chunks", lean["jax"]),
        (
            "torch-lean",
            "torch",
            "lean",
            "torch_twin",
            "the trainer, the loss in chunks",
            lean["torch"],
        ),
        (
            "flax-reference",
            "jax",
            "peer",
            "flax_reference",
            "the plainest NNX: attention written out, nnx.jit, nothing donated",
            Settings(attention="reference", compiled="step"),
        ),
        (
            "flax-reference-tuned",
            "jax",
            "peer, our settings",
            "flax_reference",
            "the same with our settings",
            replace(OURS["jax"], attention="reference"),
        ),
        ("hf", "torch", "peer", "hf", "transformers, eager", Settings()),
        (
            "hf-compiled",
            "torch",
            "peer",
            "hf",
            "transformers, torch.compile",
            Settings(compiled="loss"),
        ),
        ("hf-tuned", "torch", "peer, our settings", "hf", "with our settings", OURS["torch"]),
    ]
    found = []
    for name, framework, tier, racer, about, settings in rows:
        own = {"idiomatic": framework, "tuned": framework, "lean": "lean"}
        family = own.get(tier, racer.replace("_", "-"))
        found.append(
            Contestant(
                name=name,
                family=family,
                framework=framework,
                tier=tier,
                racer=racer,
                about=about,
                settings=settings,
            )
        )
    return found


def _suited(settings: Settings, device: str) -> Settings:
    """``settings`` as they are best on ``device``."""
    if device != "cuda":
        return settings
    compiled = "loss" if settings.compiled == "block" else settings.compiled
    chunk = MANY if settings.chunk == FEW else 0
    return replace(settings, attention="fused", compiled=compiled, chunk=chunk, graphs=True)


# Checkouts that an adapter of ours knows how to drive, and the file it looks for.
ADAPTERS = {"nanogpt": "model.py"}


def peers(named: dict[str, Path]) -> list[Contestant]:
    """Contestants of checkouts: at their own settings, and with ours. Raises ``ValueError``."""
    found = []
    for name, path in named.items():
        racer, place = _adapter(name, path)
        for suffix, tier, about, settings in (
            ("", "peer", "as it comes, with torch.compile", Settings(compiled="loss")),
            ("-tuned", "peer, our settings", "with our settings", OURS["torch"]),
        ):
            found.append(
                Contestant(
                    name=name + suffix,
                    family=name,
                    framework="torch",
                    tier=tier,
                    racer=racer,
                    about=about,
                    settings=settings,
                    path=str(place),
                )
            )
    return found


def _adapter(name: str, path: Path) -> tuple[str, Path]:
    """The racer that drives the checkout at ``path``, and where its code lies."""
    path = path.resolve()
    if not path.exists():
        raise ValueError(f"peer {name}: {path} does not exist; give {name}=PATH of a checkout")
    if path.suffix == ".py":
        return "checkout", path
    if name not in ADAPTERS:
        raise ValueError(
            f"unknown peer {name!r}: choose from {', '.join(ADAPTERS)}, or name a Python file that "
            "defines a class Racer"
        )
    if not (path / ADAPTERS[name]).is_file():
        raise ValueError(f"peer {name}: there is no {ADAPTERS[name]} in {path}")
    return name, path


def choose(asked: list[str], device: str, brought: list[Contestant]) -> list[Contestant]:
    """The contestants of these names or families, in the order asked for.

    Raises ``ValueError`` naming what is unknown.
    """
    rungs = [rung for framework in _RUNGS for rung in ladder(framework, device)]
    ours = [*built_in(device), *rungs]
    taken = {name for one in ours for name in (one.name, one.family)}
    for one in brought:
        if one.name in taken:
            raise ValueError(f"peer {one.family}: {one.name} is a contestant's name already")
    everybody = [*built_in(device), *brought, *rungs]
    known = [contestant.name for contestant in everybody]
    families = [contestant.family for contestant in everybody]
    for name in asked:
        if name not in known and name not in families:
            choices = dict.fromkeys([*families, *known])
            raise ValueError(f"unknown contestant {name!r}: choose from {', '.join(choices)}")
    # A name stands for its bearer, and where nobody bears it, for the family.
    found = [
        one
        for name in asked
        for one in everybody
        if name == (one.name if name in known else one.family)
    ]
    return list(dict.fromkeys(found))
