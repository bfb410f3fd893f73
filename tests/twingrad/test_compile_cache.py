"""The cache of compiled programs: the user's alone, for one processor, and never in the way."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bench.studies import __main__ as studies
from twingrad import compile_cache


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's cache folder, empty, with the variables that matter as a newcomer has them."""
    for name in (*(n for n in os.environ if n.startswith("JAX_")), compile_cache.SWITCH):
        monkeypatch.delenv(name, raising=False)
    for name in (compile_cache.JAX_FOLDER, compile_cache.SWITCH):
        monkeypatch.setenv(name, "")  # so that what `enable` sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    for name in [name for name in sys.modules if name == "jax"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def test_the_folder_is_the_users_alone_and_is_named_to_jax(cache: Path) -> None:
    before = os.umask(0)
    try:
        used = compile_cache.enable()
    finally:
        os.umask(before)
    assert used.folder is not None
    assert os.environ[compile_cache.JAX_FOLDER] == str(used.folder)
    assert str(used.folder) in used.sentence
    for place in (used.folder, used.folder.parent, cache / "twingrad"):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["twingrad", "twingrad/compiled"])
def test_a_folder_that_others_could_write_to_is_not_used(cache: Path, name: str) -> None:
    place = cache / name
    place.mkdir(parents=True)
    place.chmod(0o777)
    used = compile_cache.enable()
    assert used.folder is None
    assert f"chmod 700 {place}" in used.sentence
    assert compile_cache.JAX_FOLDER not in os.environ
    place.chmod(0o700)
    cache.chmod(0o777)  # without the sticky bit others may put a folder of theirs in its place
    assert compile_cache.enable().folder is None


def test_a_folder_of_somebody_else_or_a_link_is_not_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "elsewhere").mkdir(mode=0o700)
    (cache / "twingrad").symlink_to(cache / "elsewhere")
    assert "is not a folder" in compile_cache.enable().reason
    (cache / "twingrad").unlink()
    (cache / "twingrad").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert "belongs to somebody else" in compile_cache.enable().reason


def test_a_folder_that_cannot_be_made_ends_nothing(cache: Path) -> None:
    (cache / "twingrad").write_text("a file")
    assert "is not a folder" in compile_cache.enable().reason
    (cache / "file").write_text("")
    os.environ["XDG_CACHE_HOME"] = str(cache / "file")  # set by the fixture, which restores it
    assert compile_cache.enable().folder is None


@pytest.mark.parametrize("variable", [compile_cache.SWITCH, compile_cache.JAX_SWITCH])
def test_either_variable_turns_it_off(
    cache: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "false")
    assert variable in compile_cache.enable().reason
    assert list(cache.iterdir()) == []


def test_a_folder_that_the_user_gave_jax_stays(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(compile_cache.JAX_FOLDER, "/my/own")
    assert compile_cache.enable().folder is None
    assert os.environ[compile_cache.JAX_FOLDER] == "/my/own"


def test_processor_jaxlib_and_flags_each_have_a_folder_of_their_own(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [compile_cache.inspect().folder]
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    folders.append(compile_cache.inspect().folder)
    monkeypatch.setattr(compile_cache, "_jaxlib", lambda: "0.0.1")
    folders.append(compile_cache.inspect().folder)
    monkeypatch.setattr(compile_cache, "_processor", lambda: ["another"])
    folders.append(compile_cache.inspect().folder)
    assert len(set(folders)) == 4
    assert list(cache.iterdir()) == []  # to look makes nothing


def test_the_oldest_entries_go_where_there_is_too_much(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = compile_cache.enable()
    assert used.folder is not None
    for age in range(4):
        entry = used.folder / f"{age}-cache"
        entry.write_bytes(bytes(100))
        os.utime(entry, (1e9 - age, 1e9 - age))
    assert compile_cache.size() == 400
    compile_cache.enable()
    assert compile_cache.size() == 400
    monkeypatch.setattr(compile_cache, "LIMIT", 399)
    compile_cache.enable()
    assert [entry.name for entry in used.folder.iterdir()] == ["0-cache"]


def test_studies_keep_nothing_and_find_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_cache.enable()
    studies.main(["no-such-study"])
    assert compile_cache.JAX_FOLDER not in os.environ
    assert compile_cache.SWITCH in compile_cache.enable().reason


_TOUR = """
import sys
from bench.parity import tour_columns
from twingrad import compile_cache
compile_cache.enable()
import jax
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None
)
from jax_impl import tensors
for name, function in tour_columns.definitions(tensors).items():
    print(name, repr(tour_columns.formatted(tour_columns._run(function))))
print(len(hits), file=sys.stderr)
"""


@pytest.mark.slow
def test_what_was_kept_computes_the_same_to_the_last_digit(cache: Path) -> None:
    pytest.importorskip("jax")
    root = Path(__file__).parents[2]
    first, second = (
        subprocess.run([sys.executable, "-c", _TOUR], capture_output=True, text=True, cwd=root)
        for _ in range(2)
    )
    assert first.returncode == second.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert int(second.stderr.split()[-1]) > 50
    assert len(first.stdout.splitlines()) > 50
