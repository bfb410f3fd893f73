"""A copy of this checkout, to be changed and run while the original stays as it is."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.helpers.sources import ROOT

_GIT = ["git", "-c", "user.name=tests", "-c", "user.email=tests@localhost"]


def sources() -> list[Path]:
    """All files that git knows or would know, relative to the root."""
    call = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(call, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [Path(name) for name in sorted(set(filter(None, listed.split("\0"))))]


def copy(folder: Path) -> Path:
    """Make ``folder`` a copy of the checkout as it is now, and return it.

    It is a repository of its own with one commit, and has this environment as ``.venv``.
    """
    wanted = {path for path in sources() if (ROOT / path).is_file()}
    if folder.exists():
        listed = subprocess.run(
            [*_GIT, "ls-files", "-z"], cwd=folder, capture_output=True, text=True
        )
        for name in filter(None, listed.stdout.split("\0")):
            if Path(name) not in wanted:
                (folder / name).unlink(missing_ok=True)
    for path in wanted:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != (ROOT / path).read_bytes():
            shutil.copy2(ROOT / path, target)
    _commit(folder)
    return folder.resolve()


def _commit(folder: Path) -> None:
    if not (folder / ".git").exists():
        subprocess.run([*_GIT, "init", "-q"], cwd=folder, check=True)
        (folder / ".git" / "info" / "exclude").write_text(".venv\n")
        (folder / ".venv").symlink_to(sys.prefix)
    subprocess.run([*_GIT, "add", "-A"], cwd=folder, check=True)
    words = ["commit", "-q", "--allow-empty", "-m", "A copy"]
    subprocess.run([*_GIT, *words], cwd=folder, check=True)


def digest(*paths: Path) -> str:
    """A digest of the contents of files, in their order."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]
