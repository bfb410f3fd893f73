"""The promises of docs/security.md, and that each of them names a test that exists."""

import ast
import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench.cli.main import COMMANDS, main
from bench.harness import frameworks, machine, terminal
from bench.harness.records import ROOT
from bench.reporting import html
from bench.speed import record as speed_record
from bench.training import metrics, pretrained, run_folder
from bench.training.config import RunSettings, resolve
from shared import checkpoint, data, files, safetensors_io, tokenizer, transformers_io
from shared.config import GPTConfig
from tests.helpers.sources import nodes
from twingrad import outcome as twingrad_outcome
from twingrad import outcome_tables
from twingrad import page as twingrad_page
from twingrad.numerics import Verdict
from twingrad.outcome import Gate, Outcome

both = pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="needs both frameworks"
)
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
SOURCES = [
    path
    for package in ("bench", "shared", "torch_impl", "jax_impl", "twingrad")
    for path in sorted((ROOT / package).rglob("*.py"))
]
SMALL = GPTConfig(vocab_size=31, context_length=8, emb_dim=8, n_heads=2, n_layers=1, qkv_bias=True)


# The page


@pytest.mark.parametrize("reference", sorted(set(re.findall(r"`(tests/[^`]*)`", PAGE))))
def test_the_page_names_tests_that_exist(reference):
    place, _, name = reference.partition("::")
    path = ROOT / place
    modules = sorted(path.glob("test_*.py")) if path.is_dir() else [path]
    assert modules, place
    for module in modules:
        body = ast.parse(module.read_text(encoding="utf-8")).body
        definitions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
        tests = {definition for definition in definitions if definition.startswith("test_")}
        assert tests, module
        assert not name or name in tests


