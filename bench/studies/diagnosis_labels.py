"""The right diagnosis of each planted bug: its place, and words that its cause must hold.

The place is read from the edit itself: the definition that it lies in, and what ``PLACES`` says
that this definition is called in a finding. The cause is a line of ``CAUSES``: a bug, and a regular
expression that must be found in the cause of the framework in which it is planted, or, where the
line begins with "both", in the whole sentence.
"""

import ast
import re
from collections.abc import Iterator

from bench.mutation.mutants import Mutant, source

# A definition of a file of one side -> how a finding names it; the first that fits.
PLACES = (
    (r"gpt2\.py (reference_attention|fused_attention|CausalSelfAttention\b.*)", r"h\.\d+\.attn"),
    (r"gpt2\.py MLP\b.*", r"h\.\d+\.mlp"),
    (r"gpt2\.py Block\.(?P<part>ln_\d)", r"h\.\d+\.{part}"),
    (r"gpt2\.py Block\..*", r"h\.\d+"),
    (r"gpt2\.py GPT2\.(?P<part>wte|wpe|ln_f)", r"{part}"),
    (r"gpt2\.py GPT2\..*", r"model"),
    (r"gpt2\.py (loss_fn|summed_loss)", r"loss"),
    (r"loss\.py .*", r"loss"),
    (r"params\.py .*", r"[\w.]+\.(weight|bias)"),
    (r"dropout\.py .*", r"([\w.]+\.)?(drop|\w*dropout)"),
    (r"optim\.py Optimizer\.restore", r"\w+ of step \d+, after going back"),
    (r"optim\.py .*", r"(adamw|sgd), .*"),
    (r"train\.py Trainer\.(restore|export)", r"\w+ of step \d+, after going back"),
    (r"train\.py Trainer\.(evaluate|_evaluated|_computing)", r"val_loss of step \d+"),
    (r"train\.py .*", r"(loss|grad_norm|val_loss) of step \d+"),
)
# What else shows such lines: parameters that they read, and the loss as the trainer evaluates it.
SHOWN = {
    "loss": r"wte\.weight|val_loss of step \d+",
    "model": r"\w+\.\w+",
    "wte": r"wte\.\w+",
}

