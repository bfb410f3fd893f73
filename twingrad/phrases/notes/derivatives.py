"""Notes on derivatives and vmap."""

from twingrad.phrases.phrase import Family, Phrase, normal

_FUNC = "`torch.func` has JAX's transforms under JAX's names"

FAMILY = Family(
    name="derivatives",
    title="Gradients, Jacobians and vmap",
    phrases=(
        Phrase(
            name="gradient",
            title="A gradient",
            words="backward grad requires_grad autograd",
            inputs={"x": normal(4)},
            differs="PyTorch records operations on tensors that require a gradient, and "
            "`backward` adds to `.grad`. JAX transforms a function into that of its gradient, "
            "which adds to nothing. The function has to return one number in both.",
            costs="About two forward passes more, and the memory of what lies between.",
        ),
        Phrase(
            name="value_and_gradient",
            title="A loss and its gradient",
            words="value_and_grad loss backward",
            inputs={"x": normal(4)},
            differs="PyTorch has the loss anyway. `jax.grad` alone throws it away; calling the "
            "function again computes it again.",
            costs="The same as the gradient alone.",
        ),
        Phrase(
            name="several_arguments",
            title="Gradients with respect to several arguments",
            words="argnums grad inputs tuple pytree",
            inputs={"x": normal(4), "y": normal(4)},
            differs="JAX takes the first argument unless `argnums` says otherwise. One argument "
            "may be a whole tree of parameters, and the gradient is a tree of the same form.",
            costs="One backward pass for all.",
        ),
        Phrase(
            name="further_outputs",
            title="Further outputs beside the loss",
            words="has_aux auxiliary logits metrics",
            inputs={"x": normal(4)},
            differs="A variable is at hand in PyTorch. In JAX what is not returned stays in the "
            "trace: with `has_aux` the function returns the loss and the rest. Storing it outside "
            "leaks a tracer, which raises when it is used.",
            costs="Nothing.",
        ),
        Phrase(
            name="by_the_input",
            title="The gradient with respect to an input",
            words="saliency input gradient adversarial attribution",
            inputs={"image": normal(2, 4), "weight": normal(4, 3)},
            differs="The input is made to require a gradient in PyTorch. In JAX it is made the "
            "argument.",
            costs="Without gradients of the weights: `torch.autograd.grad` of the input alone "
            "computes no others, and JAX neither.",
        ),
        Phrase(
            name="unused_input",
            title="The gradient of what was not used",
            words="None allow_unused zeros unused parameter materialize_grads",
            inputs={"x": normal(4), "y": normal(3)},
            differs="PyTorch raises, or gives `None` with `allow_unused`, and leaves `.grad` at "
            "`None`: an optimizer skips it, with its weight decay. JAX gives zeros, and the "
            "optimizer decays it.",
            costs="Zeros take memory.",
        ),
        Phrase(
            name="directional",
            title="The derivative along a direction",
            words="jvp forward mode tangent directional",
            inputs={"x": normal(4), "direction": normal(4)},
            gradient=("x",),
            differs=_FUNC + ". Not every operation of PyTorch has a forward derivative; all of "
            "JAX's have.",
            costs="One pass beside the function's, and no memory for what lies between.",
        ),
        Phrase(
            name="pulled_back",
            title="A vector times a Jacobian",
            words="vjp cotangent grad_outputs backward vector",
            inputs={"x": normal(4), "cotangent": normal(4)},
            gradient=("x", "cotangent"),
            differs=_FUNC + "; `torch.autograd.grad(y, x, grad_outputs=...)` is the same.",
            costs="The function `pull_back` holds what the backward pass needs.",
        ),
        Phrase(
            name="jacobian",
            title="A Jacobian",
            words="jacrev jacfwd jacobian matrix derivatives",
            inputs={"x": normal(3)},
            gradient=("x",),
            differs=_FUNC + ".",
            costs="`jacrev` is a backward pass for each output, `jacfwd` a forward one for each "
            "input: take the smaller. All run at once under `vmap`; `chunk_size` in PyTorch saves "
            "memory.",
        ),
        Phrase(
            name="hessian",
            title="A Hessian",
            words="hessian second derivative curvature",
            inputs={"x": normal(3)},
            gradient=("x",),
            differs=_FUNC + ". Both take the forward Jacobian of the gradient.",
            costs="As many passes as there are parameters, and their square in memory.",
        ),
        Phrase(
            name="hessian_times_vector",
            title="A Hessian times a vector",
            words="hvp hessian-vector product curvature conjugate gradient",
            inputs={"x": normal(4), "direction": normal(4)},
            gradient=("x",),
            differs="Forward over reverse in both. In PyTorch the older way, two calls of "
            "`torch.autograd.grad` with `create_graph`, needs no forward derivatives.",
            costs="About four function evaluations, whatever the number of parameters.",
        ),
        Phrase(
            name="linear_approximation",
            title="A linear approximation, used for many directions",
            words="linearize tangent first order taylor",
            inputs={"x": normal(4), "direction": normal(4)},
            differs=_FUNC + ".",
            costs="The function is evaluated once, however many directions follow.",
        ),
        Phrase(
            name="gradient_penalty",
            title="A gradient within a loss",
            words="create_graph double backward second order gradient penalty wgan",
            inputs={"x": normal(3, 4), "weight": normal(4)},
            gradient=("x", "weight"),
            differs="PyTorch keeps the graph of the backward pass only with `create_graph`; left "
            "out, the penalty has no gradient. In JAX functions of gradients have gradients.",
            costs="The memory of both passes.",
        ),
        Phrase(
            name="per_example_gradients",
            title="The gradient of each example",
            words="per-sample gradients vmap grad differential privacy influence",
            inputs={"weight": normal(4), "x": normal(5, 4), "y": normal(5)},
            differs="The same transforms. With a module PyTorch needs `functional_call`, NNX "
            "`nnx.split`; dropout and batch norm have to be thought over first.",
            costs="A gradient of the size of all parameters for each example.",
        ),
        Phrase(
            name="map_over_a_batch",
            title="Write it for one example, run it for a batch",
            words="vmap vectorize batch in_axes in_dims",
            inputs={"x": normal(5, 4), "weight": normal(4)},
            gradient=("x", "weight"),
            differs="`in_dims` is `in_axes`. In PyTorch no Python `if` on numbers, no `.item()` "
            "and no writing into what has no batch; in JAX no `if` either.",
            costs="One batched operation for each; not a loop.",
        ),
        Phrase(
            name="map_over_other_axes",
            title="Map over other axes",
            words="vmap in_axes out_axes in_dims out_dims nested",
            inputs={"x": normal(4, 5), "y": normal(5, 3)},
            gradient=("x", "y"),
            differs="`out_dims` is `out_axes`. In JAX an entry may be a tree, as the argument is.",
            costs="Moving an axis is free in PyTorch, and may be a copy in JAX.",
        ),
        Phrase(
            name="stop_gradient",
            title="Stop the gradient",
            words="detach stop_gradient target network constant",
            inputs={"x": normal(4)},
            gradient=("x",),
            differs="`detach` shares memory with the tensor: writing to it writes to both.",
            costs="Nothing; what feeds it alone is not differentiated.",
        ),
        Phrase(
            name="without_gradient",
            title="Compute something without its gradient",
            words="no_grad inference_mode evaluation statistics",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="`no_grad` is for a stretch of code. JAX differentiates only what is inside "
            "`jax.grad`, so that evaluation needs nothing, and inside it `stop_gradient` is for a "
            "value.",
            costs="Without `no_grad` an evaluation in PyTorch holds all activations.",
        ),
        Phrase(
            name="laplacian",
            title="A Laplacian",
            words="trace hessian divergence pde physics-informed",
            inputs={"x": normal(3)},
            gradient=("x",),
            differs=_FUNC + ". JAX also has Taylor-mode derivatives in `jax.experimental.jet`.",
            costs="The whole Hessian for its trace; for many inputs average Hessian-vector "
            "products with random signs.",
        ),
    ),
)
