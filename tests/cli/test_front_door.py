"""The front door: a bare call, versions, and what every command's help says of every option."""

import contextlib
import dataclasses
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from bench.cli.main import COMMANDS, main
from bench.harness import frameworks
from bench.harness.frameworks import NAMES
from bench.mutation.mutants import MUTANTS
from bench.speed import contestants, setup
from bench.speed.options import BenchOptions
from bench.training.config import RunSettings, resolve
from tests.helpers.commands import refused
from twingrad.cli import library_commands, version
from twingrad.cli.commands import GROUPS, Command
from twingrad.cli.options import Declared, read_options

each_command = pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: command.title.replace(" ", "-")
)
OPTIONS = [(command, declared) for command in COMMANDS for declared in command.declared()]
each_option = pytest.mark.parametrize(
    ("command", "declared"),
    OPTIONS,
    ids=[f"{command.title}-{declared.name}".replace(" ", "-") for command, declared in OPTIONS],
)
HELP = cache(lambda command: " ".join(command.parser().format_help().split()))
# Fields of a run's configuration with another name than the setting.
RENAMED = {"warmup": "warmup_steps", "steps": "steps"}


def printed(*call: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        if len(call) > 1:  # help of one command, which argparse ends by itself
            with pytest.raises(SystemExit, match="0"):
                main(list(call))
        else:
            assert main(list(call)) == 0
    return out.getvalue()


@pytest.mark.parametrize("call", [[], ["--help"], ["-h"], ["help"]])
def test_a_bare_call_is_answered_with_every_command_in_a_line(call):
    text = printed(*call)
    for command in COMMANDS:
        (line,) = re.findall(rf"^  {re.escape(command.title)}  +(.*)$", text, re.MULTILINE)
        assert line == command.summary, "longer than a line"
        assert command.group in GROUPS
    assert text.index("--version") > text.index(COMMANDS[-1].summary)


@each_command
def test_help_has_groups_examples_and_eighty_columns(command: Command):
    text = command.parser().format_help()
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"usage: twingrad {command.name}")
    assert text.count("\n  twingrad ") == len(command.examples) >= 1
    declared = [one for one in command.declared() if not one.option.positional]
    if len(declared) > 4:
        assert len({one.option.group for one in declared}) > 1


def test_help_of_a_command_is_that_of_its_parser():
    text = next(c for c in COMMANDS if c.name == "plan").parser().format_help()
    assert printed("plan", "--help") == printed("help", "plan") == text


@each_command
def test_every_example_of_the_help_can_be_called(command: Command):
    for call, purpose in command.examples:
        assert purpose
        twingrad, name, *words = re.split(r" >>? ", call)[0].split(" ", 2)
        assert (twingrad, name) == ("twingrad", command.name)
        arguments = shlex.split(" ".join(words))
        answering = command
        if library_commands.answers([name, *arguments]):
            answering = next(c for c in library_commands.COMMANDS if c.name == name)
        parser = answering.parser()
        parser.refuse_unknown_options(arguments)
        parsed = parser.parse_args(arguments)
        for source in answering.options():
            _read(source, parsed)


def _read(source, parsed) -> None:
    options, only = source if isinstance(source, tuple) else (source, None)
    read_options(options, parsed, only)


def test_examples_name_bugs_and_contestants_that_exist():
    calls = [call for command in COMMANDS for call, _ in command.examples]
    (bug,) = re.findall(r"mutants --only (\S+)", " ".join(calls))
    assert bug in {mutant.name for mutant in MUTANTS}


@each_option
def test_every_option_has_help_and_a_metavar_one_can_read(command: Command, declared: Declared):
    assert re.match(r"\w", declared.option.help), "no help"
    assert declared.metavar is None or len(declared.metavar) <= 16
    assert declared.metavar is None or "_" not in declared.metavar
    assert " ".join(declared.help.split()) in HELP(command)


@each_option
def test_a_default_in_effect_is_said(command: Command, declared: Declared):
    default = declared.effective_default
    if default is None:
        assert declared.default_text == ""
    else:
        shown = f"{default:g}" if isinstance(default, float) else default
        shown = " ".join(default) if isinstance(default, tuple) else shown
        assert f"default {shown}" in HELP(command)


