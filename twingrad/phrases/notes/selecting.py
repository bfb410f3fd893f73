"""Notes on masks, gather and scatter, segments, top-k and sort."""

from twingrad.phrases.phrase import Family, Phrase, booleans, given, integers, normal

FAMILY = Family(
    name="selecting",
    title="Masks, gather, scatter, segments, top-k and sort",
    phrases=(
        Phrase(
            name="causal_mask",
            title="A causal mask",
            words="tril triangle attention masked_fill future softmax",
            inputs={"scores": normal(2, 4, 4)},
            gradient=("scores",),
            differs="The same. A mask of booleans means keep in `scaled_dot_product_attention` "
            "and in JAX, and leave out in `nn.MultiheadAttention`.",
            costs="A row that is masked everywhere becomes NaN in both: use the dtype's lowest "
            "number instead of -inf where that can be.",
        ),
        Phrase(
            name="safe_logarithm",
            title="A function that is undefined for some of the numbers",
            words="where nan gradient double where log sqrt division safe",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="Nothing: the trap is the same. One `where` around the logarithm gives the "
            "right value and a gradient of NaN, since 0 times the infinite derivative of what was "
            "not chosen is NaN. The inner `where` keeps bad numbers out.",
            costs="One more select, which is fused under `jit`.",
        ),
        Phrase(
            name="masked_mean",
            title="The mean of what is not masked",
            words="average padding where mask valid tokens",
            inputs={"x": normal(4, 3), "mask": booleans(4, 3)},
            gradient=("x",),
            differs="JAX's reductions take `where`. PyTorch multiplies, which lets a NaN that is "
            "masked through: `torch.where(mask, x, 0)` does not.",
            costs="The same. An empty mask gives NaN in both.",
        ),
        Phrase(
            name="masked_max",
            title="The largest of what is not masked",
            words="amax where initial mask",
            inputs={"x": normal(4, 3), "mask": booleans(4, 3)},
            gradient=("x",),
            differs="With `where` JAX's `max` needs `initial`, its answer if all is masked.",
            costs="The same.",
        ),
        Phrase(
            name="chosen",
            title="Select by a boolean mask",
            words="boolean mask indexing dynamic shape NonConcreteBooleanIndexError masked_select",
            inputs={"x": normal(4, 3), "mask": booleans(4, 3)},
            gradient=("x",),
            differs="`x[mask]` has as many elements as the mask has `True`. Under `jit` JAX "
            "raises `NonConcreteBooleanIndexError`, since shapes must not depend on numbers: keep "
            "the shape, and leave the rest out of the sum.",
            costs="PyTorch waits for the GPU to count; JAX computes on what is masked too.",
        ),
        Phrase(
            name="places",
            title="Where a mask is true",
            words="nonzero where argwhere indices size dynamic shape",
            inputs={"mask": booleans(7)},
            differs="Under `jit` JAX needs `size`, and fills up or cuts off. PyTorch's "
            "`nonzero_static` does the same; its `nonzero` returns as many rows as there are.",
            costs="`torch.nonzero` waits for the GPU; with a size nothing waits.",
        ),
        Phrase(
            name="gather",
            title="Gather along an axis",
            words="gather take_along_axis index",
            inputs={"x": normal(4, 3), "index": integers(4, 2, below=3)},
            gradient=("x",),
            differs="`torch.gather` is `take_along_axis`. `index` may be shorter than `x` in the "
            "other axes in PyTorch; in JAX they have to fit or be 1.",
            costs="The gradient is a scatter-add.",
        ),
        Phrase(
            name="scatter",
            title="Scatter along an axis",
            words="scatter_ put_along_axis set index",
            inputs={"x": normal(2, 4), "index": integers(2, 1, below=4), "values": normal(2, 1)},
            gradient=("x", "values"),
            differs="`scatter` is `put_along_axis`, which needs `inplace=False`. Where an index "
            "comes twice in a row, neither says which value stays.",
            costs="A copy of `x`; `scatter_` writes in place.",
        ),
        Phrase(
            name="scatter_add",
            title="Scatter-add along an axis",
            words="scatter_add index_add accumulate histogram",
            inputs={
                "x": normal(4, 3),
                "index": integers(4, 5, below=3),
                "values": normal(4, 5),
            },
            gradient=("x", "values"),
            differs="JAX spells the row's number out beside the index. `jax.lax.scatter_add` "
            "exists and is XLA's own operation with its dimension numbers: `.at` writes them for "
            "you.",
            costs="Atomic additions on a GPU: the order, and so the last bits, may change.",
        ),
        Phrase(
            name="segment_sum",
            title="Sums of segments",
            words="index_add segment_sum scatter groupby graph pooling",
            inputs={"x": normal(5, 2), "segment": integers(5, below=3)},
            gradient=("x",),
            differs="`num_segments` is a shape: under `jit` it has to be given. Without it JAX "
            "takes the largest index, and one more.",
            costs="`indices_are_sorted=True` lets XLA do better where they are.",
        ),
        Phrase(
            name="segment_max",
            title="The largest of each segment",
            words="scatter_reduce amax segment_max pooling groupby",
            inputs={"x": normal(5), "segment": given(0, 0, 1, 0, 2)},
            gradient=("x",),
            differs="An empty segment is -inf in JAX, and in PyTorch what the output began with.",
            costs="Ties share the gradient in both.",
        ),
        Phrase(
            name="segment_mean",
            title="The mean of each segment",
            words="scatter_mean average groupby pooling bincount",
            inputs={"x": normal(5), "segment": given(0, 0, 1, 0, 1)},
            gradient=("x",),
            differs="Neither has it under that name: a sum and a count. PyTorch's "
            "`scatter_reduce` has `mean`.",
            costs="Two passes over the indices.",
        ),
        Phrase(
            name="top_k",
            title="The k largest",
            words="topk top_k largest beam",
            inputs={"x": normal(4, 5)},
            gradient=("x",),
            differs="The largest alone in JAX, and always sorted; PyTorch also finds the "
            "smallest. Places are int32 in JAX. `k` is a shape, so that it has to be static.",
            costs="On a TPU `jax.lax.approx_max_k` is far quicker.",
        ),
        Phrase(
            name="keep_top_k",
            title="Keep the k largest logits",
            words="sampling top-k filter temperature generate logits",
            inputs={"logits": normal(2, 6)},
            gradient=("logits",),
            differs="The same. With ties at the border both keep more than k.",
            costs="Sorting a vocabulary for each token; `top_k` sorts less than `sort`.",
        ),
        Phrase(
            name="sort",
            title="Sort, and the order of sorting",
            words="sort argsort descending stable rank",
            inputs={"x": normal(2, 5)},
            differs="`torch.sort` returns numbers and order, and is stable only if asked. "
            "`jnp.sort` returns numbers and is stable; the order is `argsort`'s.",
            costs="JAX sorts twice here; `jax.lax.sort_key_val` sorts once.",
        ),
        Phrase(
            name="unique",
            title="Distinct elements and how often each comes",
            untraceable=True,
            words="unique counts distinct set",
            inputs={"index": integers(9, below=5)},
            differs="Both sort. Under `jit` JAX needs `size`, and fills up with the smallest "
            "element, or with `fill_value`.",
            costs="PyTorch waits for the GPU to know how many there are.",
        ),
        Phrase(
            name="count",
            title="Count integers",
            words="bincount histogram frequency",
            inputs={"index": integers(9, below=5)},
            differs="`minlength` makes it longer at need; JAX's `length` is exact, and what is "
            "larger is left out. The counts are integers of another width without x64.",
            costs="Atomic additions on a GPU, exact for integers.",
        ),
        Phrase(
            name="buckets",
            title="Which bucket a number falls into",
            words="bucketize searchsorted digitize bins edges",
            inputs={"x": given(-2.0, -1.0, 0.3, 1.0, 4.0), "edges": given(-1.0, 0.0, 1.0)},
            differs="A false friend: at an edge `torch.bucketize` takes the lower bucket by "
            "default, as `searchsorted` does in both; `jnp.digitize` takes the upper one, and its "
            "`right` means the opposite.",
            costs="A binary search for each number.",
        ),
        Phrase(
            name="clip",
            title="Clip",
            words="clamp clip minimum maximum bound",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="At the very bound `clamp` passes the whole gradient, and `jnp.clip` half of "
            "it, as a maximum of two equal numbers does.",
            costs="No gradient outside of the bounds: clip updates rather than parameters.",
        ),
    ),
)
