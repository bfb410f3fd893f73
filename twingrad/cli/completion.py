"""Completion of ``twingrad`` in bash, zsh and fish, written from the commands' own options.

Scripts are complete in themselves: a press of the tab key starts no Python. shtab, which does the
same for argparse, knows no fish; argcomplete knows all three and starts Python at every press.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from twingrad.cli.commands import INSTALLATION, PROG, Command, OptionSource
from twingrad.cli.options import Declared, option, read_options

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """Options of ``completion``."""

    shell: str = option(
        "", positional=True, required=True, choices=SHELLS, help="the shell to write it for"
    )


@dataclass(frozen=True)
class Value:
    """What completion offers for a value: words, and files."""

    words: tuple[str, ...]
    files: bool

    @classmethod
    def of(cls, declared: Sequence[Declared]) -> "Value":
        """All that any of these declarations takes."""
        options = [one.option for one in declared]
        words = [word for one in options for word in (*one.choices, *one.offers)]
        return cls(tuple(dict.fromkeys(words)), any(one.takes_files for one in declared))


@dataclass(frozen=True)
class Flag:
    """An option: ``value`` is None where none follows; ``several`` values may."""

    name: str
    help: str
    metavar: str
    value: Value | None
    several: bool
    repeated: bool


@dataclass(frozen=True)
class Completed:
    """A command as a shell completes it; ``argument`` is that of its arguments without dashes."""

    name: str
    summary: str
    flags: tuple[Flag, ...]
    argument: Value | None


def completion_command(commands: Callable[[], Sequence[Command]]) -> Command:
    """The command ``completion`` of a front end that has these ``commands``."""

    def options() -> Sequence[OptionSource]:
        return (CompletionOptions,)

    def run(parsed: argparse.Namespace) -> int:
        print(script(read_options(CompletionOptions, parsed).shell, commands()), end="")
        return 0

    return Command(
        name="completion",
        group=INSTALLATION,
        usage="SHELL",
        summary="write tab completion for bash, zsh or fish",
        about="Write a script that completes commands, options, choices and files at the tab key. "
        "Have your shell read it at its start.",
        examples=(
            ("twingrad completion bash >> ~/.bashrc", "bash"),
            ("twingrad completion zsh >> ~/.zshrc", "zsh, after the line with compinit"),
            ("twingrad completion fish > ~/.config/fish/completions/twingrad.fish", "fish"),
        ),
        options=options,
        run=run,
    )


def script(shell: str, commands: Sequence[Command]) -> str:
    """The completion script for one of ``SHELLS``."""
    completed = [_completed(name, commands) for name in dict.fromkeys(c.name for c in commands)]
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](completed)


def _completed(name: str, commands: Sequence[Command]) -> Completed:
    """The command called ``name``; the calls of pairs and of programs are offered as one."""
    same = [command for command in commands if command.name == name]
    declared = [one for command in same for one in command.declared()]
    arguments = [one for one in declared if one.option.positional]
    flags = {}
    for one in declared:
        if not one.option.positional:
            named = [other for other in declared if other.name == one.name]
            value = None if one.metavar is None else Value.of(named)
            flags[one.flag] = Flag(
                one.flag,
                one.option.help,
                one.metavar or "",
                value,
                one.several and not one.option.repeated,
                one.option.repeated,
            )
    flags["--help"] = Flag("--help", "options and examples", "", None, False, False)
    argument = Value.of(arguments) if arguments else None
    return Completed(name, same[0].summary, tuple(flags.values()), argument)


_BASH = """\
# Completion of twingrad in bash.
_twingrad() {
    local current=${COMP_WORDS[COMP_CWORD]} option="" words="" files="" i distance
    local command=${COMP_WORDS[1]}
    COMPREPLY=()
    if [[ $current == = ]]; then current=""; fi
    # The option before the cursor, and how many words lie between; bash splits --name=value at =.
    for ((i = COMP_CWORD - 1, distance = 1; i > 1; i--)); do
        case ${COMP_WORDS[i]} in
            -*) option=${COMP_WORDS[i]}; break ;;
            =) ;;
            *) ((distance++)) ;;
        esac
    done
    if ((COMP_CWORD == 1)); then
        words="@COMMANDS@ --help --version"
    else
        case "$command $option $distance" in
@VALUES@
            *)
                case $command in
@ARGUMENTS@
                esac ;;
        esac
        if [[ $current == -* ]]; then
            files=""
            case $command in
