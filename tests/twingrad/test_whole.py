"""Files and folders that appear whole or not at all: what they replace and leave behind."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from shared import files as shared_files
from tests.helpers.sources import ROOT
from twingrad import files as library_files
from twingrad.files import require_writable, write_bytes
from twingrad.whole import temporary_folder, whole_file, whole_folder

pytestmark = pytest.mark.attack("data")

# Begins a file or a folder, and is killed before it is whole.
KILLED = """
import os, signal, sys
from twingrad.whole import temporary_folder, whole_file, whole_folder
with {make}(sys.argv[1]) as made:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_library_and_the_rest_write_alike():
    ours, theirs = (ROOT / package / "whole.py" for package in ("twingrad", "shared"))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("write", [shared_files.write_bytes, library_files.write_bytes])
def test_a_link_stays_a_link_and_its_file_is_written(tmp_path, write):
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there" / "file", tmp_path / "link"
    link.symlink_to(file)
    for content in (b"first", b"second"):  # the file is not there at first
        write(link, content)
        assert (link.is_symlink(), file.read_bytes()) == (True, content)
    assert list((tmp_path / "there").iterdir()) == [file]


def test_a_pipe_stays_a_pipe_and_its_reader_gets_all(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    require_writable(pipe)
    write_bytes(pipe, b"content")
    reader.join(10)
    assert read == [b"content"]
    assert pipe.is_fifo()


def test_a_device_stays_a_device(tmp_path):
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.stat(os.devnull).st_rdev)
        device.write_bytes(b"")
    except PermissionError:
        pytest.skip("no device can be made or used here")
    write_bytes(device, b"content")
    assert device.is_char_device()


def test_the_file_that_stdout_goes_to_is_added_to(tmp_path):
    code = (
        "from twingrad.files import write_bytes; print('before');"
        "write_bytes('/dev/stdout', b'content\\n'); print('after')"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=out, check=True)
    assert (tmp_path / "out").read_text().split() == ["before", "content", "after"]


@pytest.mark.parametrize("what", ["folder", "circle", "full", "read-only"])
def test_what_cannot_be_written_is_refused(tmp_path, what):
    place = tmp_path / what
    if what == "folder":
        place.mkdir()
    elif what == "circle":
        place.symlink_to(place)
    elif what == "full":
        place.symlink_to("/dev/full")
    else:
        place.write_bytes(b"kept")
        place.chmod(0o400)
        if os.access(place, os.W_OK):
            pytest.skip("this user may write everywhere")
    with pytest.raises(ValueError, match="cannot write"):
        write_bytes(place, b"content")
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("before", [0o600, 0o640, 0o755])
def test_a_file_keeps_its_mode(tmp_path, before):
    file = tmp_path / "file"
    file.write_bytes(b"")
    file.chmod(before)
    write_bytes(file, b"content")
    assert (file.read_bytes(), _mode(file)) == (b"content", before)


def test_a_file_keeps_its_owner(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"")
    try:
        os.chown(file, 12345, 54321)
    except PermissionError:
        pytest.skip("this user cannot give files away")
    write_bytes(file, b"content")
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 54321)


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o027, 0o640), (0o022, 0o644)])
def test_a_new_file_follows_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "file", b"content")
        with whole_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert _mode(tmp_path / "file") == mode
    assert _mode(tmp_path / "folder") == 0o777 & ~umask


@pytest.mark.parametrize("make", ["whole_file", "whole_folder"])
def test_what_a_killed_process_left_goes_at_the_next_write(tmp_path, make):
    place = tmp_path / ("long" * 60)  # as long as a name may be, nearly
    (tmp_path / ".other.0123456789abcdef.twingrad").write_bytes(b"")
    for left in (1, 1):  # the second one's is swept by neither itself nor the first
        done = subprocess.run([sys.executable, "-c", KILLED.format(make=make), place], cwd=ROOT)
        assert done.returncode == -9
        assert len(list(tmp_path.iterdir())) == 1 + left
    with whole_folder(place) if make == "whole_folder" else whole_file(place):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".other.0123456789abcdef.twingrad",
        place.name,
    ]


def test_what_another_process_is_writing_is_left_to_it(tmp_path):
    with whole_file(tmp_path / "file") as mine, whole_folder(tmp_path / "folder") as folder:
        mine.write(b"mine")
        (folder / "inside").write_bytes(b"inside")
        write_bytes(tmp_path / "file", b"another's")
        with whole_folder(tmp_path / "folder"):
            pass
        assert (folder / "inside").exists()
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert (tmp_path / "folder" / "inside").read_bytes() == b"inside"


def test_an_interrupted_write_leaves_nothing(tmp_path):
    for make in (whole_file, whole_folder):
        with pytest.raises(KeyboardInterrupt), make(tmp_path / "name"):
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_goes_even_after_a_kill(tmp_path, monkeypatch):
    words = [sys.executable, "-c", KILLED.format(make="temporary_folder"), "name"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    assert subprocess.run(words, cwd=ROOT, env=environment).returncode == -9
    (left,) = tmp_path.iterdir()
    assert _mode(left) == 0o700
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder("name") as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []
