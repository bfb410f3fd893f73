"""What is timed in ``twingrad bench``: stages, most important first, and their arithmetic."""

from dataclasses import dataclass, field, replace

from bench.speed.contestants import Contestant
from shared.config import AdamWConfig, GPTConfig, OptimizerConfig, SGDConfig, preset

WORKLOADS = ("overhead", "forward", "forward-backward", "train", "decode", "cold", "growth")
# What a call without arguments runs: as much as three minutes on two cores give five samples of.
DEFAULT = {
    "cpu": ("overhead", "train"),
    "cuda": ("overhead", "forward", "forward-backward", "train", "decode"),
}
SMALL_PROGRAMS = ("sigmoid-bce", "simple-net")
# Sequences a step and tokens a sequence, where nothing else is asked for.
SIZES = {"cpu": {"tiny": (8, 128), "small": (4, 256)}, "cuda": {"tiny": (64, 128)}}
LARGE = {"cpu": (2, 256), "cuda": (32, 1024)}
# Decoding: tokens of the prompt, tokens that follow, and rows at once.
PROMPT, FOLLOWING, ROWS = 64, 64, (1, 16)
# Where a step's growth is looked at: from the small GPT-2, one size at a time.
GROWTH = {
    "length": (128, 256, 512, 1024),
    "batch_size": (1, 2, 4, 8),
    "n_layers": (1, 2, 4, 8),
}
# A run's first hundred steps, so that no contestant is timed where its rate is 0.
OPTIMIZER = AdamWConfig(warmup_steps=100, total_steps=10_000)
SGD = SGDConfig(learning_rate=0.01)
# Dense bfloat16 products, FLOP/s, as NVIDIA's datasheets have them.
DATASHEET = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "B200": 2250e12}
FORMULA = (
    "forward FLOPs a token = 2 (12 L C² + V C) + 4 L C T, training three times as many "
    "(PaLM, Chowdhery et al. 2022, appendix B; causal attention counted whole)"
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Contestants that race one another on one configuration, through one workload or several.

    ``variant`` tells stages of one workload apart: the program, the rows, or what grows.
    """

    workloads: tuple[str, ...]
    contestants: tuple[Contestant, ...]
    preset: str = ""
    program: str = "gpt2"
    config: GPTConfig = field(default_factory=GPTConfig)
    optimizer: OptimizerConfig = OPTIMIZER
    batch_size: int = 0
    length: int = 0
    rows: tuple[int, ...] = ()
    variant: str = ""
    axis: str = ""
    size: int = 0

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        name = self.preset or self.program
        if self.axis:
            return f"{name}, {self.axis} {self.size}"
        return f"{name}, B {self.batch_size}, T {self.length}" if self.length else name


def flops_a_token(config: GPTConfig, length: int) -> float:
    """Forward arithmetic by ``FORMULA``, FLOP."""
    L, C = config.n_layers, config.emb_dim
    products = 12 * L * C * C + config.vocab_size * C
    return 2 * products + 4 * L * C * length


def flops(workload: str, config: GPTConfig, batch_size: int, length: int) -> float:
    """Model FLOPs of one pass or step over a batch."""
    forward = flops_a_token(config, length) * batch_size * length
    return forward if workload == "forward" else 3 * forward


def decode_bytes(config: GPTConfig, itemsize: int) -> int:
    """What one step of decoding must read at least: every matrix once."""
    L, C = config.n_layers, config.emb_dim
    return itemsize * (12 * L * C * C + config.vocab_size * C)


def size(preset_name: str, device: str, batch_size: int | None, length: int | None) -> tuple:
    """Batch size and length of a preset's stages, with what was asked for in their place."""
    found = SIZES[device].get(preset_name, LARGE[device])
    return batch_size or found[0], length or min(found[1], preset(preset_name).context_length)


def plan(
    workloads: tuple[str, ...],
    preset_name: str,
    device: str,
    contestants: list[Contestant],
    batch_size: int | None,
    length: int | None,
) -> list[Stage]:
    """The stages that anyone takes part in, most important first."""
    config = replace(preset(preset_name), drop_rate=0.0)
    B, T = size(preset_name, device, batch_size, length)
    if config.context_length < T:
        raise ValueError(
            f"length {T} is over the context length of {preset_name}, {config.context_length}"
        )
    ladders = [one for one in contestants if one.tier == "ladder"]
    racing = tuple(one for one in contestants if one.tier != "ladder")
    base = {"preset": preset_name, "config": config, "batch_size": B, "length": T}
    stages = []
    passes = tuple(w for w in ("train", "forward-backward", "forward") if w in workloads)
    decoding = ("decode",) if "decode" in workloads and any(r.decodes for r in racing) else ()
    if racing and (passes or decoding):
        rows = ROWS if decoding else ()
        found = Stage(workloads=passes + decoding, contestants=racing, rows=rows, **base)
        stages.append(found)
    if ladders and "train" in workloads:
        stages.append(
            Stage(workloads=("train",), contestants=tuple(ladders), variant="ladder", **base)
        )
    ours = tuple(one for one in racing if one.tier in ("idiomatic", "tuned"))
    if "overhead" in workloads:
        for program in SMALL_PROGRAMS:
            stages.append(
                Stage(
                    workloads=("overhead",),
                    contestants=small_ones(ours),
                    program=program,
                    optimizer=SGD,
                    variant=program,
                )
            )
    if "cold" in workloads:
        stages.append(Stage(workloads=("cold",), contestants=racing, **base))
    if "growth" in workloads:
        tuned = tuple(one for one in ours if one.tier == "tuned")
        for axis, sizes in GROWTH.items():
            fit = [n for n in sizes if axis != "length" or n <= config.context_length]
            stages += [_grown(axis, n, tuned, base) for n in fit]
    return [stage for stage in stages if stage.contestants]


def small_ones(ours: tuple[Contestant, ...]) -> tuple[Contestant, ...]:
    """For programs without arithmetic, PyTorch's tuned contestant is the compiled one."""
    found = []
    for one in ours:
        settings = replace(one.settings, kept_memory=False, fast_matmul=False, chunk=0)
        about = one.about
        if one.tier == "tuned":
            settings = replace(settings, compiled="loss" if one.framework == "torch" else "step")
            compiled = "torch.compile of model and loss"
            about = compiled if one.framework == "torch" else "jax.jit over split, donated state"
            if settings.graphs and one.framework == "torch":
                settings, about = replace(settings, compiled="none"), "one CUDA graph a step"
        found.append(replace(one, settings=settings, about=about))
    return tuple(found)


def _grown(axis: str, size: int, contestants: tuple[Contestant, ...], base: dict) -> Stage:
    changed = dict(base)
    if axis == "n_layers":
        changed["config"] = replace(base["config"], n_layers=size)
    else:
        changed[axis] = size
    return Stage(
        workloads=("growth",),
        contestants=contestants,
        variant=f"{axis} {size}",
        axis=axis,
        size=size,
        **changed,
    )