def test_every_promise_of_the_page_names_its_test():
    tables = re.findall(r"^\| promise \| test \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) > 15
    for row in rows:
        tests = row.removesuffix(" |").rpartition(" | ")[2].split(", ")
        assert all(
            re.fullmatch(r"`tests/\w+(/test_\w+\.py(::test_\w+)?)?`", test) for test in tests
        )


# Sources


def _calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in nodes(path.read_text(encoding="utf-8")):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def _imported(path: Path) -> set[str]:
    modules = set()
    for node in nodes(path.read_text(encoding="utf-8")):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    return modules


def _importers(packages: set[str]) -> dict[str, set[str]]:
    """The sources that import one of ``packages``, and which of them."""
    importers = {}
    for path in SOURCES:
        imported = {name.partition(".")[0] for name in _imported(path)} & packages
        if imported:
            importers[path.relative_to(ROOT).as_posix()] = imported
    return importers


def test_no_source_unpickles_or_evaluates():
    # A reader of PyTorch's pickles needs the name of their error, and no more of that module.
    reader = "twingrad/convert/torch_source.py"
    importers = _importers({"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "yaml"})
    assert importers == {reader: {"pickle"}}
    source = ast.parse((ROOT / reader).read_text(encoding="utf-8"))
    names = {ast.unparse(node) for node in ast.walk(source) if isinstance(node, ast.Attribute)}
    assert {name for name in names if name.startswith("pickle.")} == {"pickle.UnpicklingError"}
    forbidden = {"eval", "exec", "torch.load", "np.load", "numpy.load", "np.fromregex"}
    calls = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in SOURCES
        for name, _ in _calls(path)
        if name in forbidden
    }
    # Our own sources, with a bug planted; and tensors alone out of PyTorch's checkpoints. A phrase
    # loads what it has just saved.
    phrase = "twingrad/phrases/torch_code/saving.py"
    loads = {(reader, "torch.load"), (phrase, "torch.load")}
    assert calls == {("bench/mutation/mutants.py", "exec"), *loads}
    for path in (reader, phrase):
        (load,) = (call for name, call in _calls(ROOT / path) if name == "torch.load")
        assert "weights_only=True" in map(ast.unparse, load.keywords)


def test_only_the_places_named_can_use_the_network():
    named = {"huggingface_hub", "datasets", "tiktoken"}
    others = {"urllib", "http", "requests", "httpx", "ftplib", "aiohttp", "wandb"}
    importers = _importers(named | others)
    assert {file: client for file, (client,) in importers.items()} == dict(
        re.findall(r"\| `([\w/]+\.py)` \| (\w+) \|$", PAGE, re.MULTILINE)
    )
    # A pair of sockets between the benchmark and each contestant; the processes of one run.
    workers = "bench/speed/worker_process.py"
    processes = (
        "bench/training/launcher.py",
        "torch_impl/distributed.py",  # binds the port of PyTorch's store
        *map("shared/rendezvous/{}.py".format, ("meeting", "peer", "running")),
    )
    sockets = _importers({"socket", "socketserver", "asyncio", "ssl"})
    assert sockets == {name: {"socket"} for name in (workers, *processes)}
    assert {name for name, _ in _calls(ROOT / workers) if "socket" in name} == {"socket.socketpair"}


def test_no_source_starts_a_shell():
    for path in SOURCES:
        for name, call in _calls(path):
            assert name not in ("os.system", "os.popen", "subprocess.getoutput"), path
            if name.startswith("subprocess."):
                assert all(word.arg != "shell" for word in call.keywords), path


# Files


CLAIMS = {
    "model.safetensors": (2**62).to_bytes(8, "little") + b"{}" + bytes(90),
    "header.safetensors": (99_999_999).to_bytes(8, "little") + b"{}" + bytes(90),
    "shape.safetensors": b"",
    "tokens.npy": b"",
    "tokenizer.json": b"",
    "config.json": b"",
}


def _claim(name: str, path: Path) -> None:
    """Write a small file that declares a large size."""
    if name.endswith(".safetensors") and CLAIMS[name]:
        path.write_bytes(CLAIMS[name])
    elif name == "shape.safetensors":
        entry = {"dtype": "F32", "shape": [2**30], "data_offsets": [0, 2**32]}
        text = json.dumps({"a": entry}).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    elif name == "tokens.npy":
        with path.open("wb") as file:
            about = {"descr": "<i8", "fortran_order": False, "shape": (2**14, 2**14)}
            np.lib.format.write_array_header_1_0(file, about)
    elif name == "tokenizer.json":
        raw = json.loads(tokenizer.BPE.train(["text"], 260).definition)
        raw["model"]["vocab"]["far"] = 2**32 - 2
        path.write_text(json.dumps(raw))
    elif name == "config.json":
        sizes = {"vocab_size": 31, "n_positions": 8, "n_embd": 8, "n_head": 2}
        path.write_text(json.dumps(sizes | {"n_layer": 2**40}))


READERS = {
    ".safetensors": safetensors_io.read_safetensors,
    ".npy": lambda path: data.load_tokens(path, SMALL),
    "tokenizer.json": tokenizer.BPE.load,
    "config.json": lambda path: transformers_io.load(path.parent),
}


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.attack("processes")
def test_a_declared_size_takes_no_memory(tmp_path, name):
    path = tmp_path / name
    _claim(name, path)
    read = next(read for end, read in READERS.items() if name.endswith(end))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=re.escape(name)):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.attack("processes")
def test_a_file_over_the_limit_is_not_read(tmp_path):
    path = tmp_path / "state.json"
    with path.open("wb") as file:
        file.truncate(files.LARGEST + 1)  # a hole, which takes no room
    with pytest.raises(OSError, match="over the"):
        files.read_bytes(path)


@pytest.mark.parametrize(
    "read",
    [
        safetensors_io.read_safetensors,
        lambda path: data.load_tokens(path, SMALL),
        tokenizer.BPE.load,
        speed_record.check,
        run_folder.read_json,
        lambda path: metrics.read(path, 1),
        lambda path: checkpoint.load(path.parent),
        lambda path: transformers_io.load(path.parent),
    ],
)
@pytest.mark.attack("processes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for name in ("state.json", "config.json"):
        (tmp_path / name).symlink_to("pipe")
    with pytest.raises(ValueError, match="it is a pipe"):
        read(tmp_path / "pipe")


@both
@pytest.mark.attack("data")
def test_a_link_in_a_run_folder_is_not_written_through(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("to be trained on\n" * 99)
    outside = tmp_path / "outside"
    outside.mkdir()
    config = resolve(RunSettings(data=str(text), steps=5, length=8, batch_size=2))
    for name in ("torch", "torch/checkpoints", "torch/metrics.jsonl", "tokenizer.json"):
        out = tmp_path / name.replace("/", "-")
        (out / name).parent.mkdir(parents=True)
        described = {"run": asdict(config), "corpus": {}}
        (out / run_folder.CONFIG).write_text(json.dumps(described))
        (out / name).symlink_to(outside)
        assert main(["train", "--resume", "--out", str(out)]) == 2
        assert f"{out / name} is a link" in capsys.readouterr().err
        assert list(outside.iterdir()) == []


# The network

# A ``sitecustomize`` module, which every Python process, workers included, runs at its start.
WATCH = """
import os, socket, sys

def watch(event, arguments):
    if event == "socket.__new__" and arguments[1] != socket.AF_UNIX or event in NAMED:
        with open(os.environ["TWINGRAD_WATCHED"], "a") as file:
            file.write(f"{event} {arguments[1:]}\\n")
        raise RuntimeError(f"a socket was opened: {event}")

NAMED = ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request")
sys.addaudithook(watch)
"""


def _watched(tmp_path: Path, program: str) -> tuple[subprocess.CompletedProcess, list[str]]:
    """Run ``program``: its end, and every socket that it or a process it started opened."""
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    seen = tmp_path / "seen"
    seen.write_text("")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": path, "TWINGRAD_WATCHED": str(seen), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    return run, seen.read_text().splitlines()


@pytest.mark.parametrize(
    "program",
    [
        "import socket; socket.socket()",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
        "import multiprocessing, socket\nif __name__ == '__main__':\n"
        " child = multiprocessing.get_context('spawn').Process(target=socket.socket)\n"
        " child.start(); child.join()",
    ],
)
def test_the_watch_sees_a_socket(tmp_path, program):
    run, seen = _watched(tmp_path, program)
    assert seen, run.stderr


LOCAL = """
from twingrad.cli.main import main
text = "the quick brown fox jumps over the lazy dog\\n" * 99
open("text.txt", "w").write(text)
for call in (
    "compare simple-net --dtype float64 --device cpu",
    "train --framework both --data text.txt --steps 1 --length 8 --batch-size 2 --out run",
    "sample --framework torch --checkpoint run --prompt the --tokens 2",
    "init-pair pair.py",
    "compare pair.py",
):
    assert main(call.split()) == 0, call
"""


@pytest.mark.slow
@both
@pytest.mark.attack("network")
def test_local_inputs_open_no_socket(tmp_path):
    run, seen = _watched(tmp_path, LOCAL)
    assert seen == []
    assert run.returncode == 0, run.stderr


BENCHMARK = """
from bench.cli.main import main
from bench.speed import workloads
workloads.SMALL_PROGRAMS = ("simple-net",)
call = "bench --device cpu --workload overhead --samples 1 --starts 1 --contestants torch-idiomatic"
assert main(call.split()) == 0
"""


@pytest.mark.slow
@both
@pytest.mark.attack("network")
def test_a_benchmark_opens_no_socket(tmp_path):
    run, seen = _watched(tmp_path, BENCHMARK)
    assert seen == []
    assert run.returncode == 0, run.stderr


# Code that is run, and text that is shown


def test_the_help_says_what_is_run():
    running = {"compare": {"program", "file"}, "diagnose": {"program", "file"}, "bench": {"peer"}}
    running |= {"convert": {"file"}, "record": {"file"}}
    for name, options in running.items():
        declared = [
            one for command in COMMANDS if command.name == name for one in command.declared()
        ]
        (*helps,) = (one.help for one in declared if one.name in options)
        assert len(helps) == len(options)
        assert all("is run" in text for text in helps), name
    assert "is run" in (ROOT / "docs" / "porting.md").read_text(encoding="utf-8")


EVIL = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>{{ 7 * 7 }}"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.scripts: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.add(tag)
        if tag == "script":
            self.scripts.append("")
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, text: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += text
        self.text += text


def _evil_comparison() -> dict:
    tensor = Verdict(
        name=EVIL,
        kind="activation",
        torch_error_u=1.0,
        jax_error_u=1.0,
        mutual_error_u=1.0,
        limit_u=0.5,
        peak_error_u=1.0,
        peak_limit_u=1.0,
        error_ratio=2.0,
        ok=False,
    )
    outcome = Outcome(program=EVIL, preset=EVIL, dtype="float64", device=EVIL, first_forward=EVIL)
    outcome.gates = [Gate(name="float64", tensors=[tensor])]
    environment = machine.environment((), EVIL)
    environment["hardware"] |= {"processor": EVIL, "system": EVIL}
    environment["versions"] = {EVIL: EVIL}
    programs = [twingrad_outcome.outcome_object(outcome)]
    return {"ok": False, "environment": environment, "programs": programs, "seconds": 1.0}


@pytest.mark.attack("sentences")
def test_a_report_shows_markup_as_text():
    page = html.make(_evil_comparison())
    parsed = _Tags()
    parsed.feed(page)
    assert parsed.scripts == [twingrad_page.web("find.js")]
    assert not parsed.tags & {"img", "iframe", "object", "embed", "link", "base"}
    assert not any(name.startswith("on") for name in parsed.attributes)
    assert "javascript:" not in page
    assert parsed.text.count("<script>alert(1)</script>") > 5
    assert "{{ 7 * 7 }}" in parsed.text


@pytest.mark.attack("sentences")
def test_brackets_are_no_markup_in_the_terminal(capsys):
    console = Console(width=200)
    name = "a[/b][red]c"
    outcome = Outcome(program=name, preset=None, dtype="float64", device="cpu", first_forward=name)
    evil = twingrad_outcome.outcomes(_evil_comparison())[0].gates[0].tensors[0]
    tensor = replace(evil, name=name)
    outcome.gates = [Gate(name="float64", tensors=[tensor])]
    outcome_tables.outcomes(console, name, [outcome])
    with terminal.progress(console) as say:
        say(name)
    assert capsys.readouterr().out.count(name) == 3


def test_a_path_in_brackets_is_trained_on_and_from(tmp_path, monkeypatch, capsys):
    if not frameworks.installed("torch"):
        pytest.skip("torch is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "[" / "b]"
    folder.mkdir(parents=True)
    (folder / "[red].txt").write_text("a text to be trained on\n" * 99)
    call = ["train", "--framework", "torch", "--length", "8", "--batch-size", "2", "--steps", "2"]
    call += ["--data", str(folder / "[red].txt"), "--out", str(folder / "run")]
    assert main([*call, "--stop-after", "1"]) == 0
    assert main([*call, "--resume"]) == 0
    assert pretrained.load(str(folder / "run")).config.vocab_size == 2048
    printed = capsys.readouterr().out
    assert f"{folder}/[red].txt" in printed
    assert f"Curves in {folder}/run/loss.png" in printed
