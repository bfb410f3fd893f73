"""List the committed records, or run their studies again.

``python -m bench.studies`` lists every record with its claim, the command that writes it, and
whether the sources it measured have changed since. ``python -m bench.studies NAME... | all`` runs
studies and writes their records. Status 1 where a study found that a bound is broken.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from bench.harness import records, terminal
from bench.studies import registry, sources
from bench.studies.sources import State
from bench.studies.study import Study, StudyOptions
from twingrad import compile_cache
from twingrad.cli.ending import exit_status
from twingrad.cli.options import Parser, add_options, read_options


def main(argv: Sequence[str] | None = None) -> int:
    """List or run studies; 1 where a bound is broken, 2 where one cannot be run."""
    compile_cache.disable()  # what compiling costs is among the things that are measured
    parser = Parser(prog="python -m bench.studies", description=__doc__)
    try:
        add_options(parser, StudyOptions)
        options = read_options(StudyOptions, parser.parse_args(argv))
        chosen = registry.choose(options.names)
        _check(chosen, options)
        if not chosen:
            show_all(terminal.new_console())
            return 0
        if len(chosen) == 1:
            return run(chosen[0], options)
        return _run_each(chosen, options)
    except ValueError as error:
        print(f"studies: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def show_all(console: Console) -> None:
    """Print every study with its claim, the state of its sources and its command."""
    index = sources.read_index()
    for study in registry.STUDIES.values():
        state = sources.state(study.record, study.sources, index)
        console.print(Text(f"{study.name}: {study.claim}.", style="bold"))
        for line in (f"sources {_since(study, state)}", _command(study)):
            console.print(Padding(Text(line), (0, 0, 0, 2)))


def _since(study: Study, state: State) -> str:
    """The state of a record's sources, and the commit that they were measured at."""
    commit = records.load(study.record).environment.get("commit") or {}
    words = state.value
    if commit.get("id"):
        words += f" {commit['id'][:10]}" if state is not State.UNKNOWN else ""
    if state is State.UNKNOWN:
        words += f": its command wrote {study.record}.json itself; run this study instead"
    return words


def _command(study: Study) -> str:
    peer = f" --peer {study.command.peer}=PATH" if study.command and study.command.peer else ""
    short = f"python -m bench.studies {study.name}{peer}"
    if study.command is None:
        return short
    return f"{short}, which runs {study.command.shown(f'bench/results/{study.record}.json')}"


def _check(chosen: Sequence[Study], options: StudyOptions) -> None:
    """Raise ``ValueError`` for options that do not fit the studies."""
    if options.json and (options.out or len(chosen) != 1):
        raise ValueError("--json takes the record of one study: name one, or give --out FOLDER")
    if options.out and not options.out.is_dir():
        raise ValueError(f"--out {options.out} is no folder: name one that there is")
    for name in ("peer", "preset", "only", "side", "most"):
        if getattr(options, name) and not any(name in study.accepts for study in chosen):
            takers = [study.name for study in registry.STUDIES.values() if name in study.accepts]
            raise ValueError(f"--{name} is an option of {', '.join(takers)}: name one of them")


def run(study: Study, options: StudyOptions) -> int:
    """Run one study and write its record; the exit status."""
    path = options.json or (options.out or records.RESULTS) / f"{study.record}.json"
    measured = sources.digest(study.sources)
    if study.command is not None:
        status = _run_command(study, options, path)
    elif study.run is not None:
        status = study.run(options, path)
    else:
        status = _measure(study, options, path)
    committed = records.path_of(study.record)
    if status != 2 and committed.exists() and path.resolve() == committed.resolve():
        sources.note(study.record, measured)
    return status


def _measure(study: Study, options: StudyOptions, path: Path) -> int:
    if study.measure is None or study.lines is None:
        raise TypeError(f"the study {study.name} has no way to be measured")
    with terminal.progress(terminal.new_console()) as say:
        say(f"measuring {study.name}")
        record = study.measure(options)
    for line in study.lines(record):
        print(line)
    records.save(path, record)
    return 0 if study.holds(record) else 1


def _run_command(study: Study, options: StudyOptions, path: Path) -> int:
    command = study.command
    if command is None:
        raise TypeError(f"the study {study.name} has no command")
    peers = [f"--peer={given}" for given in options.peer]
    if command.peer and not any(given.startswith(f"{command.peer}=") for given in options.peer):
        raise ValueError(
            f"{study.name} needs a checkout of {command.peer}: give --peer {command.peer}=PATH"
        )
    words = [*command.words(str(path.resolve())), *(peers if command.peer else [])]
    variables = os.environ | command.variables(str(path.resolve()))
    return subprocess.run([sys.executable, *words], cwd=records.ROOT, env=variables).returncode


def _run_each(chosen: Sequence[Study], options: StudyOptions) -> int:
    """Run each study in a process of its own, since settings of a framework last as long as it."""
    worst = 0
    for study in chosen:
        print(f"== {study.name}", file=sys.stderr, flush=True)
        words = [sys.executable, "-m", "bench.studies", study.name, *_passed_on(study, options)]
        worst = max(worst, subprocess.run(words, cwd=records.ROOT).returncode)
    return worst


def _passed_on(study: Study, options: StudyOptions) -> list[str]:
    """The options that are this study's, as they are written."""
    words = [f"--out={options.out.resolve()}"] if options.out else []
    for name in study.accepts:
        value = getattr(options, name)
        if isinstance(value, tuple):
            several = [f"--{name}={given}" for given in value]
            words += several if name == "peer" else [f"--{name}", *value] if value else []
        elif value is not None:
            words.append(f"--{name}={value}")
    return words


if __name__ == "__main__":
    sys.exit(exit_status(main))
