"""Bytes that a device sends in a training step of GPT-2, and seconds that the step takes.

Formulas in sizes and measured rates; letters are those of ``step_plan``.
"""

from dataclasses import dataclass

from bench.planning import activations
from bench.planning.record import CeilingsJson
from bench.planning.step_plan import StepPlan, Variant, variant

# Words that clipping and AdamW move for each parameter: 7 for the update, which reads parameter,
# gradient and both moments and writes all but one. PyTorch squares, sums and scales the gradients
# before, 5 more; XLA scales as it updates, and sums the squares before, 1.
UPDATE_WORDS = {"torch": 12, "jax": 8}


def communication(plan: StepPlan, framework: str) -> dict[str, float]:
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
    sent: dict[str, float] = {}
    if m > 1:
        share = (m - 1) / m
        sent["all-gather"] = rounds * (2 if torch else 1) * share * n * plan.width
        sent["reduce-scatter"] = rounds * share * n * gradient
    if d > 1:
        sums = 1 if torch else rounds
        sent["all-reduce"] = sums * 2 * (d - 1) / d * n * gradient / m
    return sent


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Rates that one framework was measured to reach on one machine.

    ``products`` in FLOP/s and ``parts`` in elements/s, by name; ``copy`` in bytes/s, read and
    written. Where a record has no ``parts``, their bytes are taken at the rate of a copy.
    """

    products: dict[str, float]
    copy: float
    parts: dict[str, float]


def rates(ceilings: CeilingsJson) -> Rates:
    """The rates in one framework's ceilings, as ``bench.speed.ceilings`` measures them.

    The median of the repeats: a step does not have every product at its best.
    """
    return Rates(
        products={row["name"]: row["median_flops_per_s"] for row in ceilings["products"]},
        copy=ceilings["copy_bytes_per_s"],
        parts={row["name"]: row["elements_per_s"] for row in ceilings.get("parts", ())},
    )


# The products of a step, by the names that their rates have.
PRODUCTS = ("c_attn", "c_proj", "c_fc", "mlp.c_proj", "head", "head, weight gradient")


def arithmetic(plan: StepPlan, how: Variant) -> dict[str, float]:
    """FLOPs of one device's step by product; ``workloads.flops`` is their sum.

    Three times the forward pass, as one product backward for each of its two operands; a block that
    is computed again has its forward pass twice.
    """
    c, layers = plan.model.emb_dim, plan.model.n_layers
    positions = plan.positions * plan.train.micro_batches
    passes = 3 + how.recompute
    each = {"c_attn": 3, "c_proj": 1, "c_fc": 4, "mlp.c_proj": 4}
    flops = {n: passes * layers * 2.0 * positions * k * c * c for n, k in each.items()}
    flops["attention"] = passes * layers * 4.0 * positions * plan.length * c
    head = 2.0 * positions * plan.embedding
    return {**flops, "head": 2 * head, "head, weight gradient": head}


def seconds(
    plan: StepPlan, framework: str, measured: Rates, link: float | None = None
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
    spent = {"products": sum(flop / measured.products[name] for name, flop in flops.items())}
    moved = activations.block(plan, framework, fused=True, recompute=False)
    bytes_moved = plan.model.n_layers * sum(moved.values())
    if measured.parts:
        for name, elements in parts(plan, how).items():
            spent[name] = rounds * elements / measured.parts[name]
    else:
        spent["attention"] = attention / measured.products["c_proj"]
        bytes_moved = activations.kept(plan, framework, Variant(how.fused, False, 0))
    spent["other tensors"] = rounds * 4 * bytes_moved / measured.copy
    moved_a_word = plan.wide * plan.parameters / plan.sharded / measured.copy
    spent["update"] = UPDATE_WORDS[framework] * moved_a_word
    if link:
        spent["exchange"] = sum(communication(plan, framework).values()) / link
    return spent


def parts(plan: StepPlan, how: Variant) -> dict[str, float]:
    """Elements of one micro-batch that go through each part, forward and backward.

    A block computed again adds a forward pass, taken as a third of both.
    """
    layers, x, a = plan.model.n_layers, plan.stream, plan.weights
    passes = 4 / 3 if how.recompute else 1.0
    elements = {
        "fused attention" if how.fused else "attention": passes * layers * a,
        "GELU": passes * layers * 4 * x,
        "loss": float(plan.positions * plan.model.vocab_size),
    }
    if plan.dropout != "none":
        elements[f"{plan.dropout} dropout"] = passes * layers * (a + 2 * x) + x
    return elements
