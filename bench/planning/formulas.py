"""A training step of GPT-2 on paper: what it keeps in memory, sends, and computes, side by side.

Formulas in sizes alone: nothing here is measured, and neither framework is needed. What the
backward pass keeps is read off the models as this project writes them, tensor by tensor;
``tests/test_plan.py`` holds it against what PyTorch saves and what XLA sets aside, and
``bench.plan_check`` a whole plan against a real run.

Letters: B sequences that a device takes at once, T tokens each, R = B T; C width, H heads, V
vocabulary, L layers, N parameters; x = R C and a = B H T T elements, one residual stream and one
set of attention weights. Memory is in bytes, time in seconds.
"""

from dataclasses import dataclass, field
from typing import Any

from shared import params
from shared.config import GPTConfig, TrainConfig

FRAMEWORKS = ("torch", "jax")
WIDTH = {"float64": 8, "float32": 4, "tf32": 4, "bfloat16": 2}
WORD = 4  # bytes of a random word
LABEL = 8  # bytes of a token id in PyTorch
# Words that clipping and AdamW move for each parameter: 7 for the update, which reads parameter,
# gradient and both moments and writes all but one. PyTorch squares, sums and scales the gradients
# before, 5 more; XLA scales as it updates, and sums the squares before, 1.
UPDATE_WORDS = {"torch": 12, "jax": 8}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A training step to be planned: ``train.batch_size`` sequences over all devices.

    ``data_parallel`` times ``sharded`` devices. Raises ``ValueError`` where the sizes do not fit.
    """

    model: GPTConfig
    train: TrainConfig
    length: int
    data_parallel: int = 1
    sharded: int = 1
    device: str = "cpu"

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
        """How many devices share the step."""
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
    def dropout(self) -> str:
        """``matched`` or ``native``, or ``none`` where the rate is 0."""
        return self.train.dropout if self.model.drop_rate else "none"


def is_fused(plan: Plan, framework: str) -> bool:
    """Whether the trainer's attention runs in a kernel that never holds its weights.

    As both ``fused_attention`` have it: matched dropout is written out everywhere; PyTorch's CPU
    kernel takes no dropout, JAX's flash attention none either, and only 16-bit floats on a GPU.
    """
    gpu = plan.device == "cuda"
    if framework == "torch":
        return plan.dropout == "none" or (plan.dropout == "native" and gpu)
    return plan.dropout == "none" and gpu and plan.width == 2


# What a device holds


def state(plan: Plan, framework: str) -> dict[str, int]:
    """Bytes of parameters, gradients and AdamW's two moments on one device.

    Divided by ``sharded``. A narrower compute dtype has its own copy of the parameters. PyTorch's
    ``DistributedDataParallel`` gathers gradients in buckets beside them. ``fully_shard`` gathers
    two blocks' parameters at a time, and the embedding's, and has a block's gradients whole, and
    the embedding's, each of them twice: as the tensors, and as the one that is sent. XLA gathers
    all parameters for the whole pass.
    """
    n, m = plan.parameters, plan.sharded
    found = {
        "parameters": n * plan.wide // m,
        "gradients": n * plan.wide // m,
        "moments": 2 * n * plan.wide // m,
    }
    mixed = plan.width < plan.wide
    if mixed and (framework == "jax" or plan.devices == 1):
        found["parameters, narrow"] = n * plan.width
    if m > 1 and framework == "jax" and not mixed:
        found["parameters, gathered"] = n * plan.width
    if framework == "torch" and plan.devices > 1:
        if m > 1 or mixed:
            block = (n - plan.embedding) // plan.model.n_layers
            found["parameters, gathered"] = 2 * (plan.embedding + 2 * block) * plan.width
            found["gradients, whole"] = 2 * (plan.embedding + block) * plan.wide
        else:
            found["buckets"] = n * plan.wide
    return found


def block(plan: Plan, framework: str, *, fused: bool, recompute: bool) -> dict[str, int]:
    """Bytes that one block keeps for its backward pass, tensor by tensor."""
    kept = _torch_block if framework == "torch" else _jax_block
    return kept(plan, fused, recompute)


def _torch_block(plan: Plan, fused: bool, recompute: bool) -> dict[str, int]:
    """What autograd saves: the inputs of products, norms and GELU, masks, and the softmax's output.

    ``checkpoint`` saves the block's input alone.
    """
    s, x, a = plan.width, plan.stream, plan.weights
    if recompute:
        return {"block: input": s * x}
    mask = _mask(plan)
    if fused:
        attention = {"log-sum-exp": plan.wide * plan.rows * plan.model.n_heads * plan.length}
    else:
        # The softmax is in float32 at least; rounding its output makes another tensor of it.
        dropped = plan.dropout != "none" or s < plan.wide
        attention = {
            "causal mask": plan.length**2 if plan.dropout != "native" else 0,
            "softmax": plan.wide * a,
            "weights": s * a * dropped,
            "dropout": mask * a,
        }
    return {
        "ln_1: input, mean, deviation": s * (x + 2 * plan.positions),
        "c_attn: input": s * x,
        "attention: q, k, v": 3 * s * x,
        **{f"attention: {name}": size for name, size in attention.items()},
        "c_proj: input": s * x,
        "resid_dropout": mask * x,
        "ln_2: input, mean, deviation": s * (x + 2 * plan.positions),
        "c_fc: input": s * x,
        "GELU: input": 4 * s * x,
        "mlp.c_proj: input": 4 * s * x,
        "mlp.dropout": mask * x,
    }


def _jax_block(plan: Plan, fused: bool, recompute: bool) -> dict[str, int]:
    """What XLA keeps of a block between its forward and its backward pass, on a CPU.

    Read off the compiled step's buffers: what a product or an exponential made is kept, cheaper
    work is fused into what reads it and done again. The random words of matched dropout come in
    pairs and are kept in place of the masks, since XLA does not draw twice what it can keep: not
    even where the block is computed again.
    """
    s, x, a, words = _computed(plan), plan.stream, plan.weights, _words(plan)
    drawn = {"attention: dropout": words * a, "resid_dropout": words * x, "mlp.dropout": words * x}
    if fused:
        drawn["attention: dropout"] = 0
    if recompute:
        return {"block: input": s * x, **drawn}
    if fused:
        attention = {"log-sum-exp": plan.wide * plan.rows * plan.model.n_heads * plan.length}
    else:
        # Without dropout JAX's own attention keeps the masked scores as well.
        attention = {
            "scores": plan.wide * a * (plan.dropout == "none"),
            "softmax": plan.wide * a,
            "weights": s * a,
        }
    return {
        "residual streams": 2 * s * x,
        "norms: outputs": 2 * s * x,
        "norms: deviations, broadcast": 4 * s * x,
        "attention: q, k, v": 3 * s * x,
        **{f"attention: {name}": size for name, size in attention.items()},
        "attention: output": s * x,
        "c_fc: output, tanh, GELU": 3 * 4 * s * x,
        **drawn,
    }


def beside(plan: Plan, framework: str, *, chunk: int) -> dict[str, int]:
    """Bytes kept for the backward pass outside the blocks: embedding, last norm, head, loss.

    In chunks, the loss keeps its two gradients in place of the logits.
    """
    return (_torch_beside if framework == "torch" else _jax_beside)(plan, chunk)


def _torch_beside(plan: Plan, chunk: int) -> dict[str, int]:
    s, x = plan.width, plan.stream
    found = {
        "tokens": LABEL * (plan.positions + plan.length),
        "dropout": _mask(plan) * x,
        "ln_f: input, mean, deviation": s * (x + 2 * plan.positions),
    }
    if chunk:
        return found | {"head: gradients": plan.wide * (x + plan.embedding)}
    return found | {
        "head: input": s * x,
        "log-softmax": plan.wide * plan.positions * plan.model.vocab_size,
        "labels": LABEL * plan.positions + plan.wide,
    }


def _jax_beside(plan: Plan, chunk: int) -> dict[str, int]:
    s, x = _computed(plan), plan.stream
    found = {"dropout": _words(plan) * x, "ln_f: deviation, input, output": 4 * s * x}
    if chunk:
        return found | {"head: gradients": s * (x + plan.embedding)}
    return found | {"logits": plan.wide * plan.positions * plan.model.vocab_size}


def _mask(plan: Plan) -> int:
    """Bytes an element of PyTorch's masks: its own are of floats on a CPU, else of booleans."""
    if plan.dropout == "native" and plan.device == "cpu":
        return plan.width
    return int(plan.dropout != "none")


