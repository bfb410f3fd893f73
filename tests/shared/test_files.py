"""Files read whole or not at all: which are refused, with which words, and what is left behind."""

import errno
import os
import stat

import pytest

from shared import files


def test_a_written_file_has_its_content_may_be_read_by_all_and_is_alone(tmp_path):
    path = tmp_path / "one.bin"
    files.write_bytes(str(path), b"first")
    files.write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["one.bin"]


@pytest.mark.parametrize("name", ["fsync", "fchmod", "replace"])
def test_a_write_that_fails_says_why_and_leaves_nothing(tmp_path, monkeypatch, name):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    path = tmp_path / "one.bin"
    path.write_bytes(b"before")
    monkeypatch.setattr(os, name, full)
    with pytest.raises(ValueError, match=f"^cannot write {path}: no space$"):
        files.write_bytes(path, b"content")
    assert os.listdir(tmp_path) == ["one.bin"]
    assert path.read_bytes() == b"before"


def test_a_write_that_fails_after_the_rename_is_refused_all_the_same(tmp_path, monkeypatch):
    replace = os.replace

    def late(*paths):
        replace(*paths)
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "replace", late)
    with pytest.raises(ValueError, match=r": input/output error$"):
        files.write_bytes(tmp_path / "one.bin", b"content")


def test_an_error_without_a_number_is_said_in_its_own_words(tmp_path, monkeypatch):
    def odd(*_):
        raise OSError("out of luck")

    monkeypatch.setattr(os, "replace", odd)
    with pytest.raises(ValueError, match=r": out of luck$"):
        files.write_bytes(tmp_path / "one.bin", b"content")


def test_while_a_file_is_written_it_has_a_hidden_name_beside_it(tmp_path, monkeypatch):
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append((a, b)), replace(a, b)))
    files.write_bytes(tmp_path / "one.bin", b"content")
    ((temporary, final),) = seen
    assert os.path.dirname(temporary) == str(tmp_path)
    assert os.path.basename(temporary).startswith(".one.bin.")
    assert final == tmp_path / "one.bin"


def test_a_regular_file_has_a_size(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert files.require_regular(tmp_path / "file") == 5
    assert files.require_regular(str(tmp_path / "link")) == 5


def _refusal(path):
    try:
        files.require_regular(path)
    except OSError as refused:
        error = refused
    return type(error), error.errno, error.strerror, error.filename


def test_what_is_no_regular_file_is_refused_by_its_kind_and_name(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    words = "it is a pipe or a device, not a file"
    assert _refusal(tmp_path / "pipe") == (OSError, errno.EINVAL, words, str(tmp_path / "pipe"))
    assert _refusal("/dev/null") == (OSError, errno.EINVAL, words, "/dev/null")
    folder = (IsADirectoryError, errno.EISDIR, "Is a directory", str(tmp_path))
    assert _refusal(tmp_path) == folder
    assert _refusal(tmp_path / "none")[0] is FileNotFoundError
    assert _refusal("a\0b") == (OSError, errno.EINVAL, "embedded null byte", "a\0b")


def test_a_file_just_as_large_as_allowed_is_read_and_a_larger_one_is_not(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert files.read_bytes(path, largest=5) == b"12345"
    words = "it has 5 bytes, over the 4 that are read"
    with pytest.raises(OSError, match=words) as refused:
        files.read_bytes(path, largest=4)
    assert (refused.value.errno, refused.value.filename) == (errno.EFBIG, str(path))
    assert files.LARGEST == 256 * 1024**2


def test_json_is_read_as_utf8_with_what_json_takes(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes('{"ü": [1, NaN]}'.encode())
    assert files.read_json(path, parse_constant=lambda name: f"no {name}") == {"ü": [1, "no NaN"]}
    for content, words in (
        (b"\xff", "can't decode"),
        (b"{", "Expecting"),
        (b"[" * 100_000, "^it is nested too deeply$"),
    ):
        with pytest.raises(ValueError, match=words):
            files.parse_json(content)


def test_an_object_is_read_and_anything_else_refused_with_a_remedy(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert files.read_object(path, "mend it") == {"a": 1}
    path.write_text("[1]")
    with pytest.raises(ValueError, match=f"^{path} is not a JSON object: mend it$"):
        files.read_object(path, "mend it")
    path.write_text("{")
    with pytest.raises(ValueError, match=rf"^{path} is not readable JSON \(.+\): mend it$"):
        files.read_object(path, "mend it")
    with pytest.raises(ValueError, match=r"No such file.*: mend it$"):
        files.read_object(tmp_path / "none", "mend it")
