"""Notes on writing in place, views and copies."""

from twingrad.phrases.phrase import Family, Phrase, given, normal, number

FAMILY = Family(
    name="writing",
    title="Writing in place, views and copies",
    phrases=(
        Phrase(
            name="write",
            title="Write into an array",
            words="in-place inplace assign setitem at set",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="JAX's arrays do not change: `.at[...].set` returns a new one, and forgetting "
            "to keep it does nothing, without an error. PyTorch refuses to write into a leaf that "
            "requires a gradient.",
            costs="A copy in JAX outside of `jit`; inside, XLA writes in place where the old "
            "array is not used again.",
        ),
        Phrase(
            name="add_at",
            title="Add at indices, some of which come twice",
            words="index_add index_put accumulate scatter add duplicates",
            inputs={"x": normal(4), "index": given(1, 1, 3), "values": normal(3)},
            gradient=("x", "values"),
            differs="`.at[index].add` adds every value. So does `index_add_`; `x[index] += "
            "values` in PyTorch reads, adds and writes, so that of two values for one place one "
            "is lost.",
            costs="On a GPU both add with atomics in no fixed order: in float32 the last bits may "
            "differ from run to run.",
        ),
        Phrase(
            name="largest_at",
            title="The largest value at each index",
            words="scatter_reduce amax index_reduce maximum at max",
            inputs={"x": normal(4), "index": given(1, 1, 3), "values": normal(3)},
            gradient=("x", "values"),
            differs="`.at` also has `min`, `multiply`, `divide`, `power` and `apply`; PyTorch's "
            "`scatter_reduce` has `sum`, `prod`, `mean`, `amin` and `amax`, and can leave out "
            "what was there before (`include_self=False`).",
            costs="Ties share the gradient in both.",
        ),
        Phrase(
            name="write_where",
            title="Write where a condition holds",
            words="boolean mask assignment where masked_fill threshold",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="`x.at[mask].set(0.0)` works in JAX too, but with a value for each place that "
            "is masked it does not under `jit`: their number is unknown. `where` always works.",
            costs="`where` reads both alternatives, so that both are computed.",
        ),
        Phrase(
            name="through_a_view",
            title="Write through a view",
            words="view alias slice shared memory",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="Basic indexing in PyTorch gives a view, and writing to it writes to its "
            "base. JAX has no views: a slice is an array of its own.",
            costs="A view costs nothing in PyTorch, and surprises. JAX's slice is a copy outside "
            "of `jit`, and usually none inside.",
        ),
        Phrase(
            name="copy",
            title="Copy before changing",
            words="clone copy detach deepcopy",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="PyTorch's `clone` keeps the gradient, `detach` shares memory, so that a copy "
            "without history is `x.detach().clone()`. In JAX nothing that changes can be shared, "
            "and nothing needs copying.",
            costs="One copy in both.",
        ),
        Phrase(
            name="swap_rows",
            title="Swap rows",
            words="permute exchange rows index assignment list",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="Indexing with a list copies in PyTorch, so that the right-hand side is safe. "
            "JAX takes arrays as indices, not lists.",
            costs="Two rows in PyTorch; in JAX two rows under `jit`, else the whole array.",
        ),
        Phrase(
            name="diagonal",
            title="Add to the diagonal",
            words="diag fill_diagonal eye identity regularise",
            inputs={"x": normal(3, 3)},
            gradient=("x",),
            differs="`diagonal` is a view in PyTorch and can be written to. In JAX the places are "
            "spelled out; `jnp.fill_diagonal` needs `inplace=False`.",
            costs="`x + jnp.eye(3)` makes a matrix first, which `jit` does away with.",
        ),
        Phrase(
            name="fill_a_buffer",
            title="Fill a buffer step by step",
            words="append loop list stack preallocate buffer vmap",
            inputs={"x": normal(3)},
            gradient=("x",),
            differs="Where steps do not depend on one another JAX computes them all at once with "
            "`vmap`; where they do, with `lax.scan`, which stacks its outputs. A list and "
            "`jnp.stack` work in both, and unroll the loop under `jit`.",
            costs="A copy of the whole buffer each time, if `.at[i].set` is called in a loop "
            "outside of `jit`.",
        ),
        Phrase(
            name="write_a_slice",
            title="Write at a position that a number says",
            words="kv cache dynamic update slice decode position",
            inputs={"cache": normal(6, 2), "new": normal(2, 2), "position": number(3)},
            gradient=("cache", "new"),
            differs="Under `jit` the position is no Python number; `dynamic_update_slice` takes "
            "an array. It moves a position that would reach past the end back until the slice "
            "fits, where PyTorch raises.",
            costs="Without donation a step in JAX copies the cache: pass "
            "`donate_argnames=('cache',)` to `jit`.",
        ),
        Phrase(
            name="all_parameters",
            title="Do something to every parameter",
            words="pytree tree map foreach dictionary parameters",
            inputs={"weight": normal(3, 2), "bias": normal(2)},
            gradient=("weight", "bias"),
            differs="Parameters of JAX are a pytree: any nesting of dictionaries, lists and "
            "tuples, over which `jax.tree.map` goes. PyTorch loops and writes in place.",
            costs="A kernel launch for each parameter in eager mode (PyTorch's `torch._foreach_` "
            "functions do many in one); under `jit` XLA fuses.",
        ),
    ),
)
