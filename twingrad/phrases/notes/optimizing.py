"""Notes on optimizers, schedules, clipping and averages."""

from twingrad.phrases.phrase import Family, Phrase, normal

FAMILY = Family(
    name="optimizing",
    title="Optimizers, schedules, clipping and averages",
    phrases=(
        Phrase(
            name="training_step",
            title="A training step",
            words="AdamW optimizer step zero_grad backward nnx.Optimizer update train loop",
            inputs={"x": normal(6, 3), "y": normal(6, 1), "weight": normal(1, 3)},
            differs="Gradients are added up in `.grad`, and cleared; in JAX they are returned. "
            "The optimizer of PyTorch holds the parameters, optax's gets them at each step and "
            "returns updates. Weight decay is 0.01 in `AdamW` and 1e-4 in `optax.adamw` if left "
            "out.",
            costs="PyTorch updates in place, all parameters in a few kernels with `fused=True`. "
            "Compile the whole step with `nnx.jit`, or `jax.jit` and donated buffers.",
        ),
        Phrase(
            name="momentum",
            title="SGD with momentum",
            words="sgd momentum nesterov dampening heavy ball",
            inputs={"parameter": normal(4), "gradient": normal(4)},
            differs="The same formula, in which the rate multiplies at the end. PyTorch has "
            "`dampening` too.",
            costs="One buffer of the size of the parameters.",
        ),
        Phrase(
            name="adam",
            title="Adam",
            words="adam betas eps b1 b2 moments",
            inputs={"parameter": normal(4), "gradient": normal(4)},
            differs="`betas` against `b1` and `b2`; both epsilons are 1e-8, beside the root. "
            "`eps_root` of optax, inside it, is 0.",
            costs="Two buffers of the size of the parameters.",
        ),
        Phrase(
            name="decay_as_l2",
            title="Weight decay as an L2 penalty",
            words="weight_decay l2 adam add_decayed_weights coupled",
            inputs={"parameter": normal(4), "gradient": normal(4)},
            differs="`Adam(weight_decay=...)` adds the decay to the gradient, before the moments; "
            "AdamW subtracts it from the parameter. In optax the order of the chain says which.",
            costs="Nothing.",
        ),
        Phrase(
            name="no_decay_of_biases",
            title="No weight decay of biases and gains",
            words="parameter groups mask decay bias norm weight_decay",
            inputs={"weight": normal(3, 2), "bias": normal(2)},
            differs="Groups of parameters, against a mask: a tree of booleans, or a function that "
            "makes it. Both decay everything if nothing is said.",
            costs="A launch for each group in PyTorch.",
        ),
        Phrase(
            name="parameter_groups",
            title="Another rate for some of the parameters",
            words="param_groups partition multi_transform learning rate layer-wise head",
            inputs={"body": normal(3), "head": normal(2)},
            differs="`optax.partition` (formerly `multi_transform`) takes a label for each "
            "parameter, and an optimizer for each label, which may be of another kind.",
            costs="Norms for clipping are of each group alone, where the clipping is inside the "
            "groups: put it before.",
        ),
        Phrase(
            name="warmup_and_cosine",
            title="Warmup, then a cosine",
            words="schedule scheduler lr learning rate warmup cosine LambdaLR",
            inputs={"parameter": normal(1)},
            bound=1e-6,
            because="optax computes its schedules in float32, whose rounding is 6e-8",
            differs="A scheduler changes the optimizer when it is stepped: after the optimizer, "
            "once a step or once an epoch, which is easily forgotten. A schedule of optax is a "
            "function of the number of updates, which the optimizer counts. `decay_steps` "
            "includes the warmup.",
            costs="Nothing. With accumulation optax counts updates, not small batches.",
        ),
        Phrase(
            name="change_the_rate",
            title="Change the learning rate while training",
            words="inject_hyperparams param_groups lr plateau manual",
            inputs={"parameter": normal(4), "gradient": normal(4)},
            differs="A rate of optax is a constant of the program, unless `inject_hyperparams` "
            "moves it into the state.",
            costs="Without it each new rate compiles anew.",
        ),
        Phrase(
            name="clip_by_norm",
            title="Clip gradients by their joint norm",
            words="clip_grad_norm_ clip_by_global_norm max_norm gradient clipping",
            inputs={"weight": normal(3, 2), "bias": normal(2)},
            differs="PyTorch divides by the norm and 1e-6, optax by the norm. PyTorch returns the "
            "norm before clipping; in optax ask `optax.tree.norm`. Clipping stands first in the "
            "chain.",
            costs="All gradients are read once more. A norm of NaN makes all of them NaN in both.",
        ),
        Phrase(
            name="clip_by_value",
            title="Clip each gradient",
            words="clip_grad_value_ clip elementwise",
            inputs={"weight": normal(3, 2)},
            differs="The same. `optax.clip` is this one.",
            costs="Nothing, but it turns the direction of the step.",
        ),
        Phrase(
            name="accumulate",
            title="Add up gradients over several small batches",
            words="gradient accumulation MultiSteps micro-batch large batch",
            inputs={"x": normal(6, 3), "y": normal(6), "weight": normal(3)},
            bound=1e-7,
            because="MultiSteps finds the share of each batch in float32, which rounds by 6e-8",
            differs="`backward` adds to `.grad` by itself, so that the loss is divided by the "
            "number of batches. `MultiSteps` averages, and updates by zeros in between.",
            costs="One buffer of gradients. Batches of unequal numbers of tokens have to be "
            "weighted in both. A `scan` over small batches inside the step is quicker in JAX.",
        ),
        Phrase(
            name="moving_average",
            title="A moving average of the parameters",
            words="ema AveragedModel swa incremental_update polyak target network",
            inputs={"weight": normal(2, 3), "newer": normal(2, 3)},
            differs="A decay of 0.9 is a `step_size` of 0.1. PyTorch's copies at its first "
            "update. `optax.ema` averages updates, not parameters. Buffers are copied only with "
            "`use_buffers`.",
            costs="A second set of parameters, in float32: in bfloat16 a small step is lost.",
        ),
        Phrase(
            name="look_at_the_moments",
            title="Look into the optimizer's state",
            words="optimizer state exp_avg mu nu moments tree get",
            inputs={"parameter": normal(4), "gradient": normal(4)},
            differs="A dictionary for each parameter, against a tree of the parameters' form for "
            "each moment.",
            costs="Nothing.",
        ),
        Phrase(
            name="skip_bad_steps",
            title="Skip a step whose gradient is not finite",
            words="nan inf apply_if_finite skip overflow GradScaler",
            inputs={"parameter": normal(4), "gradient": normal(4)},
            differs="An `if` in PyTorch. `apply_if_finite` counts, and lets bad steps through "
            "after so many in a row.",
            costs="PyTorch waits for the GPU at each step; JAX selects on the device.",
        ),
    ),
)
