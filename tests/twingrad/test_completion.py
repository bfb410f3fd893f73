"""Completion in the shells themselves: commands, options, choices and files."""

import os
import pty
import select
import shutil
import subprocess
import time

import pytest

from bench.cli.main import COMMANDS
from twingrad.cli import completion, library_commands
from twingrad.cli.completion import SHELLS


def needs(shell):
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The script of each shell, in a folder that also has one file and one folder."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        (folder / f"script.{shell}").write_text(completion.script(shell, COMMANDS))
    (folder / "my pair.py").touch()
    (folder / "runs").mkdir()
    return folder


CASES = [
    (["com"], {"compare", "completion"}, set()),
    (["compare", "--preset", ""], {"tiny", "124m"}, {"runs", "--json"}),
    (["compare", "--pre"], {"--preset"}, {"--json"}),
    (["compare", "g"], {"gpt2"}, {"tiny"}),
    (["compare", "m"], {"my pair.py"}, set()),
    (["compare", "--json", "r"], {"runs"}, {"gpt2"}),
    (["bench", "--workload", "train", "de"], {"decode"}, {"train"}),
    (["train", "--steps", ""], set(), {"runs", "--json"}),
    (["train", "--framework", ""], {"torch", "jax", "both"}, {"runs"}),
    (["completion", ""], {"bash", "zsh", "fish"}, {"runs"}),
]
cases = pytest.mark.parametrize(
    ("words", "offered", "absent"), CASES, ids=[" ".join(words) for words, _, _ in CASES]
)


@needs("bash")
@cases
def test_bash_offers(scripts, words, offered, absent):
    code = (
        'source script.bash; COMP_WORDS=(twingrad "$@"); COMP_CWORD=$#; _twingrad; '
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    command = ["bash", "-c", code, "bash", *words]
    done = subprocess.run(command, cwd=scripts, capture_output=True, text=True, check=True)
    found = set(done.stdout.splitlines())
    assert offered <= found
    assert not absent & found
    assert done.stderr == ""


@needs("bash")
def test_bash_completes_a_value_after_an_equals_sign(scripts):
    code = (
        "source script.bash; COMP_WORDS=(twingrad compare --preset = t); COMP_CWORD=4; _twingrad; "
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code], cwd=scripts, capture_output=True, text=True)
    assert done.stdout == "tiny\n"


@needs("fish")
@cases
def test_fish_offers(scripts, words, offered, absent):
    line = " ".join(["twingrad", *words])
    code = f"source script.fish; complete -C '{line}'"
    environment = os.environ | {"HOME": str(scripts), "XDG_CONFIG_HOME": str(scripts)}
    command = ["fish", "--no-config", "-c", code]
    done = subprocess.run(
        command, cwd=scripts, capture_output=True, text=True, check=True, env=environment
    )
    found = {row.split("\t")[0].rstrip("/").replace("\\", "") for row in done.stdout.splitlines()}
    assert offered <= found
    assert not absent & found
    assert done.stderr == ""


@needs("zsh")
@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("twingrad comple", "tion"),
        ("twingrad compare --preset gpt2-m", "gpt2-medium"),
        ("twingrad compare my", "my\\ pair.py"),
        ("twingrad bench --workload train de", "decode"),
    ],
)
def test_zsh_completes(scripts, line, shown):
    terminal, inside = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        cwd=scripts,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "200"},
        start_new_session=True,
    )
    setup = "autoload -U compinit; compinit -u -D; source script.zsh; echo rea''dy\n"
    os.write(terminal, setup.encode())
    assert "ready" in _until(terminal, "ready")
    os.write(terminal, f"{line}\t".encode())
    printed = _until(terminal, shown)
    shell.kill()
    shell.wait()
    os.close(terminal)
    os.close(inside)
    assert shown in printed
    assert "bad option" not in printed


def _until(terminal: int, text: str) -> str:
    """What the terminal shows until it has ``text``, or for half a minute."""
    printed, end = "", time.monotonic() + 30
    while text not in printed and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            printed += os.read(terminal, 65536).decode(errors="replace")
    return printed


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("commands", [COMMANDS, library_commands.COMMANDS], ids=["all", "library"])
def test_a_script_has_every_command_and_option(shell, commands):
    text = completion.script(shell, commands)
    for command in commands:
        assert command.name in text
        for declared in command.declared():
            if not declared.option.positional:
                assert (declared.flag if shell != "fish" else f"-l {declared.flag[2:]}") in text


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_one_that_its_shell_reads(scripts, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n", scripts / f"script.{shell}"], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
