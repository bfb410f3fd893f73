"""Wrong command lines end in one sentence and status 2."""

import contextlib
import io
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cli.main import main
from bench.harness import frameworks
from tests.helpers.damage import TEXTS
from tests.helpers.fuzz import SECONDS, TALLY, examples, laid, listing, too_long
from tests.helpers.sources import ROOT
from tests.helpers.weights import WEIGHTS

WORDS = (*TEXTS, "tiny", "124m", "torch", "float64", "cpu", "7", "nan", "inf", "-3", "1e400")
CALLS: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = {
    # By command, what it may be asked, and the last words that make the call a wrong one.
    ("compare",): (
        ("--preset", "--dtype", "--device", "--json", "--save", "--html", "--tokens", "--weights"),
        ("--device=tpu", "--colour", "--json=absent/x", "extra word", "--dtype=float8"),
    ),
    ("compare", "gpt2"): (
        ("--dtype", "--json", "--save", "--html"),
        ("--weights={absent}", "--weights={bad}", "--weights={bad} --preset=tiny"),
    ),
    ("compare", "gpt2", "--preset=tiny"): (
        ("--dtype", "--save", "--html"),
        ("--tokens={absent}", "--tokens={bad}", "--tokens={folder}"),
    ),
    ("train",): (
        (
            "--steps", "--seed", "--dtype", "--dropout", "--drop-rate", "--batch-size", "--length",
            "--learning-rate", "--warmup", "--keep", "--loss-chunk", "--tokenizer", "--stop-after",
            "--micro-batches", "--weight-decay", "--max-grad-norm", "--token-count", "--out",
        ),
        ("--init={absent}", "--init={bad}", "--framework=flax", "--data={absent}", "--steps=many"),
    ),
    ("train", "--resume", "--out={folder}"): (("--steps", "--data", "--length"), ("--preset=13b",)),
    ("sample", "--prompt=x"): (
        ("--framework", "--tokens", "--temperature", "--top-k", "--top-p", "--seed", "--preset"),
        ("--checkpoint={absent}", "--checkpoint={bad}", "--checkpoint={folder}"),
    ),
    ("export", "--out={folder}/exported"): ((), ("--checkpoint={absent}", "--checkpoint={bad}")),
    ("bench",): (
        ("--preset", "--dtype", "--contestants", "--peer", "--batch-size", "--length", "--budget"),
        ("--check={absent}", "--check={bad}", "--workload none", "--samples=0", "--device=tpu"),
    ),
    ("diagnose",): (("--preset", "--json", "--all"), ("nothing", "{absent}.py", "--json=absent/x")),
    ("mutants",): (("--json",), ("--only none", "--device=tpu")),
    ("init-pair",): (("--side",), ("{bad}", "{absent}/pair.py", "{folder}")),
    ("record",): (
        ("--only", "--limit", "--like"),
        ("{absent}.py --side torch --out x", "{bad} --side jax --out {folder}", "x.py --side tpu"),
    ),
    ("report",): ((), ("--html=absent/x", "--html={folder}")),
    (): ((), ("", "compere", "--version", "\ud800")),
}  # fmt: skip


@st.composite
def command_lines(draw: Any) -> list[str]:
    """A call with any options, which its last words make a wrong one."""
    begin = draw(st.sampled_from(sorted(CALLS)))
    options, wrong = CALLS[begin]
    call = list(begin)
    for option in draw(st.lists(st.sampled_from(options), max_size=3)) if options else ():
        word = draw(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)))
        call.append(option if option == "--all" else f"{option}={word}")
    return call + draw(st.sampled_from(wrong)).split(" ")


@pytest.fixture(scope="module")
def around(ground: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the braces in a call stand for; the call is made in an empty folder."""
    bad = laid(ground, "bad.safetensors", b"no such thing")
    empty = ground / "empty"
    empty.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        yield {"absent": str(ground / "absent"), "bad": str(bad), "folder": str(empty)}


@pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="needs both frameworks"
)
@examples("command line")
@given(call=command_lines())
def test_command_line(ground, around, call):
    for name, path in around.items():
        call = [word.replace(f"{{{name}}}", path) for word in call]
    here, before = Path.cwd(), listing(ground)
    out, err = io.StringIO(), io.StringIO()
    signal.alarm(0)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(3 * SECONDS)  # the first call loads the frameworks
        status = main(call)
        signal.alarm(0)
    assert status == 2, (call, out.getvalue())
    assert err.getvalue().startswith("twingrad: ")
    assert err.getvalue().count("\n") == 1, err.getvalue()
    assert listing(ground) == before
    assert list(here.iterdir()) == []
    TALLY.setdefault("command line", Counter())["refused"] += 1


@pytest.mark.slow("600000", "99")
@pytest.mark.parametrize("content", [b"", b'{"a": ' * 100_000, WEIGHTS[:99]], ids=len)
def test_a_bad_file_ends_the_program_with_status_2(ground, content):
    path = laid(ground, "bad.json", content)
    run = subprocess.run(
        [sys.executable, "-m", "bench", "bench", "--check", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("twingrad: ")
    assert run.stderr.count("\n") == 1
