"""Bad files for readers: how many, within which bounds, and a tally of what became of them.

By default a few of each, the same each time. ``TWINGRAD_EXAMPLES=10000`` has that many bad files
and command lines in all, different each time, and one random configuration for every fifty of them;
``TWINGRAD_FUZZ_RECORD=FILE`` writes the tally there. ``python -m bench.studies fuzz`` does both.
"""

import contextlib
import os
import resource
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from shared.config import GPTConfig
from twingrad.user_code import UserCodeError

EXAMPLES = int(os.environ.get("TWINGRAD_EXAMPLES", "0"))
# Parts of a hundred; calls of ``main`` and records cost the most.
SHARES = {
    "text": 4,
    "token shards": 10,
    "token cache": 4,
    "tokenizer.json": 8,
    "safetensors": 12,
    "weights folder": 10,
    "checkpoint": 14,
    "run folder": 10,
    "benchmark record": 6,
    "rates for a plan": 2,
    "other records": 4,
    "tokens.npy": 8,
    "pair file": 3,
    "command line": 5,
}
FEW = 300  # by default, of all together
SECONDS = 20  # a reader that takes longer hangs
MEMORY = 1 << 30  # bytes that a reader may add: no file here has a hundred thousand

MODEL = GPTConfig(vocab_size=300, context_length=8, emb_dim=8, n_heads=2, n_layers=1, qkv_bias=True)
TEXT = "Wörter und words.\n\n  def f(x):\n    return x\n" * 9
TALLY: dict[str, Counter[str]] = {}
EQUAL: list[Any] = []


def examples(part: str) -> Callable:
    """The settings of one reader's test."""
    count = max((EXAMPLES or FEW) * SHARES[part] // 100, 1)
    return settings_of(count)


def settings_of(count: int) -> Callable:
    return settings(
        max_examples=count,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def too_long(number: int, frame: Any) -> None:
    raise TimeoutError(f"over {SECONDS} s")


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Within, neither a hang nor a large allocation goes on unseen."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + MEMORY
    handler = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


def listing(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every name under ``folder`` but Python's caches, with size and time."""
    found = {}
    for path in folder.rglob("*"):
        if "__pycache__" not in path.parts:
            about = path.lstat()
            found[path] = about.st_size, about.st_mtime_ns
    return found


def tried(part: str, ground: Path, read: Callable[[], Any], *others: type[Exception]) -> Any:
    """What ``read`` returns, or None if it refuses as it should: one ``ValueError``, no trace left.

    A subclass of ``ValueError`` is an error of some library that nobody put into words.
    """
    before, found, refusal = listing(ground), None, None
    try:
        with bounded():
            found = read()
    except (ValueError, *others) as error:
        refusal = error
    count = TALLY.setdefault(part, Counter())
    count["read" if refusal is None else "refused"] += 1
    if refusal is not None:
        said = f"{type(refusal).__name__}: {refusal}"
        assert type(refusal) in (ValueError, UserCodeError, *others), (
            f"nobody put into words: {said}"
        )
        assert str(refusal).strip(), "a refusal says what is wrong"
    assert listing(ground) == before, "a reader wrote a file"
    return found


def laid(ground: Path, name: str, content: bytes) -> Path:
    path = ground / name
    path.write_bytes(content)
    return path
