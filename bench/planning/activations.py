"""Bytes that a device keeps for the backward pass of GPT-2 and works with, tensor by tensor.

Read off the models as this project writes them; ``tests/planning`` holds the formulas against what
PyTorch saves and what XLA sets aside. Letters are those of ``step_plan``.
"""

from bench.planning.step_plan import StepPlan, Variant

WORD = 4  # bytes of a random word
LABEL = 8  # bytes of a token id in PyTorch


def block(plan: StepPlan, framework: str, *, fused: bool, recompute: bool) -> dict[str, int]:
    """Bytes that one block keeps for its backward pass, tensor by tensor."""
    kept = _torch_block if framework == "torch" else _jax_block
    return kept(plan, fused, recompute)


def _torch_block(plan: StepPlan, fused: bool, recompute: bool) -> dict[str, int]:
    """Bytes autograd saves: inputs of products, norms and GELU, masks, and the softmax's output.

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


def _jax_block(plan: StepPlan, fused: bool, recompute: bool) -> dict[str, int]:
    """Bytes XLA keeps of a block between its forward and its backward pass, on a CPU.

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


def beside(plan: StepPlan, framework: str, *, chunk: int) -> dict[str, int]:
    """Bytes kept for the backward pass outside the blocks: embedding, last norm, head, loss.

    In chunks, the loss keeps its two gradients in place of the logits.
    """
    return (_torch_beside if framework == "torch" else _jax_beside)(plan, chunk)


def _torch_beside(plan: StepPlan, chunk: int) -> dict[str, int]:
    s, x = plan.width, plan.stream
    sizes = {
        "tokens": LABEL * (plan.positions + plan.length),
        "dropout": _mask(plan) * x,
        "ln_f: input, mean, deviation": s * (x + 2 * plan.positions),
    }
    if chunk:
        return sizes | {"head: gradients": plan.wide * (x + plan.padded_head)}
    return sizes | {
        "head: input": s * x,
        "head: padded weight": s * plan.padded_head * (plan.padded_head > plan.embedding),
        "log-softmax": plan.wide * plan.positions * plan.model.vocab_size,
        "labels": LABEL * plan.positions + plan.wide,
    }


def _jax_beside(plan: StepPlan, chunk: int) -> dict[str, int]:
    s, x = _computed(plan), plan.stream
    sizes = {"dropout": _words(plan) * x, "ln_f: deviation, input, output": 4 * s * x}
    if chunk:
        return sizes | {"head: gradients": s * (x + plan.embedding)}
    return sizes | {"logits": plan.wide * plan.positions * plan.model.vocab_size}


def _mask(plan: StepPlan) -> int:
    """Bytes an element of PyTorch's masks: its own are of floats on a CPU, else of booleans."""
    if plan.dropout == "native" and plan.device == "cpu":
        return plan.width
    return int(plan.dropout != "none")


def _words(plan: StepPlan) -> int:
    """Bytes an element of the random words that XLA keeps: two where dropout is matched."""
    return WORD * {"none": 0, "native": 1, "matched": 2}[plan.dropout]


def _computed(plan: StepPlan) -> int:
    """Bytes of an activation in XLA, which on a CPU computes 16-bit floats in float32."""
    return plan.wide if plan.device == "cpu" else plan.width


def kept(plan: StepPlan, framework: str, how: Variant) -> int:
    """Bytes of one micro-batch that are there when its backward pass begins."""
    each = block(plan, framework, fused=how.fused, recompute=how.recompute)
    outside = beside(plan, framework, chunk=how.chunk)
    return plan.model.n_layers * sum(each.values()) + sum(outside.values())


def working(plan: StepPlan, framework: str, how: Variant) -> int:
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
