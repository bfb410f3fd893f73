"""Notes on compilation, tracing and timing."""

from twingrad.phrases.phrase import Family, Phrase, normal

FAMILY = Family(
    name="compiling",
    title="Compiling, tracing, timing",
    phrases=(
        Phrase(
            name="compile_a_function",
            title="Compile a function",
            words="torch.compile jit decorator inductor xla speed",
            inputs={"x": normal(4)},
            costly=True,
            differs="`torch.compile` reads bytecode, and goes on in Python where it meets what it "
            "cannot compile. `jit` runs the function once with tracers, and raises where a number "
            "is needed: the whole is one program, or none.",
            costs="Seconds at the first call, minutes for large models. Compile the whole "
            "training step in JAX. `jax_compilation_cache_dir` keeps programs for the next run; "
            "PyTorch's inductor does so by itself.",
        ),
        Phrase(
            name="once_for_each_shape",
            title="Compiled anew for each shape",
            words="recompilation retracing recompile cache shape slow first call",
            inputs={"x": normal(4)},
            costly=True,
            differs="`jit` traces anew for each shape, dtype and static argument: a last batch "
            "that is shorter costs a compilation. So does PyTorch with `dynamic=False`; left "
            "alone, it makes a size that has changed once dynamic.",
            costs="`jax_log_compiles` and `TORCH_LOGS=recompiles` say what is compiled, and why.",
        ),
        Phrase(
            name="once_for_many_shapes",
            title="Compiled once for many shapes",
            words="dynamic shapes padding bucket mark_dynamic variable length",
            inputs={"x": normal(4)},
            costly=True,
            differs="`dynamic=True` makes sizes symbols. JAX has none at run time: pad to one of "
            "a few lengths, and pass how much of it counts.",
            costs="Kernels for any size are slower than those for one; padding computes on zeros.",
        ),
        Phrase(
            name="an_argument_that_is_no_array",
            title="An argument that decides what is computed",
            words="static_argnames static_argnums flag config hashable",
            inputs={"x": normal(4)},
            costly=True,
            differs="`torch.compile` guards the values of Python arguments by itself. In JAX an "
            "argument is an array unless it is named static, and then it has to be hashable.",
            costs="One compilation for each of its values.",
        ),
        Phrase(
            name="a_setting_that_changes",
            title="A number that changes between calls",
            words="global constant closure stale captured side effect guard",
            inputs={"x": normal(4)},
            differs="What `jit` finds outside of the arguments becomes a constant of the program, "
            "and later changes are not seen, without an error. `torch.compile` guards such "
            "numbers, and compiles anew.",
            costs="A float argument costs nothing in JAX; in `torch.compile` pass a tensor.",
        ),
        Phrase(
            name="reuse_the_memory",
            title="Reuse the memory of an argument",
            untraceable=True,
            words="donate_argnums donate in-place buffer memory optimizer state",
            inputs={"state": normal(4), "gradient": normal(4)},
            differs="In place, against a donated buffer: the old array is deleted, and using it "
            "raises.",
            costs="Without donation a training step in JAX holds parameters and moments twice.",
        ),
        Phrase(
            name="measure_time",
            title="Measure how long something takes",
            untraceable=True,
            words="timing benchmark synchronize block_until_ready asynchronous dispatch",
            inputs={"x": normal(4, 3)},
            differs="Both return before a GPU has computed; JAX does on the CPU too. Wait at the "
            "end: `torch.cuda.synchronize()`, `block_until_ready()`. Leave out the first call.",
            costs="Waiting after each step forbids the CPU to run ahead: wait once, at the end.",
        ),
        Phrase(
            name="count_operations",
            title="Count floating-point operations",
            words="flops cost_analysis FlopCounterMode mfu",
            inputs={"x": normal(3, 4), "y": normal(4, 5)},
            differs="PyTorch counts products, convolutions and attention as they run. XLA counts "
            "all operations of the compiled program, a loop's body once. Here both say 2 x 3 x 4 "
            "x 5.",
            costs="Nothing is computed in JAX, but it is compiled.",
        ),
        Phrase(
            name="look_at_the_program",
            title="Look at the program",
            words="jaxpr make_jaxpr fx graph symbolic_trace hlo lower",
            inputs={"x": normal(4)},
            differs="`make_jaxpr` shows what JAX traced; `jit(f).lower(x).as_text()` what XLA "
            "gets, `.compile().as_text()` what it made. In PyTorch `torch.fx`, and "
            "`TORCH_LOGS=output_code` for kernels.",
            costs="Tracing alone.",
        ),
        Phrase(
            name="export",
            title="Keep a compiled program for another process",
            words="export torch.export StableHLO serialize deploy aot",
            inputs={"x": normal(4)},
            costly=True,
            differs="Both write a program without Python. PyTorch's is a graph of its operators, "
            "JAX's StableHLO, for the platforms that are named. Sizes may be symbols in both.",
            costs="Bytes to be written are `torch.export.save`'s and `program.serialize()`'s, "
            "which needs flatbuffers. It is compiled again where it is loaded, unless AOTInductor "
            "or a compiled executable is written.",
        ),
    ),
)
