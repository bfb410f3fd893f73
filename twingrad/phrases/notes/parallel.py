"""Notes on several devices and on reproducibility."""

from twingrad.phrases.phrase import Family, Phrase, integers, normal

FAMILY = Family(
    name="parallel",
    title="Several devices, reproducibility",
    phrases=(
        Phrase(
            name="mean_over_devices",
            title="A mean over all devices",
            words="all_reduce psum pmean shard_map collective nccl",
            inputs={"x": normal(4, 3)},
            differs="A process of PyTorch has one device, and calls collectives. JAX has one "
            "program for all devices; inside `shard_map` it is written for one of them, with "
            "collectives by the name of an axis.",
            costs="An all-reduce: about twice the bytes over the slowest link.",
        ),
        Phrase(
            name="data_parallel",
            title="Data parallel training",
            words="ddp DistributedDataParallel sharding batch multi-gpu NamedSharding",
            inputs={"x": normal(4, 3), "y": normal(4, 1), "weight": normal(1, 3)},
            differs="DDP averages the gradients of processes that each have a loss of their own. "
            "In JAX the batch is one array that lies on many devices, the loss is that of the "
            "whole, and XLA puts the all-reduce in. Unequal numbers of tokens weigh rightly in "
            "JAX alone.",
            costs="Both overlap communication with the backward pass. A DDP that outlives "
            "`destroy_process_group` ends Gloo's threads itself, and may wait for one for ever: "
            "let go of it first.",
        ),
        Phrase(
            name="sharded_parameters",
            title="Shard the parameters",
            words="fsdp fully_shard zero sharding parameters memory large model",
            inputs={"x": normal(4, 3), "y": normal(4, 1), "weight": normal(1, 3)},
            costly=True,
            differs="FSDP gathers the parameters of a module before it runs, and scatters its "
            "gradients. In JAX a parameter's sharding says where its parts lie, and XLA does the "
            "same.",
            costs="Half as much communication again as data parallel, for a fraction of the "
            "memory.",
        ),
        Phrase(
            name="own_part_of_the_data",
            title="Each process reads its own part of the data",
            words="DistributedSampler shard process_index rank data loading",
            inputs={"x": integers(8, below=100)},
            differs="The sampler repeats examples until all parts are equally long. In JAX "
            "`jax.make_array_from_process_local_data` joins the parts into one array; Grain's "
            "`ShardByJaxProcess` cuts the data.",
            costs="Without it every process reads everything, and learns the same.",
        ),
        Phrase(
            name="one_process_alone",
            title="Print and save in one process",
            words="rank process_index main process logging world size",
            differs="A rank, against a process's number. In JAX all processes have to take part "
            "in what computes on sharded arrays: only what follows may be in the `if`.",
            costs="A collective inside the `if` waits forever, in both.",
        ),
        Phrase(
            name="same_bits",
            title="The same bits in every run",
            words="deterministic reproducible nondeterminism use_deterministic_algorithms seed",
            inputs={"x": normal(6), "index": integers(6, below=3)},
            gradient=("x",),
            differs="PyTorch picks deterministic kernels, or raises where there is none; on a GPU "
            "with `CUBLAS_WORKSPACE_CONFIG=:4096:8`. JAX is deterministic but for scatters and a "
            "few others on a GPU, which a flag excludes.",
            costs="Slower scatters. Another GPU, another version or another batch size gives "
            "other bits nevertheless.",
        ),
    ),
)
