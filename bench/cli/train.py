"""Parsers and handlers of ``train``, ``sample`` and ``export``."""

import argparse
import os
from dataclasses import replace

from bench.cli.options import Commands
from bench.training import launcher
from bench.training.config import RunSettings
from bench.training.export import ExportOptions
from bench.training.launcher import LaunchOptions
from bench.training.sample import SampleOptions
from bench.training.setup import TrainOptions
from twingrad.cli.options import Parser, add_options, read_options
from twingrad.terminal import new_console


def add_train(commands: Commands) -> None:
    """Add the parser of ``train``."""
    train = commands.add_parser("train", help="train GPT-2 in PyTorch, in JAX, or in both at once")
    for options in (LaunchOptions, TrainOptions, RunSettings):
        add_options(train, options)
    train.set_defaults(run=run_train)


def add_sample(commands: Commands) -> None:
    """Add the parsers of ``sample`` and ``export``."""
    sample = commands.add_parser("sample", help="go on from a text")
    add_options(sample, SampleOptions)
    sample.set_defaults(run=run_sample)
    export = commands.add_parser("export", help="write a checkpoint as transformers loads it")
    add_options(export, ExportOptions)
    export.set_defaults(run=run_export)


def run_train(arguments: argparse.Namespace) -> int:
    """Train in one framework or in both, in processes of its own where several are asked for."""
    from bench.training import command

    options = read_options(TrainOptions, arguments)
    options = replace(options, settings=read_options(RunSettings, arguments))
    launch_options = read_options(LaunchOptions, arguments)
    if launch := launcher.plan_launch(launch_options, options.settings, os.environ):
        return launcher.run(launch, _without_launch_options(arguments.argv))
    launcher.watch_parent(os.environ)
    return command.run(options, new_console())


def _without_launch_options(arguments: list[str]) -> list[str]:
    """The command line with which each of the processes is started."""
    parser = Parser(add_help=False)
    add_options(parser, LaunchOptions)
    return parser.parse_known_args(arguments)[1]


def run_sample(arguments: argparse.Namespace) -> int:
    """Print texts that continue the prompts."""
    from bench.training import sample

    return sample.run(read_options(SampleOptions, arguments))


def run_export(arguments: argparse.Namespace) -> int:
    """Write a checkpoint as transformers loads it."""
    from bench.training import export

    return export.run(read_options(ExportOptions, arguments))
