"""The library's own commands, which need no checkout: phrases, pairs, doctor, completion."""

import argparse
from collections.abc import Sequence

from twingrad.cli.commands import (
    FRAMEWORKS,
    INSTALLATION,
    PAIRS,
    Command,
    OptionSource,
    run_command,
)
from twingrad.cli.completion import completion_command
from twingrad.cli.options import read_options

ABOUT = "Compare a PyTorch model with its JAX port, tensor by tensor, and find where they differ."
NOTE = "The built-in programs, their training and benchmarks come with a checkout of the project."
# Options of these commands that no value follows.
FLAGS = ("-h", "--help", "--all", "--map", "--strict", "--render", "--without-ceilings")
_OF_GPT2 = ("preset", "weights", "tokens", "save")
# Commands that are the library's where they are given a file, and the workbench's otherwise.
OF_FILES = ("compare", "diagnose", "bench")


def answers(arguments: Sequence[str]) -> bool:
    """Whether the call is the library's to answer: about a pair, phrases, or the installation."""
    command, *words = arguments or [""]
    return command in ("init-pair", "record", "convert", "doctor", "phrases") or (
        command in OF_FILES and _program(words).endswith(".py")
    )


def runs_a_pair(arguments: Sequence[str]) -> bool:
    """Whether the call runs the code of a pair file."""
    return answers(arguments) and arguments[0] not in ("init-pair", "doctor")


