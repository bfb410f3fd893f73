"""Do all that README and docs say, in order, as a newcomer does: in a fresh clone and environment.

    python -m tests.docs.walk                               in a terminal of 80x24, both frameworks
    python -m tests.docs.walk --way pipe                    in a pipe
    python -m tests.docs.walk --frameworks torch            with one framework installed
    python -m tests.docs.walk --environment .venv           with the packages of an environment
    python -m tests.docs.walk --pages docs/porting.md       some pages alone
    python -m tests.docs.walk --transcript FILE             what each command printed, in a file
    python -m tests.docs.walk --list                        what would be run

The comments above a page's commands (``tests/docs/pages.py``) say which are run as they stand,
which at a small size and which not at all. Every command has to end without a traceback, with the
status 0 or the one that its page gives it, and without a library's own log lines and warnings; in
the terminal no table of ours is wider than 80, and none is cut. A command that needs a framework
that is not installed is refused in one sentence, with status 2. Everything is written in a scratch
folder.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.docs import pages
from tests.docs.shell import COLUMNS, WAYS, Outcome, Shell

LIMIT_S = 1800.0  # a machine that is busy with others takes its time
_GAP = "   "  # between a table's columns; the terminal folds sentences by itself
# Lines that a library writes on its own: the logs of C++ (absl's and PyTorch's), Python's warnings.
_STRAY = re.compile(
    r"WARNING: All log messages before absl|\[?[IWEF]\d{4} \d\d:\d\d:\d\d"
    r"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWEF] |\S+:\d+: \w*Warning: "
)
# What the interactive interpreter says of a statement that raises or cannot be parsed.
_FAILED_AT_THE_PROMPT = 'File "<stdin>"'
_SCRIPTS = ("mypy", "pytest", "ruff", "torchrun", "twingrad")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way through the pages: in which folder, with which frameworks, how they are installed."""

    folder: Path
    way: str
    frameworks: tuple[str, ...]
    environment: Path | None

    @property
    def clone(self) -> Path:
        return self.folder / "twingrad"

    def steps(self, page: str) -> Iterator[tuple[str, pages.Command | None]]:
        """What is typed on a page, each with the page's command; None where a column is pasted."""
        for framework in self.frameworks:
            column = self.folder / f"{Path(page).stem}-{framework}.py"
            if "tutorial-" in page:
                column.write_text(pages.pasted(pages.ROOT / page, framework), encoding="utf-8")
                yield f"python -i < {column}", None
        for command in pages.commands(page):
            typed = self._typed(command.tried)
            if typed and (command.is_file or self._is_there(typed)):
                yield typed, command

    def _is_there(self, typed: str) -> bool:
        """Whether the program that is called is there, and can say what it needs.

        With one framework that is what sets up the clone or calls twingrad.
        """
        if typed.startswith("torchrun "):  # comes with PyTorch
            return "torch" in self.frameworks
        ours = ("git clone", "venv", "pip", "twingrad")
        return len(self.frameworks) > 1 or any(word in typed for word in ours)

    def _typed(self, text: str) -> str:
        """The command with the frameworks that are installed, less installing what is there."""
        text = text.replace("torch,jax", ",".join(self.frameworks))
        if self.environment is None:
            return text
        parts = text.split(" && ")
        return " && ".join(p for p in parts if "-m venv" not in p and "pip install" not in p)


def walk(
    plan: Plan, only: Sequence[str] = (), transcript: Callable[[str], object] = lambda text: None
) -> list[str]:
    """Go through the pages, print each command with its time, and return what was wrong.

    ``transcript`` gets each command with all that it printed.
    """
    shell = Shell(plan.folder, plan.way, {"CHECKOUT": str(_source(plan.folder))})
    wrong: list[str] = []
    printed: dict[str, list[str]] = {}
    seconds: dict[str, float] = defaultdict(float)
    for page in only or pages.ORDER:
        if page != pages.ORDER[0] and not plan.clone.exists():
            _install(plan, shell)
        for typed, command in plan.steps(page):
            _borrow(plan)
            outcome = shell.run(typed, LIMIT_S)
            problems = list(judged(outcome, command, plan))
            printed[command.text if command else typed] = outcome.lines
            seconds[page] += outcome.seconds
            shown = typed.partition("\n")[0]
            transcript("\n".join((f"$ {typed}", *outcome.lines, f"[status {outcome.status}]\n\n")))
            print(f"{'wrong' if problems else 'ok':<5} {outcome.seconds:6.1f} s  {page}: {shown}")
            for problem in problems:
                print(f"      {problem}")
            if problems:
                print("\n".join(f"      | {row}" for row in outcome.lines[-25:]), flush=True)
            sys.stdout.flush()
            wrong += [f"{page}: {shown}: {problem}" for problem in problems]
    if len(plan.frameworks) > 1:
        for page in only or pages.ORDER:
            wrong += unlike(page, plan.way, printed, not only)
    for page, spent in {**seconds, "all pages": sum(seconds.values())}.items():
        print(f"{spent:8.1f} s  {page}")
    return wrong


