"""A contestant's process: its environment, its failures and its end."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench.speed import cold_start, contestants, worker_process
from bench.speed.scheduler import WorkerHandle
from bench.speed.stage_files import StageFiles
from bench.speed.worker_process import Failed
from tests.helpers.running import any_runs
from twingrad.terminal import silent


def test_the_callers_settings_do_not_leak_into_a_contestant(tmp_path, monkeypatch):
    for name in contestants.CLEARED:
        monkeypatch.setenv(name, "1")
    rows = {one.name: one for one in contestants.built_in("cpu")}
    plain = worker_process.environment(rows["jax-idiomatic"], tmp_path)
    assert not set(contestants.CLEARED) & set(plain)
    tuned = worker_process.environment(rows["jax-tuned"], tmp_path)
    assert tuned["MALLOC_MMAP_MAX_"] == contestants.KEPT_MEMORY["MALLOC_MMAP_MAX_"]


def test_no_worker_finds_what_an_earlier_call_compiled(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/the/users/own")
    variables = worker_process.environment(contestants.built_in("cpu")[0], tmp_path)
    assert variables["JAX_ENABLE_COMPILATION_CACHE"] == "false"
    assert Path(variables["JAX_COMPILATION_CACHE_DIR"]).is_relative_to(tmp_path)


def test_no_cache_lies_where_a_cpp_compiler_would_not_find_it(bench, monkeypatch, tmp_path):
    call = bench(workload=("cold",), contestants="torch-tuned", preset="tiny")
    [stage], [one], folders = call.setup.stages, call.setup.contestants, []

    def fail(contestant, folder, caches):
        folders.append(str(caches))
        raise Failed("no process")

    monkeypatch.setattr(worker_process, "start", fail)
    files = StageFiles(call.setup, stage, tmp_path, silent, tmp_path)
    with pytest.raises(Failed):
        cold_start.start_cold(WorkerHandle(contestant=one), files, 3)
    named = replace(one, name="a name of two words")
    folders += [worker_process.environment(named, tmp_path)["TORCHINDUCTOR_CACHE_DIR"]]
    assert len(folders) == 2
    assert not any(character.isspace() for path in folders for character in path)


@pytest.mark.parametrize(
    ("code", "top", "said"),
    [
        ("raise MemoryError", "", ["out of memory"]),
        ("raise RuntimeError('DefaultCPUAllocator: can\\'t allocate memory')", "", ["out of mem"]),
        ("os.kill(os.getpid(), signal.SIGKILL)", "", ["killed", "memory"]),
        ("sys.exit('three')", "", ["died with status 1", "three"]),
        ("os._exit(3)", "", ["died with status 3", "no output"]),
        ("raise ValueError('too\\nmany words')", "", ["ValueError: too"]),
        ("...", "import no_such_module", ["ModuleNotFoundError", "no_such_module"]),
        ("...", "syntax error", ["SyntaxError"]),
    ],
)
def test_what_became_of_a_process_is_said_in_a_line(start, train, code, top, said):
    worker = start(code, top)
    with pytest.raises(Failed):
        train(worker)
    assert "\n" not in worker.failure.text
    for words in said:
        assert words in worker.failure.text
    assert not worker.active


def test_one_that_hangs_is_ended_and_named(start, train):
    worker = start("time.sleep(1000)")
    begun = time.monotonic()
    with pytest.raises(Failed):
        train(worker, wait_s=0.5)
    assert time.monotonic() - begun < 20
    assert worker.failure.text == "hung: no answer to 'time' in 0 s"
    assert worker.process.child.returncode == -9


def test_a_process_takes_what_it_started_with_it(start, train):
    worker = start("return subprocess.Popen(['sleep', '1000']).pid")
    assert train(worker).seconds > 0
    children = Path(f"/proc/{worker.process.child.pid}/task/{worker.process.child.pid}/children")
    if not children.exists():
        pytest.skip("this kernel does not list children")
    started = children.read_text().split()
    assert started
    worker.process.end()
    worker.process.end()  # and twice does no harm
    assert not any_runs(started, 5)


def test_what_a_contestant_prints_is_not_taken_for_an_answer(start, train):
    worker = start("os.write(1, b'hello'); return 1.0")
    assert train(worker).seconds > 0
    assert "hello" in worker.process.errors.read_text()
