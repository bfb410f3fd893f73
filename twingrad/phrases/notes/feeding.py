"""Notes on batches, devices, transfers and memory."""

from twingrad.phrases.phrase import Family, Phrase, integers, normal

FAMILY = Family(
    name="feeding",
    title="Data, devices, transfers and memory",
    phrases=(
        Phrase(
            name="batches",
            title="Batches of a data set",
            words="DataLoader Dataset batch drop_last grain iterate",
            inputs={"x": normal(5, 3), "y": normal(5, 1)},
            differs="JAX has no loader: slice arrays that fit into memory, else use Grain, or "
            "PyTorch's loader with NumPy batches. A last batch of another size compiles anew.",
            costs="Workers of PyTorch are processes; those of `grain` too. Fork after JAX has "
            "started may hang: let them spawn.",
        ),
        Phrase(
            name="shuffled_batches",
            title="Another order in each epoch",
            words="shuffle epoch sampler permutation seed",
            inputs={"x": integers(6, below=100)},
            differs="The generator moves on by itself; a key is folded with the number of the "
            "epoch, so that epoch 7 has its order without the six before it.",
            costs="Gathering rows at random is slower than slicing.",
        ),
        Phrase(
            name="pad_a_batch",
            title="Pad sequences to one length",
            words="pad_sequence collate padding mask variable length",
            inputs={"x": normal(4)},
            differs="JAX has no function for it, and does better with a few fixed lengths than "
            "with the longest of each batch. Pad in NumPy, before the device sees it.",
            costs="Each new length compiles anew under `jit`.",
        ),
        Phrase(
            name="to_a_device",
            title="Move to a device and back",
            untraceable=True,
            words="cuda cpu to device device_put transfer gpu",
            inputs={"x": normal(4, 3)},
            differs="PyTorch begins on the CPU and is told; JAX puts arrays on its first device "
            "by itself. Operands on two devices raise in both, unless JAX chose the device.",
            costs="Both copy asynchronously: PyTorch from pinned memory with `non_blocking=True`, "
            "JAX always. Reading a value waits.",
        ),
        Phrase(
            name="without_copying",
            title="An array of another library, without a copy",
            untraceable=True,
            words="dlpack from_dlpack zero-copy numpy cupy share exchange",
            inputs={"x": normal(4, 16)},
            differs="`torch.from_dlpack(jax_array)` and `jnp.from_dlpack(tensor)` exchange arrays "
            "on a GPU too. JAX takes its arrays to be constant: do not write to the tensor "
            "afterwards.",
            costs="Nothing, if the memory is aligned as JAX wants it (64 bytes); else a copy.",
        ),
        Phrase(
            name="bytes_of_an_array",
            title="How many bytes an array has",
            words="nbytes element_size itemsize memory size",
            inputs={"x": normal(4, 3)},
            differs="The same. A view in PyTorch holds all of what it looks at: "
            "`x.untyped_storage().nbytes()`.",
            costs="Nothing.",
        ),
        Phrase(
            name="memory_of_the_device",
            title="How much memory of the device is used",
            untraceable=True,
            words="memory_allocated memory_stats max peak vram preallocate oom",
            inputs={"x": normal(4, 3)},
            differs="Both count what their own allocator hands out. JAX takes three quarters of "
            "the GPU at its start (`XLA_PYTHON_CLIENT_PREALLOCATE=false` turns that off), so that "
            "`nvidia-smi` says little. On a CPU `memory_stats` is None.",
            costs="`jit(f).lower(x).compile().memory_analysis()` says what a program will need "
            "before it is run.",
        ),
        Phrase(
            name="profile",
            title="Record a profile",
            untraceable=True,
            words="profiler trace tensorboard perfetto xprof timeline",
            inputs={"x": normal(4, 3)},
            costly=True,
            differs="Both write a timeline of CPU and GPU. Regions are named by "
            "`torch.profiler.record_function` and `jax.named_scope`.",
            costs="Wait inside of JAX's, since work is asynchronous. Profile a few steps after "
            "the first ones, which compile.",
        ),
    ),
)
