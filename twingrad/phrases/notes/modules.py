"""Notes on modules, parameters and buffers."""

from twingrad.phrases.phrase import Family, Phrase, integers, normal, positive

FAMILY = Family(
    name="modules",
    title="Modules, parameters and buffers",
    phrases=(
        Phrase(
            name="linear",
            title="A linear layer with given weights",
            words="Linear Dense kernel weight transpose load_state_dict",
            inputs={"x": normal(4, 3), "weight": normal(2, 3), "bias": normal(2)},
            gradient=("x",),
            differs="PyTorch keeps (out, in) and multiplies by the transpose; Flax keeps (in, "
            "out). `load_state_dict` copies; in NNX a new `Param` takes the place of the old one, "
            "with its dtype, where `kernel[...] = weight` keeps the old dtype.",
            costs="Nothing at run time.",
        ),
        Phrase(
            name="own_module",
            title="A module of one's own",
            words="nn.Module nnx.Module Parameter Param forward __call__",
            inputs={"x": normal(4, 3), "scale": normal(3)},
            differs="`forward` is called through `__call__`, which runs hooks; in NNX `__call__` "
            "is the function. Modules of NNX take `rngs`, since nothing random is global. "
            "Gradients stand in the parameters' `.grad`, or are a tree of their own.",
            costs="`nnx.jit` and `nnx.grad` go through the module in Python at each call; for "
            "small models split it once and use `jax.jit`.",
        ),
        Phrase(
            name="list_of_layers",
            title="A list of layers",
            words="ModuleList nnx.List layers blocks loop",
            inputs={"x": normal(4, 3), "weights": normal(2, 3, 3)},
            gradient=("x",),
            differs="A Python list hides its parameters from PyTorch, silently; NNX refuses it, "
            "and asks for `nnx.List`.",
            costs="Under `jit` every layer is compiled: see many equal layers.",
        ),
        Phrase(
            name="sequential",
            title="Layers in a row",
            words="Sequential chain pipeline activation",
            inputs={"x": normal(4, 3), "weight": normal(3, 3)},
            gradient=("x",),
            differs="Activations are modules in PyTorch, and functions in JAX. `model[0]` is "
            "`model.layers[0]`.",
            costs="Nothing.",
        ),
        Phrase(
            name="buffer",
            title="A state that is no parameter",
            words="register_buffer running statistics Variable BatchStat cache",
            inputs={"x": normal(4, 3)},
            differs="A buffer is a tensor by a name. In NNX it is a `Variable` of a type of its "
            "own, by which filters tell it from `Param`; under `jax.jit` it has to be returned, "
            "`nnx.jit` does so.",
            costs="Nothing.",
        ),
        Phrase(
            name="shared_weights",
            title="Weights shared by two layers",
            words="tie tying embedding head lm_head attend shared",
            inputs={"tokens": integers(4, below=5), "table": normal(5, 3)},
            differs="PyTorch assigns the same `Parameter` twice; NNX finds a shared `Variable` "
            "too, but `attend` of the embedding says it better, and survives transforms that take "
            "modules as trees.",
            costs="One table, whose gradient is the sum of both uses.",
        ),
        Phrase(
            name="initialise",
            title="Choose how weights begin",
            words="init initializers xavier glorot kaiming he kernel_init",
            bound=0.01,
            because="120,000 draws: the deviation is exact to 1/490 of it, the largest is all but "
            "the limit of the distribution",
            differs="In place after the layer was made, or a function given to it. Left out, a "
            "Linear of PyTorch is uniform, one of Flax normal with a deviation of 1/sqrt(in): see "
            "[the defaults](defaults.md). `kaiming` is `he`, and `fan_out` counts the other axis.",
            costs="`torch.nn.utils.skip_init` and `nnx.eval_shape` make a model without drawing.",
        ),
        Phrase(
            name="freeze",
            title="Freeze a part of the model",
            words="requires_grad_ frozen DiffState filter transfer fine-tuning wrt",
            inputs={"x": normal(4, 3), "first": normal(3, 3), "second": normal(1, 3)},
            differs="A flag of the parameter in PyTorch. In NNX a filter says what is "
            "differentiated, and the optimizer takes the same one: `nnx.Optimizer(model, tx, "
            "wrt=trained)`. In optax, `optax.set_to_zero()` for a group.",
            costs="No gradients and no moments for what is frozen. A weight decay that is applied "
            "to all would still move it in optax.",
        ),
        Phrase(
            name="intermediates",
            title="What a layer inside returns",
            words="hook register_forward_hook sow capture activations features",
            inputs={"x": normal(4, 3), "weight": normal(3, 3)},
            gradient=("x",),
            differs="A hook from outside; NNX has none. `sow` inside the module keeps a value, "
            "and `nnx.capture` returns what was sown; with `method_outputs` it returns the "
            "outputs of all submodules.",
            costs="A hook runs Python at every call, and remains until it is removed.",
        ),
        Phrase(
            name="gradient_of_an_intermediate",
            title="The gradient at a value inside",
            words="retain_grad perturb intermediate gradient hidden backward hook",
            inputs={"x": normal(4, 3), "weight": normal(3, 3)},
            differs="PyTorch keeps it if asked. In JAX one adds zeros there, and differentiates "
            "by them; `Module.perturb` of NNX does that by a name.",
            costs="An array of zeros of that size, which `jit` does away with.",
        ),
        Phrase(
            name="count_parameters",
            title="How many parameters",
            words="numel size count parameters tabulate",
            differs="Shared parameters count once in both. `nnx.tabulate` prints a table; PyTorch "
            "has none built in.",
            costs="Nothing.",
        ),
        Phrase(
            name="by_name",
            title="Parameters by name",
            words="named_parameters state flat path pattern",
            differs="Names with dots, against paths as tuples, in which a place in a list is a "
            "number.",
            costs="Nothing.",
        ),
        Phrase(
            name="embedding",
            title="An embedding",
            words="Embedding Embed lookup table padding_idx tokens",
            inputs={"tokens": integers(6, below=5), "table": normal(5, 3)},
            differs="Rows begin normal with a deviation of 1 in PyTorch, and of 1/sqrt(width) in "
            "Flax. Flax has no `padding_idx`: zero the row's gradient by a mask. A token out of "
            "range raises in PyTorch, and gives NaN in Flax.",
            costs="A gradient of the size of the table; PyTorch's `sparse=True` keeps the rows "
            "alone.",
        ),
        Phrase(
            name="convolution",
            title="A convolution",
            words="Conv2d NCHW NHWC channels_last kernel OIHW HWIO padding",
            inputs={"images": normal(1, 2, 4, 4), "kernel": normal(3, 2, 3, 3)},
            gradient=("images",),
            differs="Channels come first in PyTorch and last in Flax; a kernel is (out, in, "
            "height, width) and (height, width, in, out). Without `padding` PyTorch pads nothing, "
            "Flax pads to the same size; with strides its `SAME` may pad the two ends differently.",
            costs="On a GPU channels last are quicker in both; the transpositions here are for "
            "the comparison.",
        ),
        Phrase(
            name="pooling",
            title="Pooling",
            words="max_pool avg_pool pooling window stride",
            inputs={"images": normal(1, 2, 4, 4)},
            gradient=("images",),
            differs="Strides are the window's size in PyTorch, and 1 in Flax, if left out. At a "
            "padded border `avg_pool` counts the padding in both, unless told otherwise.",
            costs="The same.",
        ),
        Phrase(
            name="resize",
            title="Resize images",
            words="interpolate resize upsample bilinear align_corners antialias",
            inputs={"images": normal(1, 1, 3, 3)},
            gradient=("images",),
            differs="Upwards they agree with `align_corners=False`. Downwards `jax.image.resize` "
            "smooths first, as PyTorch does with `antialias=True`. `nearest` of PyTorch picks "
            "other pixels at odd ratios; `nearest-exact` is JAX's.",
            costs="The same.",
        ),
        Phrase(
            name="layer_norm",
            title="Layer norm",
            words="LayerNorm epsilon eps RMSNorm normalisation variance",
            inputs={"x": normal(4, 3), "scale": positive(3)},
            gradient=("x",),
            differs="Epsilon is 1e-5 in PyTorch and 1e-6 in Flax, whose variance is by default "
            "E[x²] - E[x]²: that loses digits where the mean is large.",
            costs="The fast variance reads the numbers once instead of twice.",
        ),
        Phrase(
            name="attention",
            title="Attention",
            words="scaled_dot_product_attention sdpa flash dot_product_attention heads causal",
            inputs={"q": normal(1, 2, 4, 3), "k": normal(1, 2, 4, 3), "v": normal(1, 2, 4, 3)},
            gradient=("q", "k", "v"),
            bound=1e-6,
            because="JAX takes the softmax in float32, whatever the dtype; float32 rounds by 6e-8",
            differs="(batch, heads, time, size) in PyTorch, (batch, time, heads, size) in JAX. "
            "Both divide by the root of the size. With fewer queries than keys the causal mask is "
            "aligned at the upper left in both. JAX takes the softmax in float32, even of float64.",
            costs="PyTorch picks flash attention by itself where it can; JAX on a GPU only with "
            "`implementation='cudnn'`.",
        ),
        Phrase(
            name="gelu",
            title="GELU",
            words="gelu erf tanh approximate activation",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="By the error function in PyTorch, by tanh in JAX, unless told otherwise: up "
            "to 4e-4 apart. GPT-2's is tanh's.",
            costs="The same.",
        ),
        Phrase(
            name="copy_a_model",
            title="Copy a model",
            words="deepcopy clone copy target network teacher",
            inputs={"x": normal(4, 3)},
            differs="`copy.deepcopy` works in both; `nnx.clone` says it. `other = model` is the "
            "same model in both.",
            costs="The memory of all parameters in PyTorch. Arrays of JAX do not change, so that "
            "a clone shares them until it is trained.",
        ),
        Phrase(
            name="as_a_function",
            title="A module as a function of its parameters",
            words="functional_call split merge stateless pure graphdef state",
            inputs={"x": normal(4, 3), "weight": normal(2, 3)},
            gradient=("x", "weight"),
            differs="`functional_call` puts other tensors in for one call. `nnx.split` parts a "
            "module into its form and its numbers, which any transform of JAX takes.",
            costs="`merge` makes a new module at each call, in Python; under `jit` only while "
            "tracing.",
        ),
        Phrase(
            name="replace_a_layer",
            title="Replace a layer",
            words="surgery head Identity swap fine-tune lora",
            inputs={"x": normal(4, 3)},
            differs="Assignment in both. An optimizer that was made before keeps the old "
            "parameters in PyTorch, and raises for another structure in optax: make it anew.",
            costs="A new compilation under `jit`.",
        ),
        Phrase(
            name="ensemble",
            title="Several models at once",
            words="ensemble stack_module_state vmap models batch population",
            inputs={"x": normal(4, 3), "weights": normal(3, 2, 3)},
            differs="Stacked parameters and `vmap` in both; `nnx.vmap` also makes the models, of "
            "which only the rngs have to be split.",
            costs="One batched product instead of several: a gain for small models.",
        ),
    ),
)
