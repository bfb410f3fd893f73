"""Judgements by hand: survivors that no test should have noticed, and lines that none reaches."""

# By file and the changed lines before and after, stripped.
JUDGEMENTS: dict[tuple[str, str, str], str] = {
    (
        "twingrad/numerics.py",
        "pairs = zip(_chunks(x), _chunks(y), strict=True)",
        "pairs = zip(_chunks(x), _chunks(y), strict=False)",
    ): "equivalent: arrays of one shape are cut into as many blocks",
    (
        "twingrad/numerics.py",
        "up = random.integers(2, size=value.shape, dtype=np.int8).astype(bool)",
        "up = random.integers(2, size=value.shape, dtype=np.int8).astype(None)",
    ): "equivalent: np.where takes the numbers 0 and 1 as it takes truth values",
    (
        "shared/params.py",
        '(-1, int(part)) if part.isdecimal() else (_FORWARD.find(f" {part} "), 0)',
        '(-1, int(part)) if part.isdecimal() else (_FORWARD.find(f" {part} "), 1)',
    ): "equivalent: all keys of words have the same number behind them",
    (
        "twingrad/comparison.py",
        "found += [(n, torch[n], x) for n, x in zip(torch_left, jax_left, strict=False)]",
        "found += [(n, torch[n], x) for n, x in zip(torch_left, jax_left, strict=None)]",
    ): "equivalent: zip takes None as it takes False",
    (
        "bench/speed/record.py",
        "rows.get((contestant, ratio.configuration), [])",
        "rows.get((contestant, ratio.configuration), )",
    ): "equivalent: a contestant without rows was not timed, by None as by an empty list",
    (
        "shared/loader.py",
        'if "grain" not in sys.modules:',
        'if "XXgrainXX" not in sys.modules:',
    ): "equivalent: a second import finds the module of the first",
    (
        "shared/loader.py",
        "dataset = runs.batch(micro_batches, drop_remainder=True)",
        "dataset = runs.batch(micro_batches, )",
    ): "equivalent: an endless stream has no remainder that could be dropped",
    (
        "shared/params.py",
        '_FORWARD = " wte wpe h ln_1 attn c_attn ln_2 mlp c_fc c_proj ln_f lm_head weight bias "',
        '_FORWARD = "XX wte wpe h ln_1 attn c_attn ln_2 mlp c_fc c_proj ln_f lm_head weight bias '
        'XX"',
    ): "equivalent: all places are two further, and their order is the same",
    (
        "bench/speed/statistics.py",
        "x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(seconds, float))",
        "x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(seconds, None))",
    ): "equivalent: seconds are numbers of float64 already",
    (
        "bench/speed/schema.py",
        '"type": "object",',
        '"TYPE": "object",',
    ): "equivalent in a timed row, whose parity is an object by the rule of all rows",
}
# Why more than a few lines of a file are left, by its path.
UNREACHED: dict[str, str] = {
    "shared/whole.py": "the same text as `twingrad/whole.py`, of which tests reach these lines",
    **dict.fromkeys(
        (
            *(
                f"twingrad/diagnosis/hypotheses/{name}.py"
                for name in (
                    *("attention", "dropout", "layers", "loss", "optimizer", "changes/losses"),
                    *("changes/masks", "changes/windows"),
                )
            ),
            *("twingrad/decoding/causes.py", "bench/diagnosis/trajectory.py"),
        ),
        "causes that the tests counted here do not plant, though studies of diagnosis may",
    ),
    "bench/diagnosis/command.py": "`diagnose gpt2`, which slow tests of `tests/cli` start",
    "bench/studies/diagnosis_accuracy.py": "the study of diagnosis, which takes hours",
    "bench/gpu/command.py": "comparisons that slow tests of `tests/gpu` start",
    "bench/mutation/runner.py": "planting all bugs in several processes, as `.ci/run` does",
    "bench/cli/verify.py": "`twingrad mutants`, which `.ci/run` calls",
    "bench/speed/backends/nanogpt.py": "a peer of which only a user has a checkout",
    "bench/speed/backends/torch_small.py": "graphs of a GPU",
    "bench/speed/backends/jax_loop.py": "settings of the ladder",
    "bench/tutorial/__main__.py": "`python -m bench.tutorial`, which pastes every page",
    "bench/tutorial/notebooks.py": "notebooks, which `python -m bench.tutorial` writes",
}