CAUSES = r"""
layer-norm-epsilon-1e-6: epsilon 1e-06
layer-norm-epsilon-1e-12: epsilon 1e-12
unbiased-variance: variance over C - 1
fast-variance: variance that cancels
gelu-erf: GELU by erf
gelu-sigmoid: x sigmoid\(1\.702 x\)
relu: ReLU
no-residual: ^h\.0\.mlp$
residual-sign: - h\.0\.attn
post-norm-residual: ^h\.0\.ln_1 \+ h\.0\.attn$
parallel-block: ^its input$
one-norm-twice: h\.0\.ln_1
norms-swapped: both its input.*what enters h\.0\.ln_\d
no-final-norm: ^h\.1 times wte\.weight
no-bias: without its bias
blocks-reversed: both wte \+ wpe.*what leaves h\.\d

attention-unscaled: not divided by sqrt\(D\)
attention-scale-head: divided by D$
attention-scale-width: divided by sqrt\(C\)
attention-unscaled-in-float32: not divided by sqrt\(D\)
no-mask: without a mask
mask-one-ahead: one future position
mask-without-self: hides a position from itself
softmax-over-queries: softmax over queries
query-key-swapped: order kqv
key-value-swapped: order qvk
qkv-per-head: cut into heads first
heads-interleaved: heads cut as \(D, H\)
heads-merged-interleaved: heads merged as \(D, H\)
heads-merged-over-time: merged before they go behind time

projection-transposed: transposed
parameters-through-float16: float16

positions-from-one: positions from 1
no-positions: ^wte$
embedding-scaled: sqrt\(28\) × wte
dropout-left-on: draws at random|dropped
untied-gradient: lookup's part of the tied gradient alone
padding-row: as padding would
no-position-gradient: no gradient flows
no-norm-bias-gradient: no gradient flows

loss-summed: ^a sum$
loss-over-batch: the sum divided by B$
loss-over-shifted: divided by the targets that count behind the first position
loss-without-last: the mean without the last position
targets-not-shifted: of the inputs as targets
gradient-times-1.01: 1\.01 times|0\.990099 times
gradient-sign: the sign is turned
ignored-counted: divided by all positions
ignored-as-first-token: token 0
ignored-as-last-token: last token
ignored-one-place-on: mask of ignored targets stands one place on
ignored-counted-in-training: divided by ignored targets too
last-chunk-lost: without the last \d+ of \d+ positions
last-chunk-lost-in-evaluation: without the last chunk
chunk-filled-with-token-0: positions of zeros filled in and counted
chunks-averaged: means of chunks
chunk-without-head-gradient: lookup's part of the tied gradient alone
chunk-gradient-of-last-only: head's part of the last \d+ positions alone
chunk-incoming-gradient-ignored: gradient of the sum, not of the mean
chunk-incoming-gradient-for-head-ignored: head's part is that of the sum
chunk-ignored-have-gradients: ignored targets pull|ignored ones added
chunk-head-pulled-nowhere: head's part is one of the softmax alone
chunk-gradients-reversed: in reverse

attention-in-tf32: round.* to float16 or TF32
mlp-in-bfloat16: round.* to bfloat16
softmax-in-bfloat16: round.* to bfloat16
logits-in-float16: round.* to float16 or TF32
loss-in-bfloat16: round.* to bfloat16
moments-in-bfloat16: first moment is kept in bfloat16

adam-epsilon-in-root: epsilon inside the root
adam-epsilon-1e-6: epsilon 1e-06
no-bias-correction: without bias correction
beta2-0.999: beta2 0\.999
betas-swapped: betas swapped
decay-everything: decay of everything
decay-nothing: decay of nothing
decay-without-embeddings: decay of no (token )?embeddings
decay-default: weight decay 0\.\d+1 of matrices
decay-in-gradient: decay in the gradient
no-clipping: without clipping
clip-by-value: each number clipped
clip-per-tensor: each tensor clipped
clip-norm-plus-1e-6: 1e-6 added to the norm
clip-norm-of-matrices: norm over matrices alone
clip-after-update: without clipping|the update clipped
rate-one-step-ahead: schedule one step ahead
no-warm-up: without warm-up
rate-decays-to-zero: rate that falls to 0
rate-constant: constant rate
rate-in-float32: rate rounded to float32

gradients-not-cleared: gradients of the steps before
optimizer-state-lost: new optimizer at every step
no-update: parameters that never move
update-twice: every update taken twice
same-batch: first batch at every step
loss-after-update: loss taken after the update
gradients-summed: gradients times 2

micro-batches-not-cleared: gradients of the steps before
micro-batch-gradients-averaged: number of micro-batches once more
mean-of-means: micro-batches' own means
last-gradient-only: last micro-batch's gradients alone
last-micro-batch-left-out: without the last micro-batch
first-micro-batch-twice: first micro-batch twice
last-loss-reported: last micro-batch's loss
last-norm-reported: norm of the last micro-batch
clipped-norm-reported: norm after clipping
clip-per-micro-batch: clipped
rate-per-micro-batch: count\w* micro-batches

dropout-unscaled: what stays not scaled
dropout-scaled-down: what stays times 1 - rate
dropout-inverted: what should fall
dropout-rate-11-percent: 1\.1 times its rate
dropout-rate-in-256ths: rate rounded to 256ths
dropout-rate-halved: 0\.5 times its rate
dropout-signed-words: words taken for signed ones
dropout-by-bernoulli: jax\.random\.bernoulli
dropout-mask-transposed: mask with its axes swapped
dropout-mask-every-sequence: one mask for all sequences
dropout-mask-every-step: same units at every step
dropout-mask-every-micro-batch: same units in every micro-batch
dropout-mask-every-layer: same units in every layer
dropout-off-in-training: dropping nothing in training
dropout-on-in-evaluation: dropping units in evaluation
dropout-off-after-evaluation: dropping nothing once it has been evaluated
embedding-without-dropout: both dropped|what enters drop
attention-without-dropout: without dropout
attention-without-dropout-in-float32: without dropout
attention-dropout-of-kernel: draws at random
dropout-before-softmax: scores
dropout-before-projection: both attention.*what leaves h\.0\.attn\.\w+
dropout-inside-mlp: both GELU.*what leaves h\.0\.mlp\.\w+|dropped

resume-without-parameters: leaves the parameters
resume-without-first-moment: the first moment
resume-without-second-moment: the second moment
resume-moments-swapped: swaps the moments
resume-without-bias-correction: Adam's count of the steps
resume-without-schedule: the schedule's count of the steps
resume-one-step-behind: counts one step too few
resume-without-dropout: the step that dropout draws for
resume-in-float16: float16
checkpoint-not-copied: its own memory
"""

