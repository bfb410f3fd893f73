"""The commands ``train``, ``sample`` and ``export``, and what each runs."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace

from twingrad.cli.commands import TRAINING, Command, OptionSource
from twingrad.cli.options import Parser, add_options, read_options


def _train_options() -> Sequence[OptionSource]:
    from bench.training.config import RunSettings
    from bench.training.launcher import LaunchOptions
    from bench.training.setup import TrainOptions

    return (TrainOptions, RunSettings, LaunchOptions)


def _sample_options() -> Sequence[OptionSource]:
    from bench.training.sample import SampleOptions

    return (SampleOptions,)


def _export_options() -> Sequence[OptionSource]:
    from bench.training.export import ExportOptions

    return (ExportOptions,)


def run_train(arguments: argparse.Namespace) -> int:
    """Train in one framework or in both, in processes of its own where several are asked for."""
    from bench.training import command, launcher, processes
    from bench.training.config import RunSettings
    from bench.training.launcher import LaunchOptions
    from bench.training.library_output import python_alone_on_stdout
    from bench.training.setup import TrainOptions
    from bench.training.unstoppable import output_stops_nothing
    from shared.world import World
    from twingrad.terminal import new_console

    options = read_options(TrainOptions, arguments)
    options = replace(options, settings=read_options(RunSettings, arguments))
    launch_options = read_options(LaunchOptions, arguments)
    if launch := launcher.plan_launch(launch_options, options.settings, os.environ):
        processes.require_fit(options, launch.size)
        return launcher.run(launch, _without_launch_options(arguments.argv))
    launcher.watch_parent(os.environ)
    with python_alone_on_stdout(World.from_environment(os.environ)), output_stops_nothing():
        return command.run(options, new_console())


def _without_launch_options(arguments: list[str]) -> list[str]:
    """The command line with which each of the processes is started."""
    from bench.training.launcher import LaunchOptions

    parser = Parser(add_help=False)
    add_options(parser, LaunchOptions)
    return parser.parse_known_args(arguments)[1]


def run_sample(arguments: argparse.Namespace) -> int:
    """Print texts that continue the prompts."""
    from bench.training import sample

    return sample.run(read_options(sample.SampleOptions, arguments))


def run_export(arguments: argparse.Namespace) -> int:
    """Write a checkpoint as transformers loads it."""
    from bench.training import export

    return export.run(read_options(export.ExportOptions, arguments))


COMMANDS = (
    Command(
        name="train",
        group=TRAINING,
        summary="train GPT-2 in PyTorch, in JAX, or in both at once",
        about="Train a GPT-2 in one framework, or in both in step: the same parameters, batches "
        "and dropout masks. Checkpoints are neutral: a run stopped in one framework goes on in the "
        "other.",
        examples=(
            ("twingrad train --steps 200 --out runs/short", "a short run on Python's own sources"),
            (
                "twingrad train --framework jax --resume --out runs/short",
                "go on in JAX from its newest checkpoint",
            ),
            ("twingrad train --framework torch --data my_texts/ --tokenizer bpe", "your own texts"),
        ),
        options=_train_options,
        run=run_train,
    ),
    Command(
        name="sample",
        group=TRAINING,
        usage="--checkpoint DIR --prompt TEXT",
        summary="go on from a text with a trained model",
        about="Continue a text, token by token, with the model of a run or a released checkpoint.",
        examples=(
            (
                "twingrad sample --checkpoint runs/writer --prompt 'def mean(values):'",
                "with the newest checkpoint of a run",
            ),
            (
                "twingrad sample --framework jax --checkpoint gpt2 --prompt 'The sea' "
                "--temperature 0.8 --top-k 40",
                "with OpenAI's released model, fetched once",
            ),
        ),
        options=_sample_options,
        run=run_sample,
    ),
    Command(
        name="export",
        group=TRAINING,
        usage="--checkpoint DIR --out FOLDER",
        summary="write a checkpoint as transformers loads it",
        about="Write a checkpoint and its tokenizer as a folder that transformers loads.",
        examples=(
            ("twingrad export --checkpoint runs/writer --out gpt2-writer", "a run's newest"),
        ),
        options=_export_options,
        run=run_export,
    ),
)
