"""Every program that a user starts: what its first moment, its help and its last resort are."""

import ast
import os
import signal
import subprocess
import sys

import pytest

from tests.helpers import sources
from tests.helpers.sources import ROOT

# Programs that this project's own processes start, for which somebody else says what went wrong.
WORKERS = {
    "bench.planning.bandwidth",
    "bench.speed.worker",
    "bench.studies.distributed_worker",
    "twingrad.doctor.probe",
}
# Runs MODULE as a program, and sends itself SIGNAL when IMPORTED is about to be imported.
INTERRUPTED = """
import runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {imported!r}:
            signal.raise_signal({number})

signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # whatever the tests were started with
sys.meta_path.insert(0, Interrupting())
sys.argv = ["twingrad", "plan", "--preset", "tiny"]
runpy.run_module({module!r}, run_name="__main__")
"""


def _programs() -> dict[str, str]:
    """Modules that do something when they are run, each with what it does then."""
    found = {}
    for name, text in sources.sources().items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
                found[name.removesuffix(".__main__")] = ast.unparse(node.body)
    return found


PROGRAMS = _programs()


def _run(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_every_program_ends_by_the_last_resort():
    assert PROGRAMS.keys() >= WORKERS | {"bench", "twingrad", "bench.gpu", "bench.studies"}
    ended = {name for name, does in PROGRAMS.items() if does == "sys.exit(exit_status(main))"}
    # These three have it within.
    assert ended == PROGRAMS.keys() - WORKERS - {"bench", "twingrad", "bench.gpu"}


@pytest.mark.slow("bench.gpu", "bench.planning*", "bench.studies.*", "bench.tutorial")
@pytest.mark.parametrize("module", sorted(PROGRAMS.keys() - WORKERS))
@pytest.mark.attack("sentences")
def test_help_is_no_error_and_a_wrong_call_one_sentence(module):
    helped = _run("-m", module, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith("usage: ")
    wrong = _run("-m", module, "--no-such-option")
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "--no-such-option" in wrong.stderr


@pytest.mark.slow("*-bench")
@pytest.mark.parametrize("module", ["bench", "twingrad"])
@pytest.mark.parametrize("imported", ["twingrad.cli.main", "argparse", "bench.cli.measure"])
@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated"), (signal.SIGHUP, "hung up")],
)
@pytest.mark.attack("sentences")
def test_a_signal_while_modules_are_imported_is_one_sentence(module, imported, number, word):
    code = INTERRUPTED.format(module=module, imported=imported, number=int(number))
    done = _run("-c", code)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr == f"twingrad: {word}\n"


def test_the_first_module_of_a_command_imports_next_to_nothing():
    code = "import sys, typing, signal; before = {*sys.modules}; import twingrad.cli.start; "
    code += "print(*sorted({*sys.modules} - before))"
    assert _run("-c", code).stdout.split() == ["twingrad", "twingrad.cli", "twingrad.cli.start"]