def _words(plan: Plan) -> int:
    """Bytes an element of the random words that XLA keeps: two where dropout is matched."""
    return WORD * {"none": 0, "native": 1, "matched": 2}[plan.dropout]


def _computed(plan: Plan) -> int:
    """Bytes of an activation in XLA, which on a CPU computes 16-bit floats in float32."""
    return plan.wide if plan.device == "cpu" else plan.width


@dataclass(frozen=True)
class Variant:
    """One way to trade time for memory; ``chunk`` is of the loss, 0 meaning all positions."""

    fused: bool
    recompute: bool
    chunk: int


def variant(plan: Plan, framework: str) -> Variant:
    """The one that the plan's own settings ask for."""
    return Variant(is_fused(plan, framework), plan.train.recompute, plan.train.loss_chunk)


def kept(plan: Plan, framework: str, how: Variant) -> int:
    """Bytes of one micro-batch that are there when its backward pass begins."""
    each = block(plan, framework, fused=how.fused, recompute=how.recompute)
    outside = beside(plan, framework, chunk=how.chunk)
    return plan.model.n_layers * sum(each.values()) + sum(outside.values())


def working(plan: Plan, framework: str, how: Variant) -> int:
    """Bytes besides ``kept`` when most are needed: in the loss's backward pass, or a block's.

    The loss: PyTorch adds the gradient of the log-softmax and that of the logits to the log-softmax
    kept; XLA the exponentials to the logits. In chunks there are only a chunk's, which PyTorch
    overwrites with exponentials and copies where it rounds them, and XLA's sum of the chunks'
    gradients. A block that is computed again has, once the logits are gone, what it
    would have kept.
    """
    logits = plan.wide * plan.model.vocab_size
    if how.chunk:
        once = framework == "torch" and plan.width == plan.wide
        loss = (1 if once else 2) * logits * min(how.chunk, plan.positions)
        loss += plan.wide * plan.embedding * (framework == "jax")
    else:
        loss = (2 if framework == "torch" else 1) * logits * plan.positions
    if not how.recompute:
        return loss
    whole, least = (
        block(plan, framework, fused=how.fused, recompute=again) for again in (False, True)
    )
    again = sum(size for name, size in whole.items() if name not in least)
    return max(loss, again - (0 if how.chunk else logits * plan.positions))


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device: the state, what is kept, what is worked with, and what cannot be used.

    ``lost`` is room that a CPU process holds and does not need: see ``memory``.
    """

    state: dict[str, int]
    kept: int
    working: int
    lost: dict[str, int] = field(default_factory=dict)

    @property
    def tensors(self) -> int:
        """Bytes of all tensors at the peak, beside what the process takes for itself."""
        return sum(self.state.values()) + self.kept + self.working + sum(self.lost.values())


def memory(plan: Plan, framework: str, how: Variant | None = None) -> Memory:
    """One device's peak.

    On a GPU it is when the backward pass begins, and no gradient is there yet, or when it ends, and
    all are. On a CPU freed memory is kept for the next allocation (``shared/memory.py``), which
    finds no room where another kind of tensor was:

    - PyTorch: gradients and activations never share. Aligned blocks of one size do not fit where
      one of them was, by the bytes of the alignment (glibc before 2.38), so the loss takes one room
      more, and the embedding's second gradient one of its own where the logits' are smaller.
    - JAX: what building the model took stays: NumPy's parameters, and the state that was copied
      before it was donated. The step's temporary memory is one block beside it, with gradients and
      activations in it.
    """
    how = how or variant(plan, framework)
    held = state(plan, framework)
    saved, work = kept(plan, framework, how), working(plan, framework, how)
    gradients = held.pop("gradients") + held.pop("buckets", 0)
    if plan.device == "cuda" or framework == "jax":
        # The later moment: every gradient, and of the embedding's the part that the head made.
        later = gradients + plan.wide * plan.embedding
        if later > saved + work:
            saved, work = 0, later - gradients
            held["gradients"] = gradients
    else:
        held["gradients"] = gradients
    lost: dict[str, int] = {}
    if plan.device == "cpu" and framework == "torch":
        logits = plan.wide * plan.positions * plan.model.vocab_size
        second = plan.wide * plan.embedding
        lost = {
            "a hole of the loss": 0 if how.chunk else logits,
            "the embedding's second gradient": second if second > logits or how.chunk else 0,
        }
    if plan.device == "cpu" and framework == "jax":
        lost = {"building": 4 * plan.parameters * plan.wide}
    return Memory(state=held, kept=saved, working=work, lost=lost)


# What a device sends


def communication(plan: Plan, framework: str) -> dict[str, float]:
    """Bytes that each device sends in one step, by exchange.

    Rings, which send the least that can be sent: of n devices each sends (n - 1)/n of what is
    gathered or scattered, and twice that where all are to have the sum (Patarasuk and Yuan,
    Bandwidth optimal all-reduce algorithms, 2009). Parameters are gathered in the compute dtype.
    PyTorch gathers them twice a micro-batch, forward and backward, and XLA once; PyTorch sums
    gradients over ``data_parallel`` with the last micro-batch alone, XLA with each.
    """
    d, m, n = plan.data_parallel, plan.sharded, plan.parameters
    rounds = plan.train.micro_batches
    torch = framework == "torch"
    gradient = plan.wide if torch else plan.width
    found: dict[str, float] = {}
    if m > 1:
        share = (m - 1) / m
        found["all-gather"] = rounds * (2 if torch else 1) * share * n * plan.width
        found["reduce-scatter"] = rounds * share * n * gradient
    if d > 1:
        sums = 1 if torch else rounds
        found["all-reduce"] = sums * 2 * (d - 1) / d * n * gradient / m
    return found


# How long it takes


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What one framework was measured to reach on one machine.

    ``products`` in FLOP/s and ``parts`` in elements/s, by name; ``copy`` in bytes/s, read and
    written. Where a record has no ``parts``, their bytes are taken at the rate of a copy.
    """

    products: dict[str, float]
    copy: float
    parts: dict[str, float]


