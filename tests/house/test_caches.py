"""What the tests compile is kept for their run, and nothing that is measured reads it."""

import gc
import os
import sys

import pytest

from bench.speed import worker_process
from bench.speed.contestants import CHECKOUT, Contestant
from tests.helpers import caches


def test_jax_keeps_what_it_compiles_in_the_runs_folder():
    jax = pytest.importorskip("jax")
    assert jax.config.jax_compilation_cache_dir == f"{os.environ[caches.NAME]}/xla"


def test_a_contestant_finds_nothing_that_the_tests_compiled(tmp_path):
    contestant = Contestant(name="one", framework="jax", backend=CHECKOUT, path="one.py")
    found = worker_process.environment(contestant, tmp_path)
    for name in ("JAX_COMPILATION_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        assert os.environ[name].startswith(os.environ[caches.NAME])
        assert found[name].startswith(str(tmp_path))
    assert found["JAX_ENABLE_COMPILATION_CACHE"] == "false"


def test_bytecode_is_written_whatever_the_environment_says(pytestconfig, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    caches.pytest_configure(pytestconfig)
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ
    assert not sys.dont_write_bytecode


def test_objects_that_exist_before_the_first_test_are_not_collected():
    assert gc.get_freeze_count() > 100_000
