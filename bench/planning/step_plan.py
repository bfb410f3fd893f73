"""The training step that is planned, and the ways to trade its time for memory.

Letters of the formulas: B sequences that a device takes at once, T tokens each, R = B T; C width,
H heads, V vocabulary, L layers, N parameters; x = R C and a = B H T T elements, one residual stream
and one set of attention weights.
"""

from dataclasses import dataclass

from bench.training.config import RunConfig
from shared import params
from shared.config import ALIGNMENT, GPTConfig, TrainConfig

WIDTH = {"float64": 8, "float32": 4, "tf32": 4, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """A training step to be planned: ``train.batch_size`` sequences over all devices.

    ``data_parallel`` times ``sharded`` devices. Raises ``ValueError`` where the sizes do not fit.
    """

    model: GPTConfig
    train: TrainConfig
    length: int
    data_parallel: int = 1
    sharded: int = 1
    device: str = "cpu"

    @classmethod
    def of(
        cls, run: RunConfig, data_parallel: int = 1, sharded: int = 1, device: str = "cpu"
    ) -> "StepPlan":
        """A step of ``run`` on so many devices."""
        return cls(
            model=run.model,
            train=run.train,
            length=run.length,
            data_parallel=data_parallel,
            sharded=sharded,
            device=device,
        )

    def __post_init__(self) -> None:
        for name in ("length", "data_parallel", "sharded"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 1 or more")
        if self.length > self.model.context_length:
            raise ValueError(
                f"length {self.length} is over the model's context_length "
                f"{self.model.context_length}: choose a shorter one"
            )
        parts = self.train.micro_batches * self.devices
        if self.train.batch_size % parts:
            raise ValueError(
                f"batch_size {self.train.batch_size} is not divisible by "
                f"{self.train.micro_batches} micro-batches times {self.devices} devices: "
                f"choose a multiple of {parts}"
            )

    @property
    def devices(self) -> int:
        """The number of devices that share the step."""
        return self.data_parallel * self.sharded

    @property
    def rows(self) -> int:
        """B: the sequences of one device's micro-batch."""
        return self.train.batch_size // (self.train.micro_batches * self.devices)

    @property
    def positions(self) -> int:
        """R: the tokens of one device's micro-batch."""
        return self.rows * self.length

    @property
    def stream(self) -> int:
        """x: elements of one residual stream."""
        return self.positions * self.model.emb_dim

    @property
    def weights(self) -> int:
        """a: elements of one layer's attention weights."""
        return self.rows * self.model.n_heads * self.length**2

    @property
    def width(self) -> int:
        """Bytes of an element in the compute dtype."""
        return WIDTH[self.train.dtype]

    @property
    def wide(self) -> int:
        """Bytes of a parameter, a moment and a logarithm: float32 at least."""
        return max(4, self.width)

    @property
    def parameters(self) -> int:
        """N."""
        return params.count(params.gpt2_shapes(self.model))

    @property
    def embedding(self) -> int:
        """Elements of the token embedding, which is the head too."""
        return self.model.vocab_size * self.model.emb_dim

    @property
    def padded_head(self) -> int:
        """Elements of the head's weight in a product, with rows of zeros where it is 16-bit."""
        rest = -self.model.vocab_size % ALIGNMENT if self.width == 2 else 0
        return self.embedding + rest * self.model.emb_dim

    @property
    def dropout(self) -> str:
        """``matched`` or ``native``, or ``none`` where the rate is 0."""
        return self.train.dropout if self.model.drop_rate else "none"


def is_fused(plan: StepPlan, framework: str) -> bool:
    """Whether the trainer's attention runs in a kernel that never holds its weights.

    As both ``fused_attention`` have it: matched dropout is written out everywhere; PyTorch's CPU
    kernel takes no dropout, JAX's flash attention none either, and only 16-bit floats on a GPU.
    """
    gpu = plan.device == "cuda"
    if framework == "torch":
        return plan.dropout == "none" or (plan.dropout == "native" and gpu)
    return plan.dropout == "none" and gpu and plan.width == 2


@dataclass(frozen=True)
class Variant:
    """One way to trade time for memory; ``chunk`` is of the loss, 0 meaning all positions."""

    fused: bool
    recompute: bool
    chunk: int


def variant(plan: StepPlan, framework: str) -> Variant:
    """The variant of the plan's own settings."""
    return Variant(is_fused(plan, framework), plan.train.recompute, plan.train.loss_chunk)
