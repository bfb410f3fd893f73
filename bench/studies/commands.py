"""Records that commands of the workbench write: comparisons, planted bugs, speed, plans, bad files.

Each command has its own measurement and tables; here stand the claims and the sources.
"""

from pathlib import Path

from bench.mutation import results as mutation_results
from bench.parity import summary
from bench.parity import tables as parity_tables
from bench.planning import record as planning_record
from bench.planning import tables as planning_tables
from bench.speed import markdown as speed_markdown
from bench.studies import diagnosis_accuracy, diagnosis_record
from bench.studies.attacking import markdown as attacks_markdown
from bench.studies.fuzzing import markdown as fuzzing_markdown
from bench.studies.study import Command, Study, StudyOptions, of_record, shared, twins

_GATES = (
    *twins("tensors", "sigmoid_bce", "simple_net", "gpt2", "loss", "dropout", "optim", "train"),
    *twins("params", "trace", "runtime"),
    *shared("by_hand", "config", "data", "observation", "params", "schedule", "tensors"),
    *shared("threefry", "train_state"),
    *("twingrad/numerics.py", "bench/parity/*_gate.py", "bench/harness/programs.py"),
)

COMPARE = Study(
    name="compare",
    claim="Both frameworks agree in every activation, loss, gradient and update, in every dtype",
    sources=_GATES,
    command=Command(
        arguments=("-m", "bench", "compare", "--dtype", "all", "--device", "cpu"),
    ),
    blocks={"compare": parity_tables.comparison, "summary": summary.block},
)

MUTANTS = Study(
    name="mutants",
    claim="Every planted bug trips a gate, and nothing trips without one",
    sources=(*_GATES, "bench/mutation/bugs/*.bugs"),
    command=Command(arguments=("-m", "bench", "mutants", "--device", "cpu")),
    blocks={"mutants": mutation_results.markdown},
)

PLAN = Study(
    name="plan",
    claim="Planned memory and time of a step come near to those of runs",
    sources=(
        *twins("gpt2", "loss", "optim", "train", "distributed", "runtime"),
        *(f"bench/planning/{name}.py" for name in ("step_plan", "activations", "memory", "timing")),
    ),
    command=Command(arguments=("-m", "bench.planning.validation")),
    blocks={
        "plan": lambda name: planning_tables.markdown(planning_record.load(name)),
        "spent": planning_tables.breakdown,
    },
)


def _diagnose(options: StudyOptions, path: Path) -> int:
    words = ["--json", str(path)]
    words += ["--only", *options.only] if options.only else []
    words += ["--side", options.side] if options.side else []
    words += ["--most", str(options.most)] if options.most is not None else []
    return diagnosis_accuracy.main(words)


DIAGNOSIS = Study(
    name="diagnosis",
    claim="Diagnosis locates and names planted bugs, alone and in pairs, and finds none elsewhere",
    sources=diagnosis_accuracy.SOURCES,
    run=_diagnose,
    accepts=("only", "side", "most"),
    blocks={
        "diagnosis": diagnosis_record.diagnosis,
        "undiagnosed": diagnosis_record.undiagnosed,
        "diagnoses": diagnosis_record.diagnoses,
    },
)

FUZZ = Study(
    name="fuzz",
    claim="Every reader refuses a bad file in one sentence, and writes nothing",
    sources=(
        *shared(
            "checkpoint/*", "corpus/*", "data", "files", "loader", "safetensors_io", "tokenizer"
        ),
        *shared("transformers_io"),
        *("bench/speed/record.py", "bench/speed/schema.py", "twingrad/pair.py"),
        *("bench/training/config.py", "bench/training/pretrained.py"),
        "bench/training/run_folder.py",
    ),
    command=Command(
        arguments=("-m", "pytest", "-q", "-n", "0", "tests/fuzz"),
        environment={"TWINGRAD_EXAMPLES": "10000"},
        file="TWINGRAD_FUZZ_RECORD",
    ),
    blocks={"fuzz": of_record(fuzzing_markdown)},
)

ATTACKS = Study(
    name="attacks",
    claim="No attack loses data, leaves a process, lets a stranger in or gets past a check",
    sources=(
        *(f"twingrad/{name}.py" for name in ("whole", "lifeline", "printable", "files")),
        *(f"twingrad/cli/{name}.py" for name in ("apart", "ending", "start")),
        *shared("rendezvous/*", "checkpoint/*", "files", "world"),
        *(f"bench/training/{name}.py" for name in ("command", "launcher", "processes", "session")),
        *(f"bench/training/{name}.py" for name in ("run_folder", "run_lock", "unstoppable")),
        *(f"bench/speed/{name}.py" for name in ("contradictions", "record", "schema")),
    ),
    command=Command(
        arguments=("-m", "pytest", "-q", "--all", "-m", "attack", "tests"),
        file="TWINGRAD_ATTACKS_RECORD",
    ),
    blocks={"attacks": of_record(attacks_markdown)},
)

_TIMED = (
    *twins("gpt2", "loss", "dropout", "optim", "train", "params", "runtime"),
    *shared("allocator", "config", "schedule", "threefry"),
    *("bench/speed/backends/[!_b]*.py", "bench/speed/contestants.py"),
)
_SMALL = (
    "jax-tuned,torch-tuned,jax-idiomatic,torch-idiomatic,jax-lean,torch-lean,"
    "nanogpt,nanogpt-tuned,hf-tuned,flax-reference,flax-reference-tuned"
)
_124M = "jax-tuned,torch-tuned,nanogpt,nanogpt-tuned,hf-tuned,flax-reference-tuned"


def _speed(
    name: str,
    claim: str,
    workloads: str,
    preset: str,
    contestants: str,
    sources: tuple[str, ...] = _TIMED,
) -> Study:
    words = ["-m", "bench", "bench", "--device", "cpu", "--workload", *workloads.split()]
    words += ["--preset", preset, "--contestants", contestants]
    peer = "nanogpt" if "nanogpt" in contestants else None
    return Study(
        name=f"speed-{name}",
        claim=claim,
        sources=sources,
        command=Command(arguments=tuple(words), peer=peer),
        accepts=("peer",) if peer else (),
    )


SPEED = (
    _speed("124m", "A training step of GPT-2 124M against its peers", "train", "124m", _124M),
    _speed("small", "A training step at the small size", "train overhead", "small", _SMALL),
    _speed(
        "small-again",
        "A second call finds the same ratios as the first",
        *("train overhead", "small", _SMALL),
    ),
    _speed(
        "decode",
        "Time of a decoded token against a peer",
        *("decode", "124m", "jax-tuned,torch-tuned,hf"),
        sources=(
            *twins("gpt2", "generate", "params", "runtime"),
            *shared("config", "sampling"),
            *("bench/speed/backends/[!_b]*.py", "bench/speed/contestants.py"),
        ),
    ),
    _speed("ladder", "What each setting adds", "train", "small", "torch-ladder,jax-ladder"),
    _speed("growth", "A step's time against each size", "growth", "small", "torch,jax"),
)
# Blocks of pages that show any of the records of speed.
SPEED_BLOCKS = {
    "speed": speed_markdown.speed,
    "ceilings": speed_markdown.ceilings,
    "ladder": speed_markdown.ladder,
    "growth": speed_markdown.growth,
    "repeated": speed_markdown.repeated,
}
STUDIES = (COMPARE, MUTANTS, PLAN, FUZZ, ATTACKS, *SPEED)
