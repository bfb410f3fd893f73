"""Bytes that a device holds during a training step of GPT-2: its state, and the peak."""

from dataclasses import dataclass, field

from bench.planning import activations
from bench.planning.step_plan import StepPlan, Variant, variant


def state(plan: StepPlan, framework: str) -> dict[str, int]:
    """Bytes of parameters, gradients and AdamW's two moments on one device.

    Divided by ``sharded``. A narrower compute dtype has its own copy of the parameters. PyTorch's
    ``DistributedDataParallel`` gathers gradients in buckets beside them. ``fully_shard`` gathers
    two blocks' parameters at a time, and the embedding's, and has a block's gradients whole, and
    the embedding's, each of them twice: as the tensors, and as the one that is sent. XLA gathers
    all parameters for the whole pass.
    """
    n, m = plan.parameters, plan.sharded
    sizes = {
        "parameters": n * plan.wide // m,
        "gradients": n * plan.wide // m,
        "moments": 2 * n * plan.wide // m,
    }
    mixed = plan.width < plan.wide
    if mixed and (framework == "jax" or plan.devices == 1):
        sizes["parameters, narrow"] = n * plan.width
    if m > 1 and framework == "jax" and not mixed:
        sizes["parameters, gathered"] = n * plan.width
    if framework == "torch" and plan.devices > 1:
        if m > 1 or mixed:
            block = (n - plan.embedding) // plan.model.n_layers
            sizes["parameters, gathered"] = 2 * (plan.embedding + 2 * block) * plan.width
            sizes["gradients, whole"] = 2 * (plan.embedding + block) * plan.wide
        else:
            sizes["buckets"] = n * plan.wide
    return sizes


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device: the state, activations kept, working memory, and room that is ``lost``.

    A CPU process holds that room and does not need it: see ``memory``.
    """

    state: dict[str, int]
    kept: int
    working: int
    lost: dict[str, int] = field(default_factory=dict)

    @property
    def tensors(self) -> int:
        """Bytes of all tensors at the peak, beside what the process takes for itself."""
        return sum(self.state.values()) + self.kept + self.working + sum(self.lost.values())


def memory(plan: StepPlan, framework: str, how: Variant | None = None) -> Memory:
    """One device's peak.

    On a GPU it is when the backward pass begins, and no gradient is there yet, or when it ends, and
    all are. On a CPU freed memory is kept for the next allocation (``shared/allocator.py``), which
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
    saved, work = activations.kept(plan, framework, how), activations.working(plan, framework, how)
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