@FLAGS@
            esac
        fi
    fi
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "${words// /$IFS}" -- "$current"))
    if [[ -n $files ]]; then
        compopt -o filenames 2> /dev/null
        COMPREPLY+=($(compgen -f -- "$current"))
    fi
}
complete -F _twingrad twingrad
"""


def _bash(commands: Sequence[Completed]) -> str:
    values, arguments, flags = [], [], []
    for command in commands:
        for flag in command.flags:
            if flag.value is not None:
                distance = "*" if flag.several else "1"
                pattern = f'"{command.name} {flag.name} "{distance}'
                values.append(f"            {pattern}) {_bash_value(flag.value)} ;;")
        names = " ".join(flag.name for flag in command.flags)
        flags.append(f'                {command.name}) words="{names}" ;;')
        value = command.argument or Value(tuple(names.split()), False)
        arguments.append(f"                    {command.name}) {_bash_value(value)} ;;")
    parts = {
        "COMMANDS": " ".join(command.name for command in commands),
        "VALUES": "\n".join(values),
        "ARGUMENTS": "\n".join(arguments),
        "FLAGS": "\n".join(flags),
    }
    text = _BASH
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


def _bash_value(value: Value) -> str:
    parts = [f'words="{" ".join(value.words)}"'] if value.words else []
    parts += ["files=yes"] if value.files else []
    return "; ".join(parts) or ":"


_ZSH = """\
#compdef twingrad
# Completion of twingrad in zsh.
_twingrad() {
    local -a commands
    commands=(
@COMMANDS@
    )
    if (( CURRENT == 2 )); then
        _describe -t commands command commands
        compadd -- --help --version
        return
    fi
    shift words
    (( CURRENT-- ))
    case $words[1] in
@CASES@
    esac
}
if [ "$funcstack[1]" = _twingrad ]; then
    _twingrad "$@"
else
    compdef _twingrad twingrad
fi
"""


def _zsh(commands: Sequence[Completed]) -> str:
    names = [_quoted(f"{command.name}:{command.summary}") for command in commands]
    cases = []
    for command in commands:
        specifications = list(_zsh_specifications(command))
        lines = " \\\n".join(f"                {_quoted(one)}" for one in specifications)
        cases.append(f"        {command.name})\n            _arguments -S \\\n{lines} ;;")
    text = _ZSH.replace("@COMMANDS@", "\n".join(f"        {name}" for name in names))
    return text.replace("@CASES@", "\n".join(cases))


def _zsh_specifications(command: Completed) -> Iterator[str]:
    for flag in command.flags:
        # Brackets and colons end a part of a specification.
        about = "".join("\\" + letter if letter in "[]:\\" else letter for letter in flag.help)
        begin = ("*" if flag.repeated else "") + flag.name
        if flag.value is None:
            yield f"{begin}[{about}]"
        elif flag.several:
            yield f"{begin}[{about}]:*-*:{flag.metavar}:{_zsh_value(flag.value)}"
        else:
            yield f"{begin}=[{about}]:{flag.metavar}:{_zsh_value(flag.value)}"
    if command.argument is not None:
        yield f"1:argument:{_zsh_value(command.argument)}"


def _zsh_value(value: Value) -> str:
    words = f"({' '.join(value.words)})"
    if value.words and value.files:
        # After a space it is called as it stands, without what _arguments would add.
        return f' _alternative "words:word:{words}" "files:file:_files"'
    return "_files" if value.files else words if value.words else " "


_FISH = """\
# Completion of twingrad in fish.
function __twingrad_command
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test "$words[2]" = $argv[1]
end
function __twingrad_bare
    test (count (commandline -opc)) -eq 1
end
function __twingrad_after
    set -l options (string match -- '-*' (commandline -opc))
    test (count $options) -ge 1; and test "$options[-1]" = $argv[1]
end
complete -c twingrad -f
complete -c twingrad -n __twingrad_bare -l help -d 'every command'
complete -c twingrad -n __twingrad_bare -l version -d 'versions and devices'
"""


def _fish(commands: Sequence[Completed]) -> str:
    lines = []
    for command in commands:
        about = _quoted(command.summary)
        lines.append(f"complete -c {PROG} -n __twingrad_bare -a {command.name} -d {about}")
        seen = f"__twingrad_command {command.name}"
        begin = f"complete -c {PROG} -n {_quoted(seen)}"
        if command.argument is not None:
            lines.append(f"{begin} {_fish_value(command.argument)}")
        for flag in command.flags:
            line = f"{begin} -l {flag.name.removeprefix('--')} -d {_quoted(flag.help)}"
            if flag.value is not None:
                line += f" -r {_fish_value(flag.value)}"
            lines.append(line)
            if flag.value is not None and flag.several:
                both = f"{seen}; and __twingrad_after {flag.name}"
                lines.append(f"complete -c {PROG} -n {_quoted(both)} {_fish_value(flag.value)}")
    return _FISH + "\n".join(lines) + "\n"


def _fish_value(value: Value) -> str:
    parts = ["-F" if value.files else "-f"]
    parts += [f"-a {_quoted(' '.join(value.words))}"] if value.words else []
    return " ".join(parts)


def _quoted(text: str) -> str:
    """``text`` in single quotes, as zsh and fish read it."""
    return "'" + text.replace("'", "'\"'\"'") + "'"