def rates(ceilings: dict[str, Any]) -> Rates:
    """The rates in one framework's ceilings, as ``bench.ceilings`` measures them.

    The median of the repeats: a step does not have every product at its best.
    """
    return Rates(
        products={row["name"]: row["median_flops_per_s"] for row in ceilings["products"]},
        copy=ceilings["copy_bytes_per_s"],
        parts={row["name"]: row["elements_per_s"] for row in ceilings.get("parts", ())},
    )


def arithmetic(plan: Plan, how: Variant) -> dict[str, float]:
    """FLOPs of one device's step by product; ``workloads.flops`` is their sum.

    Three times the forward pass, as one product backward for each of its two operands; a block that
    is computed again has its forward pass twice.
    """
    c, layers = plan.model.emb_dim, plan.model.n_layers
    positions = plan.positions * plan.train.micro_batches
    passes = 3 + how.recompute
    each = {"c_attn": 3, "c_proj": 1, "c_fc": 4, "mlp.c_proj": 4}
    found = {n: passes * layers * 2.0 * positions * k * c * c for n, k in each.items()}
    found["attention"] = passes * layers * 4.0 * positions * plan.length * c
    head = 2.0 * positions * plan.embedding
    return {**found, "head": 2 * head, "head, weight gradient": head}


def seconds(
    plan: Plan, framework: str, measured: Rates, link: float | None = None
) -> dict[str, float]:
    """Seconds of one step by what they are spent on, one after the other.

    Products take their own rates; attention, dropout, GELU and the loss theirs, forward and
    backward together. Every tensor that is kept besides is written and read, and so is its
    gradient, at the rate of a copy. The update moves ``UPDATE_WORDS`` words a parameter. ``link``
    is what a device sends, bytes/s: nothing of the exchange is taken to be hidden behind the
    arithmetic.
    """
    how, rounds = variant(plan, framework), plan.train.micro_batches
    flops = arithmetic(plan, how)
    attention = flops.pop("attention")
    found = {"products": sum(flop / measured.products[name] for name, flop in flops.items())}
    moved = block(plan, framework, fused=True, recompute=False)
    bytes_moved = plan.model.n_layers * sum(moved.values())
    if measured.parts:
        for name, elements in parts(plan, how).items():
            found[name] = rounds * elements / measured.parts[name]
    else:
        found["attention"] = attention / measured.products["c_proj"]
        bytes_moved = kept(plan, framework, Variant(how.fused, False, 0))
    found["other tensors"] = rounds * 4 * bytes_moved / measured.copy
    moved_a_word = plan.wide * plan.parameters / plan.sharded / measured.copy
    found["update"] = UPDATE_WORDS[framework] * moved_a_word
    if link:
        found["exchange"] = sum(communication(plan, framework).values()) / link
    return found


def parts(plan: Plan, how: Variant) -> dict[str, float]:
    """Elements of one micro-batch that go through each part, forward and backward.

    A block computed again adds a forward pass, taken as a third of both.
    """
    layers, x, a = plan.model.n_layers, plan.stream, plan.weights
    passes = 4 / 3 if how.recompute else 1.0
    found = {
        "fused attention" if how.fused else "attention": passes * layers * a,
        "GELU": passes * layers * 4 * x,
        "loss": float(plan.positions * plan.model.vocab_size),
    }
    if plan.dropout != "none":
        found[f"{plan.dropout} dropout"] = passes * layers * (a + 2 * x) + x
    return found
