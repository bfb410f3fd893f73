"""Notes on loops and branches."""

from twingrad.phrases.phrase import Family, Phrase, given, normal, number, positive

FAMILY = Family(
    name="control",
    title="Loops and branches",
    phrases=(
        Phrase(
            name="loop",
            title="Repeat a fixed number of times",
            words="for loop fori_loop range repeat unroll",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="A Python loop works under `jit` too, but is unrolled: a hundred rounds are a "
            "hundred copies to compile. `fori_loop` compiles one. Its gradient needs bounds that "
            "are known when it is traced.",
            costs="Compile time grows with an unrolled loop, and XLA can fuse across its rounds.",
        ),
        Phrase(
            name="recurrence",
            title="A recurrence that keeps its outputs",
            words="scan rnn state carry stack sequence time",
            inputs={"x": normal(5, 3), "decay": number(0.5)},
            gradient=("x", "decay"),
            differs="`scan` carries a state and stacks what each step gives. Shape and dtype of "
            "the state must not change: an integer where the first step makes it a float is "
            "refused.",
            costs="One kernel launch an operation and step in eager PyTorch; one loop on the "
            "device in JAX. The backward pass keeps every state in both.",
        ),
        Phrase(
            name="until_it_converges",
            title="Repeat until it converges",
            words="while while_loop convergence newton iterate tolerance",
            inputs={"a": positive(4)},
            differs="The condition is a function of the carry. `while_loop` has no reverse-mode "
            "gradient, since the number of rounds whose values it would keep is unknown; it has a "
            "forward one (`jax.jvp`).",
            costs="PyTorch asks the device at each round, and waits for the answer; JAX does not "
            "leave the device.",
        ),
        Phrase(
            name="differentiable_stop",
            title="Repeat until it converges, with a gradient",
            words="while scan early stopping gradient bounded masked loop",
            inputs={"a": positive(4)},
            gradient=("a",),
            differs="PyTorch's tape has as many rounds as there were. In JAX a `scan` of a fixed "
            "length stands still once it has converged. For a fixed point there is implicit "
            "differentiation, which keeps no rounds at all.",
            costs="JAX computes all rounds, needed or not.",
        ),
        Phrase(
            name="branch",
            title="Choose by a number",
            words="if cond branch TracerBoolConversionError condition",
            inputs={"x": normal(4)},
            gradient=("x",),
            differs="`if` on a traced number raises `TracerBoolConversionError`. `cond` takes two "
            "functions, which return the same shapes and dtypes; for elements there is `where`. A "
            "Python `if` on what is static (a shape, a flag) is fine.",
            costs="Under `vmap` `cond` becomes a select: both branches are computed.",
        ),
        Phrase(
            name="choose_a_function",
            title="Choose one of several functions",
            words="switch case index branches experts",
            inputs={"x": normal(4), "which": number(1)},
            gradient=("x",),
            differs="`switch` moves an index that is out of range to the nearest; a tuple in "
            "Python raises, or counts from the end.",
            costs="All are compiled, one is run; under `vmap` all are run.",
        ),
        Phrase(
            name="ragged_batch",
            title="A batch of sequences of different lengths",
            words="padding lengths mask ragged packed nested variable data-dependent shapes",
            inputs={"x": normal(3, 4), "lengths": given(2, 4, 1)},
            gradient=("x",),
            differs="PyTorch slices each row to its length (or has nested tensors). In JAX shapes "
            "must not depend on numbers: pad, and mask.",
            costs="JAX computes on the padding; sort into buckets of like lengths to have little.",
        ),
        Phrase(
            name="all_prefixes",
            title="A linear recurrence in few steps",
            words="associative_scan prefix parallel ssm mamba linear",
            inputs={"a": positive(6), "b": normal(6)},
            gradient=("a", "b"),
            differs="JAX has a parallel scan of any associative function; PyTorch's is in "
            "`torch._higher_order_ops` and not public.",
            costs="About twice the operations in log2(n) steps: worth it on a GPU for long "
            "sequences. Rounding differs, since the order of operations does.",
        ),
        Phrase(
            name="in_chunks",
            title="Apply a function in chunks, to save memory",
            words="map chunk batch_size memory split lax.map",
            inputs={"x": normal(6, 3)},
            gradient=("x",),
            differs="`jax.lax.map` is a loop over the first axis, of `batch_size` rows at once. "
            "PyTorch's `torch.vmap` has `chunk_size`.",
            costs="Less memory for what lies between, more time. The gradient keeps all of it "
            "again, unless the function is checkpointed.",
        ),
        Phrase(
            name="many_equal_layers",
            title="Many equal layers",
            words="scan layers stacked weights compile time transformer blocks",
            inputs={"x": normal(2, 3), "weights": normal(4, 3, 3)},
            gradient=("x", "weights"),
            differs="With weights stacked along a first axis JAX can scan over the layers. A list "
            "of modules and a Python loop work in both.",
            costs="One layer to compile instead of all. XLA can no longer fuse across layers, and "
            "slices the stacked weights at each step.",
        ),
    ),
)
