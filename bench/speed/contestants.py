"""Contestants of ``twingrad bench``: both frameworks, idiomatic and tuned, and peers.

A contestant is a name, a backend (the code in ``bench.speed.backends`` that runs it) and settings.
Settings are data, so that a record can say what was switched on, and a peer can be given ours.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from bench.speed.json_form import Json
from twingrad.suggestions import unknown

# Environment of a contestant's process that keeps freed memory: glibc hands large blocks back to
# the kernel at once, and a step that allocates them anew faults in every page.
KEPT_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    # Threads' own arenas are too small for large blocks, and give them back whatever is set.
    "MALLOC_ARENA_MAX": "1",
}
# Variables of ours that must not leak from the caller into a contestant that runs at its defaults.
CLEARED = (*KEPT_MEMORY, "THP_MEM_ALLOC_ENABLE", "OMP_WAIT_POLICY", "XLA_FLAGS", "MALLOC_TOP_PAD_")


@dataclass(frozen=True)
class BackendModule:
    """A module of ``bench.speed.backends``, and whether it generates with ``decode``."""

    name: str
    decodes: bool = True


# A Python file of the user's, which is a backend by itself.
CHECKOUT = "checkout"
# Backends by the names that records have for them.
BACKENDS = {
    "torch_twin": BackendModule("torch_ours"),
    "jax_twin": BackendModule("jax_ours"),
    "hf": BackendModule("hf"),
    "nanogpt": BackendModule("nanogpt"),
    "flax_reference": BackendModule("flax_reference", decodes=False),
    CHECKOUT: BackendModule(""),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Switches of a contestant.

    ``compiled`` is what one program holds: nothing, a ``block``, the ``loss`` with its gradients,
    or the whole ``step``. ``optimizer`` is PyTorch's implementation of AdamW. ``fast_matmul`` takes
    the faster of PyTorch's CPU libraries. ``split`` is ``jax.jit`` over split state, where
    ``nnx.jit`` is plainer. ``graphs`` replays a step's kernels as one CUDA graph, in PyTorch; XLA
    makes graphs by itself. ``dispatch`` is how many steps one program takes, in JAX: a scan over as
    many batches. ``xla_flags`` are those of a contestant's process.
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
    dispatch: int = 1
    xla_flags: str = ""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One row of the results; ``name`` is unique, ``family`` names a group of them."""

    name: str
    family: str = ""
    framework: str
    tier: str = ""
    backend: str = ""
    about: str = ""
    settings: Settings = field(default_factory=Settings)
    path: str | None = None

    @property
    def decodes(self) -> bool:
        """Whether its backend generates text."""
        return self.backend in BACKENDS and BACKENDS[self.backend].decodes

    def environment(self) -> dict[str, str]:
        """Variables that only its own process has."""
        variables = dict(KEPT_MEMORY) if self.settings.kept_memory else {}
        if self.settings.xla_flags:
            variables["XLA_FLAGS"] = self.settings.xla_flags
        return variables

    def described(self) -> Json:
        """The contestant as a record has it, without the path of its checkout."""
        return {
            "name": self.name,
            "family": self.family,
            "framework": self.framework,
            "tier": self.tier,
            "racer": self.backend,
            "about": self.about,
            "settings": asdict(self.settings),
            "process_environment": self.environment(),
        }


def alone(framework: str) -> Contestant:
    """A process of one framework that is no row: for ceilings, and for the reference."""
    return Contestant(name=f"{framework} alone", framework=framework)


# How many positions' logits exist at once: no slower than all of them on a CPU; where memory is
# dearer than time; and as few as keep a GPU busy.
CHUNK, FEW, MANY = 512, 128, 8192

# A step of a ladder: its name, what it adds in words, and the settings that change.
_Rung = tuple[str, str, dict[str, str | int | bool]]
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
# Of JAX's, settings of XLA are tried in the place of one another.
_ON_GPU_ALONE: dict[str, tuple[_Rung, ...]] = {
    "torch": (
        ("chunked", "the loss in chunks, its gradient on the way forward", {"chunk": MANY}),
        ("graphs", "kernels replayed as one graph", {"graphs": True}),
    ),
    "jax": (
        ("chunked", "the loss in chunks, its gradient on the way forward", {"chunk": MANY}),
        (
            "no-graphs",
            "XLA's graphs of kernels switched off",
            {"xla_flags": "--xla_gpu_enable_command_buffer="},
        ),
        (
            "triton",
            "instead of that, matrix products by Triton where it is faster",
            {"xla_flags": "--xla_gpu_triton_gemm_any=true"},
        ),
        (
            "latency",
            "instead of that, the scheduler that hides latency",
            {"xla_flags": "--xla_gpu_enable_latency_hiding_scheduler=true"},
        ),
        ("scanned", "eight steps in one program", {"dispatch": 8}),
    ),
}

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
# The settings of these that a peer's own code can be given from outside.
OURS = {
    "torch": Settings(compiled="loss", optimizer="fused", fast_matmul=True, kept_memory=True),
    "jax": Settings(compiled="step", split=True, donate=True, kept_memory=True),
}


def ladder(framework: str, device: str) -> list[Contestant]:
    """From the naive contestant up, each with one setting more than the one before."""
    settings, contestants = _NAIVE[framework], []
    rungs = _RUNGS[framework]
    if device == "cuda":
        rungs = (
            *(rung for rung in rungs if rung[0] not in _ON_CPU_ALONE),
            *_ON_GPU_ALONE[framework],
        )
    for number, (name, about, change) in enumerate(rungs):
        settings = replace(settings, **change)  # type: ignore[arg-type]
        contestants.append(
            Contestant(
                name=f"{framework}-{number}-{name}",
                family=f"{framework}-ladder",
                framework=framework,
                tier="ladder",
                backend=f"{framework}_twin",
                about=about if number == 0 else f"and {about}",
                settings=settings,
            )
        )
    return contestants


