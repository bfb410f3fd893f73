"""Notes on debugging."""

from twingrad.phrases.phrase import Family, Phrase, normal, positive

FAMILY = Family(
    name="debugging",
    title="Debugging",
    phrases=(
        Phrase(
            name="find_nan",
            title="Find where a NaN comes from",
            untraceable=True,
            words="detect_anomaly debug_nans nan inf FloatingPointError",
            inputs={"x": normal(4)},
            differs="Anomaly mode looks at gradients, and names the forward line. "
            "`jax_debug_nans` looks at every result, forward and backward; a compiled function "
            "that gave NaN is run again operation by operation.",
            costs="Both wait for each result: many times slower. Values that are NaN on purpose "
            "raise too.",
        ),
        Phrase(
            name="print_inside",
            title="Print inside a compiled function",
            untraceable=True,
            words="print debug jit tracer callback logging",
            inputs={"x": normal(4)},
            differs="Python's `print` under `jit` prints a tracer, once, while tracing. "
            "`jax.debug.print` prints numbers at each call, `jax.debug.callback` calls a "
            "function. `torch.compile` breaks its graph at `print`.",
            costs="A transfer to the host; the order is kept only with `ordered=True`.",
        ),
        Phrase(
            name="check_values",
            title="Raise where a value is wrong",
            untraceable=True,
            words="assert checkify error raise validation jit",
            inputs={"x": positive(4)},
            differs="An exception cannot come out of a compiled function. `checkify` returns the "
            "error beside the result: `error.throw()` raises it. It can also check for NaN, "
            "division by 0 and indices out of range (`checkify.all_checks`).",
            costs="PyTorch waits for the GPU at each `if`; checkify carries the error along.",
        ),
        Phrase(
            name="step_through",
            title="Step through without compiling",
            untraceable=True,
            words="disable_jit breakpoint pdb eager set_stance",
            inputs={"x": normal(4)},
            differs="Under `jax.disable_jit()` numbers are there, and `breakpoint()` and `if` "
            "work. For `torch.compile`: `torch.compiler.set_stance('force_eager')`.",
            costs="`scan` and `while_loop` run in Python, step by step.",
        ),
        Phrase(
            name="shapes_alone",
            title="Shapes, without computing anything",
            words="meta device eval_shape fake tensor shape inference ShapeDtypeStruct",
            differs="A device that holds nothing, against a function that is traced. Both make "
            "models that would not fit; NNX: `nnx.eval_shape(lambda: Model(rngs))`.",
            costs="Nothing.",
        ),
        Phrase(
            name="check_a_gradient",
            title="Check a gradient by differences",
            untraceable=True,
            words="gradcheck check_grads finite differences numerical",
            inputs={"x": normal(4)},
            differs="`gradcheck` tells by its answer or raises, and wants float64. `check_grads` "
            "raises, checks forward mode and reverse mode, and higher orders with `order`.",
            costs="Two evaluations for each input and output in PyTorch; JAX takes random "
            "directions.",
        ),
        Phrase(
            name="all_finite",
            title="Whether everything is finite",
            untraceable=True,
            words="isfinite nan inf check tree gradients",
            inputs={"weight": normal(3, 2), "bias": normal(2)},
            differs="The same, over a dictionary or a tree.",
            costs="`.item()` waits for the device, once for each tensor here.",
        ),
        Phrase(
            name="compare_trees",
            title="Compare two sets of parameters",
            words="difference compare parameters tree map checkpoint",
            inputs={"weight": normal(3, 2), "bias": normal(2)},
            differs="`jax.tree.map` takes several trees of one form, and raises where they differ.",
            costs="A reduction for each tensor.",
        ),
    ),
)
