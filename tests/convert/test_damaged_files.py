"""Damaged checkpoints are read, or refused with a ``ValueError``: nothing else happens."""

import io
import os
import shutil

import numpy as np
import pytest
from hypothesis import given

from bench.harness import frameworks

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)

import torch

from tests.helpers.damage import damaged
from tests.helpers.fuzz import bounded, settings_of
from tests.helpers.weights import HALVES, WEIGHTS, safetensors
from twingrad.convert.orbax_folder import OrbaxFolder
from twingrad.convert.torch_source import open_torch

EXAMPLES = int(os.environ.get("TWINGRAD_EXAMPLES", "1000")) // 20


def pickled():
    """The bytes of a small file of ``torch.save``."""
    file = io.BytesIO()
    torch.save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4).half()}, file)
    return file.getvalue()


PICKLE = pickled()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder for the files."""
    return tmp_path_factory.mktemp("damaged")


def tried(open_source):
    """Read every tensor, each of which is what was announced; whether that was not refused."""
    with bounded():
        try:
            source = open_source()
            for name, stored in source.stored.items():
                value = source.read(name)
                assert (value.shape, value.dtype) == (stored.shape, stored.dtype)
                np.array(value)  # every byte is there
        except ValueError:
            return False
    return True


@settings_of(EXAMPLES)
@given(content=safetensors(WEIGHTS) | safetensors(HALVES) | damaged(WEIGHTS))
def test_safetensors(place, content):
    path = place / "model.safetensors"
    path.write_bytes(content)
    tried(lambda: open_torch(path))


@settings_of(EXAMPLES)
@given(content=damaged(PICKLE))
def test_pickle(place, content):
    path = place / "model.pt"
    path.write_bytes(content)
    tried(lambda: open_torch(path))


def test_whole_files_are_read(place):
    for name, content in (("model.safetensors", WEIGHTS), ("model.pt", PICKLE)):
        (place / name).write_bytes(content)
        assert tried(lambda path=place / name: open_torch(path))


@pytest.fixture(scope="module")
def orbax(tmp_path_factory):
    """A small checkpoint of Orbax."""
    import orbax.checkpoint as ocp

    folder = tmp_path_factory.mktemp("orbax") / "given"
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, {"a": np.arange(6.0).reshape(2, 3), "b": {"c": np.ones(4)}})
    return folder


def test_numbers_of_orbax_that_are_lost(orbax, tmp_path):
    lost = tmp_path / "lost"
    shutil.copytree(orbax, lost)
    source = OrbaxFolder(lost, {})
    for file in lost.rglob("d/*"):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"b\.c cannot be read"):
        source.read("b.c")


@settings_of(max(EXAMPLES // 5, 1))
@given(content=damaged(b'{"tree_metadata": {}, "use_ocdbt": true}'))
def test_metadata_of_orbax(orbax, content):
    file = orbax / "_METADATA"
    whole = file.read_bytes()
    try:
        file.write_bytes(content)
        tried(lambda: OrbaxFolder(orbax, {}))
    finally:
        file.write_bytes(whole)
    assert tried(lambda: OrbaxFolder(orbax, {}))