def built_in(device: str) -> list[Contestant]:
    """Every contestant that needs no checkout but those of the ladders, ours first."""
    return [*_twins(device), *_peers_in_flax(), *_peers_in_transformers()]


def _twins(device: str) -> list[Contestant]:
    abouts = {
        "tuned": ("the trainer of twingrad train", "the trainer of twingrad train"),
        "idiomatic": (
            "nnx.jit of the step, as Flax's documentation has it",
            "eager, as PyTorch's tutorials have it",
        ),
        "lean": ("the trainer, the loss in chunks",) * 2,
    }
    settings = {
        "tuned": {name: _suited(settings, device) for name, settings in TUNED.items()},
        "idiomatic": {"jax": Settings(compiled="step"), "torch": Settings()},
        "lean": {name: _suited(settings, device) for name, settings in LEAN.items()},
    }
    return [
        Contestant(
            name=f"{framework}-{tier}",
            family="lean" if tier == "lean" else framework,
            framework=framework,
            tier=tier,
            backend=f"{framework}_twin",
            about=about,
            settings=settings[tier][framework],
        )
        for tier, both in abouts.items()
        for framework, about in zip(("jax", "torch"), both, strict=True)
    ]


PEER, PEER_TUNED = "peer", "peer, our settings"


def _peers_in_flax() -> list[Contestant]:
    first = Contestant(
        name="flax-reference",
        family="flax-reference",
        framework="jax",
        tier=PEER,
        backend="flax_reference",
        about="the plainest NNX: attention written out, nnx.jit, nothing donated",
        settings=Settings(attention="reference", compiled="step"),
    )
    tuned = replace(OURS["jax"], attention="reference")
    return [first, _with_our_settings(first, "the same with our settings", tuned)]


def _peers_in_transformers() -> list[Contestant]:
    first = Contestant(
        name="hf",
        family="hf",
        framework="torch",
        tier=PEER,
        backend="hf",
        about="transformers, eager",
    )
    compiled = replace(
        first,
        name="hf-compiled",
        about="transformers, torch.compile",
        settings=Settings(compiled="loss"),
    )
    return [first, compiled, _with_our_settings(first, "with our settings", OURS["torch"])]


def _with_our_settings(peer: Contestant, about: str, settings: Settings) -> Contestant:
    name = f"{peer.name}-tuned"
    return replace(peer, name=name, tier=PEER_TUNED, about=about, settings=settings)


def _suited(settings: Settings, device: str) -> Settings:
    """``settings`` as they are best on ``device``."""
    if device != "cuda":
        return settings
    compiled = "loss" if settings.compiled == "block" else settings.compiled
    chunk = MANY if settings.chunk == FEW else 0
    return replace(settings, attention="fused", compiled=compiled, chunk=chunk)


# Checkouts that an adapter of ours knows how to drive, and the file it looks for.
ADAPTERS = {"nanogpt": "model.py"}
_CHECKOUTS = {name for adapter in ADAPTERS for name in (adapter, f"{adapter}-tuned")}


def peers(paths: dict[str, Path]) -> list[Contestant]:
    """Contestants of checkouts: at their own settings, and with ours. Raises ``ValueError``."""
    contestants = []
    for name, path in paths.items():
        backend, place = _adapter(name, path)
        first = Contestant(
            name=name,
            family=name,
            framework="torch",
            tier=PEER,
            backend=backend,
            about="as it comes, with torch.compile",
            settings=Settings(compiled="loss"),
            path=str(place),
        )
        contestants += [first, _with_our_settings(first, "with our settings", OURS["torch"])]
    return contestants


def _adapter(name: str, path: Path) -> tuple[str, Path]:
    """The backend that drives the checkout at ``path``, and where its code is."""
    path = path.resolve()
    if not path.exists():
        raise ValueError(f"peer {name}: {path} does not exist; give {name}=PATH of a checkout")
    if path.suffix == ".py":
        return CHECKOUT, path
    if name not in ADAPTERS:
        raise ValueError(
            f"unknown peer {name!r}: choose from {', '.join(ADAPTERS)}, or name a Python file that "
            "defines a class Backend (or Racer, its older name)"
        )
    if not (path / ADAPTERS[name]).is_file():
        raise ValueError(f"peer {name}: there is no {ADAPTERS[name]} in {path}")
    return name, path


def choose(names: list[str], device: str, peers: list[Contestant]) -> list[Contestant]:
    """The contestants of these names or families, in the order of ``names``.

    Raises ``ValueError`` naming what is unknown.
    """
    rungs = [rung for framework in _RUNGS for rung in ladder(framework, device)]
    ours = [*built_in(device), *rungs]
    taken = {name for one in ours for name in (one.name, one.family)}
    for peer in peers:
        if peer.name in taken:
            raise ValueError(f"peer {peer.family}: {peer.name} is a contestant's name already")
    everybody = [*built_in(device), *peers, *rungs]
    known = [contestant.name for contestant in everybody]
    families = [contestant.family for contestant in everybody]
    for name in names:
        if name not in known and name not in families:
            choices = dict.fromkeys([*families, *known])
            if name in _CHECKOUTS:
                raise ValueError(
                    f"contestant {name} is a checkout of yours: say where by --peer "
                    f"{name.removesuffix('-tuned')}=PATH"
                )
            raise ValueError(unknown("contestant", name, choices))
    # A name stands for its bearer, and where nobody bears it, for the family.
    chosen = [
        contestant
        for name in names
        for contestant in everybody
        if name == (contestant.name if name in known else contestant.family)
    ]
    return list(dict.fromkeys(chosen))
