"""Options declared once: the parser, its help and the parsed values come from one dataclass."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from twingrad.cli.options import Parser, add_options, option, read_options


@dataclass(frozen=True, kw_only=True)
class Options:
    program: str = option("all", help="what to run", choices=("all", "gpt2"), positional=True)
    steps: int | None = option(None, metavar="N", help="how many")
    rate: float = option(0.5, help="share")
    out: Path | None = option(None, metavar="DIR", help="where to")
    loud: bool = option(False, help="say more")
    workload: tuple[str, ...] = option((), help="which", choices=("train", "decode"))
    peer: tuple[str, ...] = option((), metavar="NAME=PATH", help="a peer", repeated=True)
    size: int = option(1, help="a size such as 2k", parse=lambda text: int(text.rstrip("k")) * 1000)
    worked_out: int = 7  # no option


def parse(*words: str) -> Options:
    parser = Parser(prog="tool")
    add_options(parser, Options)
    return read_options(Options, parser.parse_args(words))


def test_without_options_every_default_is_that_of_the_dataclass():
    assert parse() == Options()


def test_values_have_the_types_that_the_fields_declare():
    call = "gpt2 --steps 3 --rate .25 --out d --loud --workload train decode --peer a=b --peer c=d"
    found = parse(*call.split(), "--size", "2k")
    assert found == Options(
        program="gpt2",
        steps=3,
        rate=0.25,
        out=Path("d"),
        loud=True,
        workload=("train", "decode"),
        peer=("a=b", "c=d"),
        size=2000,
    )


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("gpt3", "unknown program 'gpt3': did you mean gpt2? choose from all, gpt2"),
        ("--workload train walk", "unknown workload 'walk': choose from train, decode"),
        ("--out=", "argument --out: the path is empty: give one, or . for this folder"),
        ("--steps many", "argument --steps: invalid int value: 'many'; see tool --help"),
        ("--step=3", "unrecognized arguments: --step=3; see tool --help"),
        ("--worked-out=3", "unrecognized arguments: --worked-out=3; see tool --help"),
    ],
)
def test_a_wrong_call_is_refused_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        parse(*call.split())


def test_help_has_choices_and_the_default_of_the_dataclass():
    parser = Parser(prog="tool")
    add_options(parser, Options)
    text = " ".join(parser.format_help().split())
    assert "what to run: all, gpt2; default all" in text
    assert "share; default 0.5" in text
    assert "how many --" in text  # None is no default to tell


def test_a_command_can_take_some_of_another_s_options():
    parser = Parser(prog="tool")
    add_options(parser, Options, only=("steps", "rate"))
    assert read_options(Options, parser.parse_args(["--rate", "1"])) == Options(rate=1.0)
    with pytest.raises(ValueError, match="--loud"):
        parser.parse_args(["--loud"])


def test_a_required_option_has_to_be_given():
    @dataclass(frozen=True, kw_only=True)
    class Needs:
        checkpoint: str = option("", metavar="DIR", help="a run", required=True)

    parser = Parser(prog="tool")
    add_options(parser, Needs)
    with pytest.raises(ValueError, match="required: --checkpoint"):
        parser.parse_args([])
    assert read_options(Needs, parser.parse_args(["--checkpoint", "d"])).checkpoint == "d"
