"""Notes on train and eval mode, dropout and batch norm."""

from twingrad.phrases.phrase import Family, Phrase, normal, positive, single

FAMILY = Family(
    name="modes",
    title="Train and eval mode, dropout and batch norm",
    phrases=(
        Phrase(
            name="train_and_eval",
            title="Train mode and eval mode",
            words="train eval training deterministic use_running_average mode",
            inputs={"x": single(8, 3)},
            differs="The same calls. A module of PyTorch has `training`; NNX sets `deterministic` "
            "of dropout and `use_running_average` of batch norm. `nnx.view` makes a second model "
            "in the other mode, with the same parameters.",
            costs="A mode is static: changing it compiles anew under `jit`. Two views, two "
            "compiled functions.",
        ),
        Phrase(
            name="dropout",
            title="Dropout",
            words="dropout rate p keep probability inverted scaling",
            bound=0.05,
            because="of 20,000 numbers a fifth is dropped: its standard error is 0.003, and that "
            "of the mean of what is left the same",
            differs="`p` and `rate` are both the share that is dropped, and both divide what is "
            "kept by 1 - p. Masks differ, whatever the seeds. In NNX the stream of random numbers "
            "is called `dropout`, or `default`.",
            costs="A random number for each element; Threefry's are a noticeable part of a step "
            "on a GPU.",
        ),
        Phrase(
            name="same_mask",
            title="One dropout mask along an axis",
            words="broadcast_dims Dropout2d variational channel spatial",
            inputs={"x": normal(4, 2, 16)},
            differs="`broadcast_dims` names axes along which a mask is repeated. PyTorch has "
            "`Dropout1d` to `3d`, which drop whole channels, and otherwise a mask is written.",
            costs="Fewer random numbers.",
        ),
        Phrase(
            name="batch_norm",
            title="Batch norm in training",
            words="BatchNorm momentum running mean statistics",
            inputs={"x": normal(8, 3)},
            gradient=("x",),
            differs="PyTorch's momentum is the share of the new batch, Flax's that of the old: "
            "0.1 is 0.9. PyTorch's running variance is over n - 1, Flax's over n; the outputs "
            "divide by n in both. Flax's momentum is 0.99 by default.",
            costs="Under `jax.jit` the running statistics have to be returned; `nnx.jit` does so.",
        ),
        Phrase(
            name="batch_norm_in_eval",
            title="Batch norm in evaluation",
            words="running mean variance inference eval fold",
            inputs={"x": normal(4, 3), "mean": normal(3), "variance": positive(3)},
            gradient=("x",),
            differs="The same formula with the running statistics. Statistics that are imported "
            "from PyTorch are right as they are: they are a scale.",
            costs="Nothing beside a multiplication and an addition, which can be folded into the "
            "layer before.",
        ),
        Phrase(
            name="freeze_batch_norm",
            title="Freeze batch norm while the rest is trained",
            words="frozen statistics fine-tune eval only view",
            inputs={"x": single(8, 3)},
            differs="In PyTorch its `eval()` has to follow each `train()` of the whole. A view of "
            "NNX with `only` changes the modules of one type.",
            costs="Nothing.",
        ),
    ),
)
