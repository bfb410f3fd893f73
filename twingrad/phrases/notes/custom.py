"""Notes on derivatives of one's own."""

from twingrad.phrases.phrase import Family, Phrase, given, normal

FAMILY = Family(
    name="custom",
    title="Derivatives of one's own",
    phrases=(
        Phrase(
            name="own_derivative",
            title="A function with a derivative of one's own",
            words="autograd.Function custom_vjp backward save_for_backward",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="A class with `forward` and `backward`, which store what they need in `ctx`; "
            "in JAX two functions, of which the first returns it. Arguments that are no arrays "
            "are named in `nondiff_argnames`.",
            costs="What is saved is chosen by you. `custom_vjp` gives up forward mode, as does a "
            "`Function` without `jvp`.",
        ),
        Phrase(
            name="own_forward_derivative",
            title="A forward derivative of one's own",
            words="custom_jvp jvp autograd.Function forward mode softplus stable",
            inputs={"x": normal(4), "direction": normal(4)},
            differs="From a `custom_jvp` JAX derives reverse mode too, by transposing it. PyTorch "
            "needs `backward` beside `jvp`.",
            costs="Nothing beside the function's own.",
        ),
        Phrase(
            name="clip_on_the_way_back",
            title="Change a gradient on its way back",
            words="register_hook hook gradient clipping identity custom_vjp",
            inputs={"x": normal(4)},
            gradient=("x",),
            differs="A tensor of PyTorch takes a hook. In JAX it is an identity whose backward "
            "pass does something.",
            costs="A Python call in each backward pass in PyTorch.",
        ),
        Phrase(
            name="straight_through",
            title="The straight-through estimator",
            words="ste quantization round sign binarize detach stop_gradient vq-vae",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="The same trick. Both round halves to the even number, and the gradient of "
            "`round` itself is 0 in both.",
            costs="Two additions; the value may lose a bit of `x.round()`, since it is x + (r - "
            "x).",
        ),
        Phrase(
            name="reverse_the_gradient",
            title="Reverse a gradient",
            words="gradient reversal layer domain adaptation adversarial",
            inputs={"x": normal(4)},
            gradient=("x",),
            differs="As above. `forward` returns a view, since an input that is returned as it is "
            "would not be replaced in the graph by this function's output.",
            costs="Nothing.",
        ),
        Phrase(
            name="implicit",
            title="The gradient of a solution, without that of its solver",
            words="implicit differentiation fixed point root custom_root deq equilibrium",
            inputs={"a": normal(4)},
            gradient=("a",),
            differs="JAX has `custom_root` (and `custom_linear_solve`); in PyTorch one "
            "differentiable Newton step at the solution gives the same gradient.",
            costs="Memory of one step, however long the solver ran.",
        ),
        Phrase(
            name="recompute",
            title="Recompute instead of storing",
            words="checkpoint remat rematerialisation activation memory",
            inputs={"x": normal(3, 4), "weight": normal(4, 4)},
            gradient=("x", "weight"),
            differs="`policy` in JAX and `context_fn` in PyTorch say what is stored nevertheless. "
            "PyTorch restores the state of the random generators for the second pass. In NNX it "
            "is `nnx.remat`.",
            costs="One more forward pass of what is checkpointed, for the memory between its ends.",
        ),
        Phrase(
            name="safe_norm",
            title="A norm with a gradient at 0",
            words="norm zero nan gradient sqrt double where normalize",
            inputs={"x": given(3.0, 4.0)},
            gradient=("x",),
            differs="The gradient of `vector_norm` at 0 is 0 in PyTorch; that of JAX's is NaN, as "
            "the square root's is. This form has 0 in both.",
            costs="A select; adding an epsilon under the root is cheaper, and changes the value.",
        ),
    ),
)
