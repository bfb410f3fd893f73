"""A warm process that runs chosen tests on one changed file after another.

It imports the frameworks once and nothing of this project, and forks for every request, so that
each runs with the changed sources alone. Requests and answers are lines of JSON on stdin and
stdout: ``{"files": [...], "tests": [...], "seconds": 60, "log": FILE, ...}``, and pytest's status
with the first test that failed: ``{"status": 0, "test": null}``.

``python warm.py CHECKOUT MODULE...``
"""

import contextlib
import importlib
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

import pytest

_IDLE = 10


class Choice:
    """A plugin that runs the chosen tests alone, in their order, and notes the first that fails."""

    def __init__(self, tests: list[str], noted: str) -> None:
        self.place = {name: number for number, name in enumerate(tests)}
        self.functions = {name.partition("[")[0]: n for n, name in reversed([*enumerate(tests)])}
        self.noted = noted

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        place, known = self.place, {item.nodeid for item in items}
        if not known >= place.keys():  # the change has given cases other names
            place = {
                item.nodeid: self.functions[name]
                for item in items
                if (name := item.nodeid.partition("[")[0]) in self.functions
            }
        items[:] = sorted(
            (item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid]
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not os.path.exists(self.noted):
            Path(self.noted).write_text(report.nodeid)


def main() -> None:
    checkout, *modules = sys.argv[1:]
    for name in modules:
        importlib.import_module(name)
    sys.path[0] = checkout  # this script's own folder was there
    os.chdir(checkout)
    os.environ["PYTHONPATH"] = checkout
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(request: dict) -> dict:
    noted = request["log"] + ".failed"
    Path(noted).unlink(missing_ok=True)
    warnings.simplefilter("ignore")  # JAX warns of a fork; its backend is not started here
    child = os.fork()
    if not child:
        os._exit(_test(request, noted))
    status = _wait(child, request["seconds"])
    failed = Path(noted).read_text() if os.path.exists(noted) else None
    return {"status": status, "test": failed}


def _test(request: dict, noted: str) -> int:
    """In the child: run the tests, and return the status of pytest."""
    try:
        os.setsid()
        most = math.ceil(request["seconds"])
        resource.setrlimit(resource.RLIMIT_CPU, (most, most + 60))
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        if request["unwritten"]:
            sys.dont_write_bytecode = True
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        warnings.resetwarnings()
        options = [
            "-q",
            "-x",
            "-n0",
            "--all",
            "-p",
            "no:cacheprovider",
            "--tb=short",
            *request["options"],
        ]
        plugin = Choice(request["tests"], noted)
        return int(pytest.main([*options, *request["files"]], plugins=[plugin]))
    except BaseException:
        traceback.print_exc()
        return 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _wait(child: int, seconds: float) -> int | str:
    """The exit status of a child, ``"timeout"``, or ``"signal"``.

    It has so many seconds of a processor, and ``_IDLE`` times as many of the clock, since the
    machine may be busy with other work.
    """
    end = time.monotonic() + _IDLE * seconds
    done = status = 0
    while not done and time.monotonic() < end:
        time.sleep(0.01)
        done, status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):  # also what it has started and left
        os.killpg(child, signal.SIGKILL)
    if not done:
        os.waitpid(child, 0)
        return "timeout"
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    return "timeout" if os.WTERMSIG(status) == signal.SIGXCPU else "signal"


if __name__ == "__main__":
    main()