def judged(outcome: Outcome, command: pages.Command | None, plan: Plan) -> Iterator[str]:
    """What is wrong with how a command ended and with what it printed."""
    text = "\n".join(outcome.lines)
    if "Traceback (most recent call last)" in text:
        yield "a traceback"
    if command is None or command.calls:  # what git, pytest and torchrun write is their own
        yield from (f"a library's own line: {row}" for row in stray(outcome.lines))
    if command is None:
        if outcome.status or _FAILED_AT_THE_PROMPT in text:  # a page may print an error it expects
            yield "a block that cannot be pasted"
        return
    if command.holds_with(plan.frameworks):
        if outcome.status != command.marker.status:
            yield f"status {outcome.status}, not {command.marker.status}"
    elif outcome.status != 2 or "twingrad: " not in text:
        yield f"status {outcome.status}: without a framework that it needs it is not refused"
    # What a model writes, sampled, is no table of ours, whatever signs are in it.
    if plan.way == "terminal" and any(call[0] != "sample" for call in command.calls):
        for row in outcome.lines:
            is_table = _GAP in row.strip() or "\u2500" in row
            if len(row) > COLUMNS and is_table and not row.startswith("{"):
                yield f"{len(row)} columns wide: {row}"
            elif "\u2026" in row:
                yield f"a cell is cut: {row}"


def stray(rows: Sequence[str]) -> list[str]:
    """The lines that a library's log or Python's warnings wrote, and nothing of this project."""
    return [row for row in rows if _STRAY.match(row)]


def unlike(page: str, way: str, printed: Mapping[str, list[str]], is_whole: bool) -> Iterator[str]:
    """The listings of a page that differ from what their commands printed.

    In a whole walk it is also an error that no command like it was tried.
    """
    for listing in pages.listings(page):
        if way != ("terminal" if listing.how == "screen" else "pipe"):
            continue
        tried = [rows for name, rows in printed.items() if name.endswith(listing.command)]
        if is_whole and not tried:
            yield f"{page}, line {listing.line}: {listing.command} was not tried"
        for rows in tried:
            for row in listing.missing_from(rows):
                print(f"wrong {page}, line {listing.line}: {listing.command} does not print: {row}")
                yield f"{page}: {listing.command} does not print: {row}"


def _source(folder: Path) -> Path:
    """A clone of the project as it is in the working tree, from which the reader's is cloned."""
    source = folder / "source"
    _git(folder, "clone", "-q", str(pages.ROOT), str(source))
    listed = _git(pages.ROOT, "ls-files", "-z", "-mo", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (pages.ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(pages.ROOT / name, source / name)
        else:
            (source / name).unlink(missing_ok=True)
    if _git(source, "status", "--porcelain"):
        _git(source, "add", "-A")
        person = ("-c", "user.name=walk", "-c", "user.email=walk@localhost")
        _git(source, *person, "commit", "-qm", "The working tree")
    return source


def _git(folder: Path, *words: str) -> str:
    call = ["git", *words]
    return subprocess.run(call, cwd=folder, check=True, capture_output=True, text=True).stdout


def _install(plan: Plan, shell: Shell) -> None:
    """What the README does first, for pages that are walked alone."""
    extras = ",".join((*plan.frameworks, "test"))
    calls = ['git clone -q "$CHECKOUT" twingrad && cd twingrad']
    if plan.environment is None:
        calls += [
            "python3 -m venv .venv",
            f".venv/bin/pip install -qc constraints.txt -e '.[{extras}]'",
        ]
    for call in (*calls, ". .venv/bin/activate"):
        outcome = shell.run(call, LIMIT_S)
        if outcome.status:
            raise RuntimeError(f"{call}: status {outcome.status}: {outcome.text}")
        _borrow(plan)


def _borrow(plan: Plan) -> None:
    """Make the clone's environment of the packages of ``plan.environment``, if it has none yet."""
    folder = plan.clone / ".venv"
    if plan.environment is None or not plan.clone.exists() or folder.exists():
        return
    lender = plan.environment / "bin" / "python"
    subprocess.run([lender, "-m", "venv", "--without-pip", folder], check=True)
    show = "import sys; print(*(p for p in sys.path if p.endswith('site-packages')), sep='\\n')"
    paths = subprocess.run([lender, "-c", show], check=True, capture_output=True, text=True).stdout
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(f"{plan.clone}\n{paths}", encoding="utf-8")
    for name in _SCRIPTS:
        script = plan.environment / "bin" / name
        if not script.exists():
            continue
        if script.read_bytes().startswith(b"#!"):
            body = script.read_text(encoding="utf-8").partition("\n")[2]
            (folder / "bin" / name).write_text(f"#!{folder}/bin/python\n{body}", encoding="utf-8")
            (folder / "bin" / name).chmod(0o755)
        else:
            (folder / "bin" / name).symlink_to(script)


def main(arguments: Sequence[str] | None = None) -> int:
    """Walk once, and print what was wrong again at the end; 1 where anything was."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.docs.walk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--way", choices=WAYS, default=WAYS[0])
    parser.add_argument("--frameworks", default=",".join(pages.FRAMEWORKS))
    parser.add_argument(
        "--environment", type=Path, help="whose packages to use, not installed again"
    )
    parser.add_argument("--pages", nargs="+", default=[], metavar="PAGE")
    parser.add_argument("--transcript", type=Path, metavar="FILE")
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args(arguments)
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="walk-"))
        plan = Plan(
            folder=Path(scratch).resolve(),
            way=asked.way,
            frameworks=tuple(asked.frameworks.split(",")),
            environment=asked.environment and asked.environment.absolute(),
        )
        if asked.list:
            for page in asked.pages or pages.ORDER:
                for typed, _ in plan.steps(page):
                    print(f"{page}: {typed}")
            return 0
        if asked.transcript is None:
            wrong = walk(plan, asked.pages)
        else:
            file = stack.enter_context(asked.transcript.open("w", encoding="utf-8", buffering=1))
            wrong = walk(plan, asked.pages, file.write)
    print(*(wrong or ["all as the pages say"]), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
