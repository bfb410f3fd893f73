"""Notes on shapes, broadcasting and einsum."""

from twingrad.phrases.phrase import Family, Phrase, normal

FAMILY = Family(
    name="shapes",
    title="Shapes, broadcasting and einsum",
    phrases=(
        Phrase(
            name="pairwise",
            title="Every pair of two sets",
            words="broadcast unsqueeze newaxis None cdist distance expand_dims",
            inputs={"x": normal(4, 3), "y": normal(2, 3)},
            gradient=("x", "y"),
            differs="The rules of broadcasting are NumPy's in both, and indexing with `None` "
            "works in both. An array of another rank is broadcast silently: a loss of (B,) and "
            "(B, 1) becomes (B, B). JAX can refuse that: `jax.numpy_rank_promotion('raise')`.",
            costs="All pairs in memory in eager mode; under `jit` the difference is fused into "
            "the sum.",
        ),
        Phrase(
            name="transpose",
            title="Transpose axes",
            words="permute swapaxes mT movedim T",
            inputs={"x": normal(2, 3, 4)},
            gradient=("x",),
            differs="A false friend: `x.transpose(0, 1)` in PyTorch swaps two axes, in JAX it "
            "gives the order of all of them, which PyTorch calls `permute`. `x.T` is meant for "
            "matrices alone in PyTorch, and turns all axes round in JAX.",
            costs="A view in PyTorch, whose strides may slow what reads it; in JAX a copy unless "
            "`jit` chooses the layout.",
        ),
        Phrase(
            name="split_heads",
            title="Split an axis into heads",
            words="view reshape contiguous heads attention rearrange",
            inputs={"x": normal(2, 3, 4)},
            gradient=("x",),
            differs="`view` raises where memory would have to move (after a transpose: call "
            "`contiguous` or `reshape`). JAX has `reshape` alone, which always works.",
            costs="Nothing for a view. PyTorch's `reshape` copies exactly where `view` raises.",
        ),
        Phrase(
            name="flatten",
            title="Flatten axes",
            words="flatten view ravel reshape unflatten",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="`x.flatten(1)` keeps the batch; JAX's `x.flatten()` takes no axis, so it is "
            "a reshape. Both run through the last axis fastest, whatever the strides are. Before "
            "a Linear after a convolution the channels are first in PyTorch and last in JAX: the "
            "rows of its weight come in another order.",
            costs="A copy where the array is transposed.",
        ),
        Phrase(
            name="join",
            title="Join arrays",
            words="cat concat concatenate stack hstack",
            inputs={"x": normal(4, 3), "y": normal(4, 3)},
            gradient=("x", "y"),
            differs="`torch.cat` with `dim` is `jnp.concatenate` with `axis`; stacking is the "
            "same.",
            costs="A copy. Joining in a loop copies what was there each time.",
        ),
        Phrase(
            name="split",
            title="Split into parts of given sizes",
            words="split chunk sections sizes qkv",
            inputs={"x": normal(2, 4)},
            gradient=("x",),
            differs="A false friend: a list is the sizes of the parts in PyTorch, and the places "
            "where a part begins in JAX. A single number is the size of a part in PyTorch, and "
            "the number of parts in JAX.",
            costs="Views in PyTorch, copies in JAX unless fused.",
        ),
        Phrase(
            name="chunks",
            title="Split into equal parts",
            words="chunk split array_split equal",
            inputs={"x": normal(2, 4)},
            gradient=("x",),
            differs="`torch.chunk` makes the last part shorter where it does not divide; "
            "`jnp.split` raises, and `jnp.array_split` makes the first parts longer.",
            costs="Views in PyTorch, copies in JAX unless fused.",
        ),
        Phrase(
            name="expand",
            title="Repeat along an axis without copying",
            words="expand broadcast_to expand_as stride",
            inputs={"x": normal(1, 3)},
            gradient=("x",),
            differs="`expand` is a view with a stride of 0, and writing to it is refused or "
            "writes to one element. In JAX a broadcast array is an array like any other.",
            costs="Nothing in PyTorch; in JAX memory for all of it outside of `jit`. The gradient "
            "is a sum in both.",
        ),
        Phrase(
            name="pad",
            title="Pad with zeros",
            words="pad constant padding border",
            inputs={"x": normal(2, 3)},
            gradient=("x",),
            differs="`F.pad` takes one flat tuple that begins at the last axis; `jnp.pad` a pair "
            "for each axis, from the first. Modes are called `replicate` and `edge`, `circular` "
            "and `wrap`; `reflect` is the same.",
            costs="A copy.",
        ),
        Phrase(
            name="attention_scores",
            title="Einsum",
            words="einsum contraction attention batched matmul",
            inputs={"q": normal(2, 3, 2, 4), "k": normal(2, 3, 2, 4)},
            gradient=("q", "k"),
            differs="The same letters. Of three operands and more JAX looks for the best order of "
            "contraction; PyTorch does where `opt_einsum` is installed.",
            costs="A transposition and a batched product; on a GPU JAX multiplies float32 in TF32 "
            "unless `precision` says otherwise.",
        ),
        Phrase(
            name="batched_product",
            title="A product of matrices for each of a batch",
            words="bmm matmul baddbmm at operator batch",
            inputs={"x": normal(2, 3, 4), "y": normal(2, 4, 3)},
            gradient=("x", "y"),
            differs="`@` broadcasts all but the last two axes in both; `bmm` takes exactly three "
            "axes and never broadcasts.",
            costs="The same.",
        ),
        Phrase(
            name="sliding_windows",
            title="Sliding windows",
            words="unfold as_strided rolling frames stride patches",
            inputs={"x": normal(6)},
            gradient=("x",),
            differs="`unfold` is a view in which elements appear several times. JAX gathers with "
            "an array of indices; for patches of images there is "
            "`jax.lax.conv_general_dilated_patches`.",
            costs="Nothing in PyTorch; in JAX every window is written out, unless `jit` fuses "
            "what reads it.",
        ),
        Phrase(
            name="reduce",
            title="Reduce along axes",
            words="mean sum amax max dim axis keepdim keepdims",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="`dim` and `keepdim` against `axis` and `keepdims`; PyTorch also takes "
            "NumPy's words. `amax` takes several axes, `max` one. Where several are the largest, "
            "`amax` and JAX share the gradient among them, `max(dim)` gives it to one.",
            costs="The same.",
        ),
        Phrase(
            name="max_and_place",
            title="The largest and where it is",
            words="argmax max indices values namedtuple",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="`max(dim)` returns both in PyTorch, and `x.max()` one number. JAX has two "
            "functions. Of equal elements JAX names the first; PyTorch promises nothing.",
            costs="JAX reads twice in eager mode; under `jit` once.",
        ),
        Phrase(
            name="variance",
            title="Variance and standard deviation",
            words="var std unbiased correction ddof",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="Over n - 1 in PyTorch and over n in JAX, unless `correction` and `ddof` say "
            "otherwise. Layer and batch norms use n in both.",
            costs="The same.",
        ),
        Phrase(
            name="norms",
            title="Norms of rows and of matrices",
            words="norm linalg frobenius spectral l2 vector_norm",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="`torch.norm` (old) takes all elements; `linalg.norm` of a matrix with "
            "`ord=2` is the spectral norm in both. Say which by `vector_norm` or `matrix_norm`. "
            "The gradient at 0 is 0 in PyTorch and NaN in JAX: see the safe norm.",
            costs="A singular value decomposition for the spectral norm.",
        ),
        Phrase(
            name="cumulative",
            title="Cumulative sums and maxima",
            words="cumsum cummax cumprod prefix scan",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="`cummax` returns places too in PyTorch; in JAX it lies in `jax.lax`, with "
            "`cummin` and `cumlogsumexp`.",
            costs="On a GPU JAX's are a parallel scan: more operations, in fewer steps.",
        ),
        Phrase(
            name="solve",
            title="Solve linear equations",
            words="linalg solve inverse cholesky inv",
            inputs={"a": normal(3, 3), "b": normal(3, 2)},
            gradient=("a", "b"),
            differs="The same. A singular matrix raises in PyTorch, and gives inf or NaN in JAX.",
            costs="One factorisation, and one more solution for the gradient; on a GPU PyTorch "
            "waits to check the result (`solve_ex` does not).",
        ),
    ),
)
