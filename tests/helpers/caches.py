"""Caches of what is compiled and tokenised, in a folder that belongs to one run of the tests.

xdist's workers and all processes that tests start inherit it; the run that made it deletes it.
``TWINGRAD_TEST_CACHES=FOLDER`` keeps one for several runs. The workers of the benchmark have their
own, empty at first: nothing that is measured is read from here.

``PYTHONDONTWRITEBYTECODE``, which many container images set, is ignored: without bytecode every
process that a test starts would compile all sources again.
"""

import os
import shutil
import sys
import tempfile

import pytest

FOLDER = pytest.StashKey[str]()
NAME = "TWINGRAD_TEST_CACHES"


def pytest_configure(config: pytest.Config) -> None:
    """Point the frameworks to the folder: processes to come, and this one."""
    if NAME not in os.environ:
        os.environ[NAME] = config.stash[FOLDER] = tempfile.mkdtemp(prefix="twingrad-tests-")
    folder = os.environ[NAME]
    settings = {
        "jax_compilation_cache_dir": f"{folder}/xla",
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    os.environ.update({name.upper(): str(value) for name, value in settings.items()})
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/inductor"
    os.environ["XDG_CACHE_HOME"] = f"{folder}/user"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if jax := sys.modules.get("jax"):  # another plugin may have imported it
        for name, value in settings.items():
            jax.config.update(name, value)


def pytest_unconfigure(config: pytest.Config) -> None:
    if folder := config.stash.get(FOLDER, None):
        shutil.rmtree(folder, ignore_errors=True)
        del os.environ[NAME]
