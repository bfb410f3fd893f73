"""Notes on saving and loading."""

from twingrad.phrases.phrase import Family, Phrase, normal

FAMILY = Family(
    name="saving",
    title="Saving and loading",
    phrases=(
        Phrase(
            name="save_and_load",
            title="Save and load a small model",
            untraceable=True,
            words="torch.save torch.load state_dict savez weights_only pickle",
            inputs={"weight": normal(2, 3), "bias": normal(2)},
            differs="JAX has no file format of its own: a state is a tree of arrays, which any "
            "library for arrays can keep. `nnx.update` puts them into a model.",
            costs="`torch.load` without `weights_only=True` runs whatever code the file holds; it "
            "is the default since 2.6. NumPy's files know no bfloat16.",
        ),
        Phrase(
            name="safetensors",
            title="Save and load as safetensors",
            untraceable=True,
            words="safetensors hub huggingface format mmap",
            inputs={"weight": normal(2, 3), "bias": normal(2)},
            needs=("safetensors",),
            differs="The same file for both: names, dtypes, shapes and bytes. Names are flat; a "
            "tree of JAX is flattened first. Shared tensors are refused by PyTorch's `save`.",
            costs="Loading maps the file, and reads what is used. It runs no code.",
        ),
        Phrase(
            name="checkpoint",
            title="Checkpoints of sharded models",
            untraceable=True,
            words="orbax dcp distributed checkpoint sharded asynchronous restore",
            inputs={"weight": normal(2, 3), "bias": normal(2)},
            needs=("orbax",),
            costly=True,
            differs="DCP loads into tensors that are there, Orbax into what shapes and shardings "
            "describe: both may be placed otherwise than when they were saved. Orbax writes in "
            "the background, and wants a path that is absolute.",
            costs="Each process writes its own part; saving waits only for the copy to the host "
            "(`dcp.async_save` in PyTorch).",
        ),
        Phrase(
            name="weights_of_the_other_framework",
            title="Load a Linear of the other framework",
            words="convert port weights kernel transpose checkpoint conversion",
            inputs={"x": normal(4, 3), "kernel": normal(3, 2), "bias": normal(2)},
            gradient=("x",),
            differs="The kernel is transposed. Convolutions have their axes turned, attention may "
            "have heads as an axis, norms call their gain `scale`: [Convert a "
            "checkpoint](porting.md#convert-a-checkpoint) does it by a map.",
            costs="A transposed view is fine in PyTorch; `load_state_dict` copies it.",
        ),
        Phrase(
            name="load_a_part",
            title="Load a part of the parameters",
            words="strict partial missing unexpected keys pretrained backbone",
            inputs={"weight": normal(2, 3)},
            differs="`strict=False` reports what is missing and what is too much; a slip in a "
            "name goes unnoticed unless that is read. `nnx.update` takes a part, and says nothing "
            "of a name that the model has not.",
            costs="Nothing.",
        ),
        Phrase(
            name="resume",
            title="Resume training",
            words="resume optimizer state_dict restore step moments",
            inputs={"parameter": normal(4), "gradient": normal(4)},
            differs="`load_state_dict` goes by the order of the parameters. A state of optax is a "
            "tree that is made anew and filled; its count of steps drives the schedule, where "
            "PyTorch's scheduler has a state of its own.",
            costs="Parameters, moments, step, position in the data and random state, all of one "
            "step: whatever is left out makes another run.",
        ),
    ),
)
