"""Workloads of ``twingrad bench``, divided into stages, most important first; their arithmetic."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from bench.speed.contestants import Contestant
from shared import params
from shared.config import AdamWConfig, GPTConfig, OptimizerConfig, SGDConfig, preset

WORKLOADS = ("overhead", "forward", "forward-backward", "train", "decode", "cold", "growth")
# Workloads of a call without arguments: five samples of each fit into three minutes on two cores.
DEFAULT = {
    "cpu": ("overhead", "train"),
    "cuda": ("overhead", "forward", "forward-backward", "train", "decode"),
}
SMALL_PROGRAMS = ("sigmoid-bce", "simple-net")
# Sequences a step and tokens a sequence by default.
SIZES = {"cpu": {"tiny": (8, 128), "small": (4, 256)}, "cuda": {"tiny": (64, 128)}}
LARGE = {"cpu": (2, 256), "cuda": (32, 1024)}
# Decoding: tokens of the prompt, tokens that follow, and rows at once.
PROMPT, FOLLOWING, ROWS = 64, 64, (1, 16)
# Sizes at which a step's growth is measured: from the small GPT-2, one varied at a time.
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
    """Contestants that are timed in turn on one configuration, in one workload or several.

    ``variant`` tells stages of one workload apart: the program, the rows, or the size that grows.
    """

    workloads: tuple[str, ...] = ()
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
        """Preset or program, and sizes."""
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
    """Bytes that one step of decoding must read at least: every matrix once."""
    L, C = config.n_layers, config.emb_dim
    return itemsize * (12 * L * C * C + config.vocab_size * C)


def memory_bytes(stage: Stage, contestant: Contestant, dtype: str) -> float:
    """Bytes that a contestant will use, roughly: parameters, gradients, moments, and activations.

    A layer keeps 17 numbers of the compute dtype for each of the residual stream's, and 5 for each
    attention weight where attention is written out (Korthikanti et al., 2022, section 4.1, which
    counts bytes of 16-bit numbers, and masks of dropout). The logits exist with their gradient and,
    outside a compiler, once more in float32; in chunks, those of a chunk.
    """
    if stage.program != "gpt2":
        return 5e8
    config, settings = stage.config, contestant.settings
    itemsize = 2 if dtype == "bfloat16" else 4
    count = params.count(params.gpt2_shapes(config))
    positions = stage.batch_size * stage.length
    numbers = 17 * config.emb_dim
    if settings.attention != "fused":
        numbers += 5 * config.n_heads * stage.length
    each = 2 * itemsize + (4 if settings.compiled in ("none", "block") else 0)
    at_once = min(positions, settings.chunk) if settings.chunk else positions
    activations = positions * config.n_layers * numbers * itemsize
    return 5e8 + (16 + 2 * itemsize) * count + activations + at_once * config.vocab_size * each


def stages(
    workloads: tuple[str, ...],
    preset_name: str,
    device: str,
    contestants: list[Contestant],
    batch_size: int | None,
    length: int | None,
) -> list[Stage]:
    """The stages in which any contestant takes part, most important first."""
    config = replace(preset(preset_name), drop_rate=0.0)
    B, T = SIZES[device].get(preset_name, LARGE[device])
    B, T = batch_size or B, length or min(T, config.context_length)
    if config.context_length < T:
        raise ValueError(
            f"length {T} is over the context length of {preset_name}, {config.context_length}"
        )
    ladders = tuple(one for one in contestants if one.tier == "ladder")
    others = tuple(one for one in contestants if one.tier != "ladder")
    twins = tuple(one for one in others if one.tier in ("idiomatic", "tuned"))
    base = Stage(preset=preset_name, config=config, batch_size=B, length=T, contestants=others)
    planned = list(_passes(workloads, base, device))
    if "train" in workloads:
        planned.append(replace(base, workloads=("train",), contestants=ladders, variant="ladder"))
    if "overhead" in workloads:
        planned += [_small(program, twins, device) for program in SMALL_PROGRAMS]
    if "cold" in workloads:
        planned.append(replace(base, workloads=("cold",)))
    if "growth" in workloads:
        tuned = tuple(one for one in twins if one.tier == "tuned")
        planned += _growth(replace(base, workloads=("growth",), contestants=tuned))
    return [stage for stage in planned if stage.contestants and stage.workloads]


def _passes(workloads: tuple[str, ...], base: Stage, device: str) -> Iterator[Stage]:
    """Training, the passes of a step and decoding: on a CPU all by the same processes.

    On a GPU each has processes of its own, so that one that fails or is cut off leaves the others
    their memory and their time.
    """
    decodes = "decode" in workloads and any(one.decodes for one in base.contestants)
    kinds: tuple[tuple[str, ...], ...] = (("train",), ("forward-backward", "forward"), ("decode",))
    if device != "cuda":
        kinds = (tuple(workload for kind in kinds for workload in kind),)
    for kind in kinds:
        wanted = tuple(w for w in kind if w in workloads and (w != "decode" or decodes))
        if wanted:
            yield replace(base, workloads=wanted, rows=ROWS if "decode" in wanted else ())


def _small(program: str, contestants: tuple[Contestant, ...], device: str) -> Stage:
    return Stage(
        workloads=("overhead",),
        contestants=small_ones(contestants, device),
        program=program,
        optimizer=SGD,
        variant=program,
    )


def _growth(base: Stage) -> Iterator[Stage]:
    """The stages of growth, one size varied at a time."""
    config = base.config
    for axis, sizes in GROWTH.items():
        for n in sizes:
            stage = replace(base, variant=f"{axis} {n}", axis=axis, size=n)
            if axis == "n_layers":
                yield replace(stage, config=replace(config, n_layers=n))
            elif axis == "batch_size":
                yield replace(stage, batch_size=n)
            elif n <= config.context_length:
                yield replace(stage, length=n)


def small_ones(contestants: tuple[Contestant, ...], device: str) -> tuple[Contestant, ...]:
    """The contestants for programs without arithmetic, where PyTorch's tuned one is compiled.

    On a GPU it is one CUDA graph instead.
    """
    small = []
    for one in contestants:
        settings = replace(one.settings, kept_memory=False, fast_matmul=False, chunk=0)
        about = one.about
        if one.tier == "tuned":
            settings = replace(settings, compiled="loss" if one.framework == "torch" else "step")
            compiled = "torch.compile of model and loss"
            about = compiled if one.framework == "torch" else "jax.jit over split, donated state"
            if device == "cuda" and one.framework == "torch":
                settings = replace(settings, compiled="none", graphs=True)
                about = "one CUDA graph a step"
        small.append(replace(one, settings=settings, about=about))
    return tuple(small)