RUN = {one.name: one for c in COMMANDS if c.name == "train" for one in c.declared()}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RunSettings)])
def test_the_defaults_of_train_are_those_of_the_run(name):
    config = resolve(RunSettings())
    places = (config, config.model, config.train, config.train.optimizer)
    field = RENAMED.get(name, name)
    value = next((getattr(place, field) for place in places if hasattr(place, field)), None)
    if name == "token_count":  # of the bpe tokenizer alone
        assert value is None
    elif RUN[name].kind is bool:
        assert value is False
    else:
        assert RUN[name].effective_default == value


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_defaults_of_bench_are_those_that_it_resolves(monkeypatch, device):
    monkeypatch.setattr(setup, "pick_device", lambda name: device)
    monkeypatch.setattr(frameworks, "installed", lambda name: True)
    resolved = setup.resolve(BenchOptions(workload=("train",)))
    (bench, _) = [command for command in COMMANDS if command.name == "bench"]
    declared = {one.name: one for one in bench.declared()}
    (stage,) = [stage for stage in resolved.stages if stage.program == "gpt2"]
    effective = {
        "preset": resolved.preset,
        "dtype": resolved.dtype,
        "batch_size": stage.batch_size,
        "length": stage.length,
        "starts": resolved.starts,
    }
    for name, value in effective.items():
        one = declared[name]
        said = str(one.effective_default) if device == "cpu" else one.option.rule
        assert name == "starts" or re.search(rf"\b{value}\b", said), name
    names = [one.name for one in resolved.contestants]
    assert ",".join(names) == declared["contestants"].effective_default
    assert resolved.starts == declared["starts"].effective_default
    brief = setup.resolve(BenchOptions())
    if device == "cpu":
        assert f"{brief.budget:g}s" == declared["budget"].effective_default
        assert " ".join(brief.workloads) == declared["workload"].effective_default
    else:
        assert ", ".join(brief.workloads) in declared["workload"].option.rule


@pytest.mark.parametrize("name", ["nanogpt", "nanogpt-tuned"])
def test_a_peer_without_its_checkout_is_asked_for_the_path(name):
    with pytest.raises(ValueError, match="--peer nanogpt=PATH"):
        contestants.choose([name], "cpu", [])


def test_contestants_that_the_help_names_are_known():
    (declared,) = [one for _, one in OPTIONS if one.name == "contestants"]
    assert contestants.choose(list(declared.option.offers), "cpu", [])


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        ("trian", "train"),
        ("compare gtp2", "gpt2"),
        ("compare --dtype bfloat", "bfloat16"),
        ("compare gpt2 --preset 125m", "124m"),
        ("compare gpt2 --presset tiny", "--preset"),
        ("sample --chekpoint d", "--checkpoint"),
        ("train --fram torch", "--framework"),
        ("train --resme", "--resume"),
        ("bench --contestants jax-tuend", "jax-tuned"),
        ("bench --workload trian", "train"),
        ("mutants --only gelu-ef", "gelu-erf"),
        ("completion bsh", "bash"),
        ("--versoin", "--version"),
        ("compare my_piar.py", "my_pair.py"),
        ("diagnose my_pair", "my_pair.py"),
    ],
)
@pytest.mark.skipif(not all(map(frameworks.installed, NAMES)), reason="needs both frameworks")
def test_a_slip_is_answered_with_the_word_meant(capsys, tmp_path, monkeypatch, call, meant):
    monkeypatch.chdir(tmp_path)
    Path("my_pair.py").touch()
    assert f"did you mean {meant}?" in refused(capsys, *call.split())


@each_command
@pytest.mark.attack("data")
def test_no_option_can_be_abbreviated(capsys, command: Command):
    flags = {one.flag for one in command.declared() if not one.option.positional} | {"--help"}
    for short in {flag[:-1] for flag in flags} - flags:
        assert "unknown option" in refused(capsys, command.name, short, "x")


def test_options_without_a_value_are_known_where_a_pair_is_looked_for():
    flags = {
        one.flag
        for command in COMMANDS
        if command.name in library_commands.OF_FILES
        for one in command.declared()
        if one.kind is bool
    }
    assert flags == {*library_commands.FLAGS} - {"-h", "--help"}


def test_versions_are_found_without_importing_a_framework(monkeypatch):
    text = printed("--version")
    assert text == version.text() + "\n"
    for name in ("twingrad", "PyTorch", "JAX", "jaxlib", "Flax", "NumPy", "Python", "devices"):
        assert re.search(rf"^{name} +\S", text, re.MULTILINE), name


@pytest.mark.parametrize(
    ("present", "choice", "name"),
    [(("torch", "jax"), "both", "torch"), (("torch",), "torch", "torch"), (("jax",), "jax", "jax")],
)
def test_commands_take_the_framework_that_is_installed(monkeypatch, present, choice, name):
    monkeypatch.setattr(frameworks, "installed", lambda name: name in present)
    assert (frameworks.default_choice(), frameworks.default_name()) == (choice, name)