WORDS = dict(line.split(": ", 1) for line in CAUSES.splitlines() if line)


def is_named(mutant: Mutant, cause: str | None, side_cause: str | None) -> bool:
    """Whether the cause says which bug was planted.

    ``side_cause`` is the part of it about the framework in which the bug is.
    """
    words = WORDS[mutant.name]
    text = cause if words.startswith("both ") else side_cause
    return bool(re.search(words.removeprefix("both "), text or ""))


def is_located(mutant: Mutant, side: str, where: str | None) -> bool:
    """Whether ``where`` is the place of the bug."""
    return any(re.fullmatch(place, where or "") for place in places(mutant, side))


def places(mutant: Mutant, side: str) -> list[str]:
    """Regular expressions for the place, as findings name it, of each definition edited."""
    found = []
    for definition in dict.fromkeys(_definitions(mutant, side)):
        place = _place(f"{mutant.file} {definition}")
        if place:
            found += [place, SHOWN.get(place, place)]
    return found


def _place(definition: str) -> str | None:
    for pattern, place in PLACES:
        match = re.fullmatch(pattern, definition)
        if match:
            return place.replace("{part}", match.groupdict().get("part", ""))
    return None


def _definitions(mutant: Mutant, side: str) -> Iterator[str]:
    """The definitions in which the edits lie, or that use a name which an edit gives a new value.

    A layer made in a constructor counts as a definition: ``Block.ln_1``.
    """
    text = source(mutant, side)
    tree = ast.parse(text)
    for edit in mutant.edits[side]:
        inner: list[str] = []
        for start, *_ in edit.places(text):
            inner += _around(tree, text[:start].count("\n") + 1)
        yield from inner
        if not inner:
            for name in re.findall(r"^(\w+) = ", edit.new, re.MULTILINE):
                yield from _users(tree, name)


def _around(tree: ast.Module, line: int) -> Iterator[str]:
    for name, node in _named(tree):
        decorators = [part.lineno for part in getattr(node, "decorator_list", [])]
        if min([node.lineno, *decorators]) <= line <= (node.end_lineno or 0):
            yield name


def _users(tree: ast.Module, name: str) -> Iterator[str]:
    for definition, node in _named(tree):
        if any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(node)):
            yield definition


def _named(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Functions and methods; of a constructor, each statement, by the attribute it assigns."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    yield from _of_method(node.name, method)


def _of_method(owner: str, method: ast.FunctionDef) -> Iterator[tuple[str, ast.stmt]]:
    if method.name != "__init__":
        yield f"{owner}.{method.name}", method
        return
    for statement in method.body:
        yield f"{owner}.{_attribute(statement)}", statement


def _attribute(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Assign):
        return ast.unparse(statement.targets[0]).removeprefix("self.")
    return "__init__"