def _program(words: Sequence[str]) -> str:
    """The first of ``words`` that is no option and no option's value."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            return word
        if word not in (*FLAGS, "--") and "=" not in word:
            next(rest, "")
    return ""


def run(arguments: Sequence[str], note: str = NOTE) -> int:
    """Run a call; 0 if nothing differs, else 1. Raises ``ValueError`` for a wrong call."""
    if arguments[:1] and arguments[0] in OF_FILES:
        _refuse_options_of_gpt2(arguments)
    return run_command(COMMANDS, arguments, ABOUT, note)


def _refuse_options_of_gpt2(arguments: Sequence[str]) -> None:
    for name in _OF_GPT2:
        if any(word.partition("=")[0] == f"--{name}" for word in arguments):
            raise ValueError(f"--{name} is for gpt2: a pair file says itself what it compares")


def _init_pair_options() -> Sequence[OptionSource]:
    from twingrad.cli.pair_options import InitPairOptions

    return (InitPairOptions,)


def _init_pair(parsed: argparse.Namespace) -> int:
    from twingrad.cli import pair_commands, pair_options

    return pair_commands.init_pair(read_options(pair_options.InitPairOptions, parsed))


def _record_options() -> Sequence[OptionSource]:
    from twingrad.cli.pair_options import RecordOptions

    return (RecordOptions,)


def _record(parsed: argparse.Namespace) -> int:
    from twingrad.cli import pair_commands, pair_options
    from twingrad.terminal import new_console

    options = read_options(pair_options.RecordOptions, parsed)
    return pair_commands.record(options, new_console())


def _compare_options() -> Sequence[OptionSource]:
    from twingrad.cli.pair_options import PairCompareOptions

    return (PairCompareOptions,)


def _compare(parsed: argparse.Namespace) -> int:
    from twingrad.cli import pair_commands, pair_options
    from twingrad.terminal import new_console

    options = read_options(pair_options.PairCompareOptions, parsed)
    return pair_commands.compare(options, new_console())


def _diagnose_options() -> Sequence[OptionSource]:
    from twingrad.cli.pair_options import PairDiagnoseOptions

    return (PairDiagnoseOptions,)


def _diagnose(parsed: argparse.Namespace) -> int:
    from twingrad.cli import pair_commands, pair_options
    from twingrad.terminal import new_console

    options = read_options(pair_options.PairDiagnoseOptions, parsed)
    return pair_commands.diagnose(options, new_console())


def _convert_options() -> Sequence[OptionSource]:
    from twingrad.convert.command import ConvertOptions

    return (ConvertOptions,)


def _convert(parsed: argparse.Namespace) -> int:
    from twingrad.convert import command
    from twingrad.terminal import new_console

    return command.run(read_options(command.ConvertOptions, parsed), new_console())


def _bench_options() -> Sequence[OptionSource]:
    from twingrad.timing.command import PairBenchOptions

    return (PairBenchOptions,)


def _bench(parsed: argparse.Namespace) -> int:
    from twingrad.terminal import new_console
    from twingrad.timing import command

    return command.run(read_options(command.PairBenchOptions, parsed), new_console())


def _doctor_options() -> Sequence[OptionSource]:
    from twingrad.doctor.command import DoctorOptions

    return (DoctorOptions,)


def _doctor(parsed: argparse.Namespace) -> int:
    from twingrad.doctor import command
    from twingrad.terminal import new_console

    return command.run(read_options(command.DoctorOptions, parsed), new_console())


def _phrases_options() -> Sequence[OptionSource]:
    from twingrad.phrases.command import PhrasesOptions

    return (PhrasesOptions,)


def _phrases(parsed: argparse.Namespace) -> int:
    from twingrad.phrases import command
    from twingrad.terminal import new_console

    return command.run(read_options(command.PhrasesOptions, parsed), new_console())


PAIR_COMMANDS = (
    Command(
        name="init-pair",
        group=PAIRS,
        usage="FILE.py",
        summary="write a pair file to put your two models in",
        about="Write a pair file, which compares as it is; put your PyTorch model and its JAX port "
        "in it, then compare and diagnose it.",
        examples=(
            ("twingrad init-pair my_pair.py", "a new file, which is never overwritten"),
            ("twingrad init-pair my_port.py --side jax", "JAX's side, to judge from a record"),
        ),
        options=_init_pair_options,
        run=_init_pair,
    ),
    Command(
        name="record",
        group=PAIRS,
        usage="FILE.py",
        summary="record one side, to judge the other elsewhere",
        about="Run one side of a pair file where only its framework is installed, and write all "
        "its tensors: compare and diagnose judge the other side from them with --against, where "
        "this framework is not installed. The file is Python, and is run.",
        examples=(
            ("twingrad record my_pair.py --side torch --out rec", "PyTorch's side, in a folder"),
            (
                "twingrad record my_pair.py --side torch --out rec --only 'layers[.]0'",
                "of a large model the calls of its first layer alone",
            ),
        ),
        options=_record_options,
        run=_record,
    ),
    Command(
        name="compare",
        listed="compare FILE.py",
        group=PAIRS,
        usage="FILE.py",
        summary="run both models and judge every tensor",
        about="Run both models of a pair file on the same parameters and batch, and judge every "
        "output, the loss and every gradient. The file is Python, and is run.",
        examples=(
            ("twingrad compare my_pair.py", "in float64, then in float32"),
            (
                "twingrad compare my_pair.py --dtype float64 --html pair.html",
                "in float64 alone, with a page of every tensor",
            ),
            ("twingrad compare my_port.py --against rec", "the other side comes from a record"),
        ),
        options=_compare_options,
        run=_compare,
    ),
    Command(
        name="diagnose",
        listed="diagnose FILE.py",
        group=PAIRS,
        usage="FILE.py",
        summary="find where the two first differ, and why",
        about="Run every JAX module of a pair file on the inputs of its PyTorch module, and name "
        "the first whose own output, gradient or update differs, with the cause where a known one "
        "explains it. The file is Python, and is run.",
        examples=(
            ("twingrad diagnose my_pair.py", "the first place where they differ"),
            ("twingrad diagnose my_pair.py --map", "which parameter is which, as code too"),
            ("twingrad diagnose my_pair.py --all --json found.json", "every place, for a program"),
            ("twingrad diagnose my_port.py --against rec", "the other side comes from a record"),
            ("twingrad diagnose my_pair.py --until h.3 --only attn", "a part of the model"),
        ),
        options=_diagnose_options,
        run=_diagnose,
    ),
    Command(
        name="convert",
        listed="convert FILE.py",
        group=PAIRS,
        usage="FILE.py",
        summary="turn a checkpoint into the other framework's",
        about="Write a PyTorch checkpoint as the JAX model of a pair file reads it, or the other "
        "way, by the map of parameters that compare uses; then compare both models with these "
        "numbers. Tensors are converted one at a time and bit for bit. The file is Python, and is "
        "run.",
        examples=(
            (
                "twingrad convert my_pair.py --weights checkpoint --to jax --out jax_weights",
                "for JAX, as safetensors and as a checkpoint of Orbax",
            ),
            (
                "twingrad convert my_pair.py --weights jax_weights --to torch --out torch_weights",
                "and back",
            ),
        ),
        options=_convert_options,
        run=_convert,
    ),
    Command(
        name="bench",
        listed="bench FILE.py",
        group=PAIRS,
        usage="FILE.py",
        summary="time both models, checked to be equal",
        about="Time both models of a pair file on the CPU: forward, forward and backward, and a "
        "training step where the pair has optimizers, eager and compiled. Each framework has a "
        "process of its own, and samples are taken in turn. The file is Python, and is run.",
        examples=(
            ("twingrad bench my_pair.py", "in float32"),
            ("twingrad bench my_pair.py --json speed.json", "with every sample, for a program"),
        ),
        options=_bench_options,
        run=_bench,
    ),
)
DOCTOR = Command(
    name="doctor",
    group=INSTALLATION,
    summary="what is installed, what works, what to do about the rest",
    about="Look at this installation: versions, devices, settings, caches and memory, and what to "
    "do about what is missing. Each framework is asked in a process of its own, which ends at a "
    "time limit. Exit status 0 if what was asked for can be used, else 1.",
    examples=(
        ("twingrad doctor", "what is here; at least one framework has to work"),
        ("twingrad doctor --framework both --device cuda", "1 unless both compute on a GPU"),
    ),
    options=_doctor_options,
    run=_doctor,
)
PHRASES = Command(
    name="phrases",
    group=FRAMEWORKS,
    usage="[WORD...]",
    summary="look up an idiom in both frameworks",
    about="Print the idioms of the phrasebook that have all words: PyTorch's code, JAX's, what "
    "differs and what it costs. Without a word, list all titles. It needs neither framework, "
    "unless they are to be run.",
    examples=(
        ("twingrad phrases torch.gather", "what JAX has for it"),
        ("twingrad phrases top k", "phrases that have both words"),
        ("twingrad phrases scan --run", "run here too: 1 if a phrase's halves differ"),
    ),
    options=_phrases_options,
    run=_phrases,
)
COMMANDS: tuple[Command, ...] = (
    PHRASES,
    *PAIR_COMMANDS,
    DOCTOR,
    completion_command(lambda: COMMANDS),
)
