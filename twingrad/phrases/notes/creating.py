"""Notes on creating and indexing."""

from twingrad.phrases.phrase import Family, Phrase, given, integers, normal, number

FAMILY = Family(
    name="creating",
    title="Creating and indexing",
    phrases=(
        Phrase(
            name="to_numpy_and_back",
            title="To NumPy and back",
            untraceable=True,
            words="array asarray convert ndarray detach cpu",
            inputs={"x": normal(4, 3)},
            differs="A tensor with a gradient has to be detached first, one on a GPU moved to the "
            "CPU. What NumPy sees of a JAX array is read-only. Under `jit` there is no array yet "
            "to convert, and `np.asarray` raises.",
            costs="On the CPU PyTorch shares the memory in both directions, so that writing to "
            "one writes to the other. `np.asarray` of a JAX array shares it too; `jnp.array` "
            "copies, and `jnp.asarray` may do either.",
        ),
        Phrase(
            name="same_dtype",
            title="A new array like another one",
            words="zeros ones full new_zeros zeros_like dtype device",
            inputs={"x": normal(4, 3)},
            differs="`new_zeros` takes dtype and device from the tensor. JAX has the `_like` "
            "functions for the same shape, and for another shape the dtype is named; the device "
            "is the default one or that of the computation.",
            costs="Nothing: under `jit` a constant is usually folded into what uses it.",
        ),
        Phrase(
            name="ranges",
            title="Ranges",
            words="arange linspace steps",
            inputs={"x": normal(4)},
            differs="The same arguments. Whole numbers are int64 in PyTorch, and int32 in JAX "
            "unless `jax_enable_x64` is set. The ends of `jnp.arange` have to be known when a "
            "function is traced, since they are a shape.",
            costs="Nothing.",
        ),
        Phrase(
            name="grid",
            title="A grid from two axes",
            words="meshgrid ij xy coordinates",
            inputs={"x": normal(4), "y": normal(3)},
            gradient=("x", "y"),
            differs="Say `indexing` in both. Left out, PyTorch takes `ij` (and warns), JAX, as "
            "NumPy, `xy`, which is the transpose.",
            costs="Neither copies numbers that it need not: `x[:, None] * y` is as good.",
        ),
        Phrase(
            name="one_hot",
            title="One-hot rows",
            words="one_hot classes encode labels",
            inputs={"index": integers(5, below=4)},
            differs="PyTorch returns int64 and refuses an index out of range; JAX returns floats, "
            "and a row of zeros for such an index. `F.one_hot` guesses the number of classes "
            "where it is left out, which JAX cannot: it is a shape.",
            costs="A row of the number of classes for each index. Where it only selects, index "
            "instead.",
        ),
        Phrase(
            name="rows",
            title="Rows by a list of indices",
            words="index_select take gather lookup embedding",
            inputs={"x": normal(4, 3), "index": integers(5, below=4)},
            gradient=("x",),
            differs="The same. JAX refuses a Python list as an index (`x[[0, 2]]`): wrap it in "
            "`jnp.array`.",
            costs="The gradient is a scatter-add: rows that were taken twice get both gradients.",
        ),
        Phrase(
            name="one_of_each_row",
            title="One element of each row",
            words="gather pick target log probability take_along_axis",
            inputs={"x": normal(4, 3), "index": integers(4, below=3)},
            gradient=("x",),
            differs="The same. The other spelling is `x.gather(1, index[:, None])` against "
            "`jnp.take_along_axis(x, index[:, None], axis=1)`.",
            costs="One element a row is read, and the gradient is zero elsewhere.",
        ),
        Phrase(
            name="past_the_end",
            title="An index past the end",
            words="out of range bounds clamp IndexError mode fill drop",
            inputs={"x": normal(4), "index": given(0, 3, 4, 9)},
            gradient=("x",),
            differs="PyTorch raises `IndexError`. JAX cannot raise from compiled code: reading "
            "takes the last element, writing with `.at` is dropped. `mode` says it otherwise: "
            "`fill`, `clip`, `drop`.",
            costs="A check in PyTorch for each index; in JAX `fill` is a comparison and a select. "
            "Check token ids before they reach either framework.",
        ),
        Phrase(
            name="backwards",
            title="The other way round",
            words="flip reverse negative step slice",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="PyTorch has no negative steps and needs `flip`, which JAX has too.",
            costs="A copy in both. Under `jit` it is fused with what reads it.",
        ),
        Phrase(
            name="window",
            title="A slice that begins where a number says",
            words="dynamic slice start offset narrow dynamic_slice",
            inputs={"x": normal(6), "start": number(3)},
            gradient=("x",),
            differs="Under `jit` the start is no Python number, and `x[start:start + 2]` raises: "
            "its length could be anything. `dynamic_slice` says the length, and moves a start "
            "that would reach past the end back until it fits; a slice in PyTorch gets shorter.",
            costs="A view in PyTorch, where the start is read from the tensor: on a GPU the CPU "
            "waits for it. A copy of the slice in JAX, without waiting.",
        ),
        Phrase(
            name="to_python",
            title="A Python number or list",
            untraceable=True,
            words="item tolist float int scalar sync",
            inputs={"x": normal(4)},
            differs="The same. Under `jit` JAX raises, since there is no number yet.",
            costs="Both wait until the device has computed it: once a step to log a loss is "
            "nothing, once a layer is slow.",
        ),
        Phrase(
            name="repeat",
            title="Repeat an array, or its elements",
            words="tile repeat repeat_interleave copies",
            inputs={"x": normal(2, 3)},
            gradient=("x",),
            differs="A false friend: `x.repeat` in PyTorch is `jnp.tile`; `jnp.repeat` is "
            "PyTorch's `repeat_interleave`. Under `jit` numbers of repeats that are arrays need "
            "`total_repeat_length`.",
            costs="Both copy. Where broadcasting would do, `expand` and `jnp.broadcast_to` do not.",
        ),
    ),
)
