"""Every reader of files is given thousands of bad ones; every small configuration is compared.

By default a few of each, the same each time. ``TWINGRAD_EXAMPLES=10000`` has that many bad files
and command lines in all, drawn anew, and one random configuration for every fifty of them;
``TWINGRAD_FUZZ_RECORD=FILE`` writes down what became of them:

    TWINGRAD_EXAMPLES=10000 pytest -n 0 tests/test_fuzz.py
"""

import contextlib
import hashlib
import io
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from safetensors.numpy import save as to_safetensors

from bench.cli.main import main
from bench.harness import frameworks, machine, programs, records
from bench.parity.comparison import Comparison
from bench.planning import command
from bench.planning.options import PlanOptions
from bench.planning.rates import MismatchedRates
from bench.reporting import html, markdown, source_diff
from bench.speed import record as speed_record
from bench.speed.results import Configuration
from bench.training import metrics, pretrained, run_folder
from bench.training.config import RunConfig, RunSettings, changed, resolve
from shared import checkpoint, corpus, data, params, safetensors_io, tokenizer, transformers_io
from shared.checkpoint import Checkpoint
from shared.config import AdamWConfig, GPTConfig, TrainConfig
from tests.helpers.damage import TEXTS, bent, damaged
from twingrad import pair
from twingrad.files import write_json

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
    return _settings(count)


def _settings(count: int) -> Callable:
    return settings(
        max_examples=count,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module", autouse=True)
def unchecked_and_counted() -> Iterator[None]:
    """Signatures unchecked, as a program runs them; at the end, what was tried is written down."""
    jaxtyping.config.update("jaxtyping_disable", True)
    began = time.perf_counter()
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    if path := os.environ.get("TWINGRAD_FUZZ_RECORD"):
        tallies = {part: dict(sorted(count.items())) for part, count in TALLY.items()}
        found = {
            "environment": machine.environment(frameworks.both(), "cpu"),
            "seconds": round(time.perf_counter() - began, 1),
            "configurations": len(EQUAL),
            "readers": tallies,
        }
        write_json(path, found)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files, which nothing but a test may write to."""
    return tmp_path_factory.mktemp("fuzz")


# What is asked of every reader


def _too_long(number: int, frame: Any) -> None:
    raise TimeoutError(f"over {SECONDS} s")


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Within, neither a hang nor a large allocation goes on unseen."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + MEMORY
    handler = signal.signal(signal.SIGALRM, _too_long)
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
        assert type(refusal) in (ValueError, *others), f"nobody put into words: {said}"
        assert str(refusal).strip(), "a refusal says what is wrong"
    assert listing(ground) == before, "a reader wrote a file"
    return found


def laid(ground: Path, name: str, content: bytes) -> Path:
    path = ground / name
    path.write_bytes(content)
    return path


# Text and tokens


@examples("text")
@given(content=damaged(TEXT.encode()))
def test_text(ground, content):
    path = laid(ground, "text.txt", content)
    found = tried("text", ground, lambda: _corpus(path))
    if found is not None:
        ids = np.concatenate([found.train[:], found.validation[:]])
        assert ids.astype(np.uint8).tobytes() == content


def _corpus(path: Path, vocab_size: int = 256, cache: Path = Path(os.devnull)) -> corpus.Corpus:
    return corpus.load(str(path), tokenizer.Bytes(), vocab_size, cache=cache)


def _shard(magic: int = 20240520, version: int = 1, kind: str = "<u2") -> bytes:
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, 64
    return header.tobytes() + np.arange(64, dtype=kind).tobytes()


SHARDS = (_shard(), _shard(20240801, 7, "<u4"), np.arange(64, dtype="<u2").tobytes())


@examples("token shards")
@given(
    content=st.sampled_from(SHARDS).flatmap(damaged),
    name=st.sampled_from(("a.bin", "folder/train.bin", "folder/b_val_0.bin")),
)
def test_token_shards(ground, content, name):
    folder = ground / "folder"
    folder.mkdir(exist_ok=True)
    for other in folder.iterdir():
        other.unlink()
    laid(folder, "val.bin" if "train" in name else "b_train_0.bin", SHARDS["a" in name])
    path = laid(ground, name, content)
    found = tried(
        "token shards", ground, lambda: _corpus(folder if "/" in name else path, vocab_size=300)
    )
    if found is not None:
        ids = np.concatenate([found.train[:], found.validation[:]])
        assert ids.max() < 300
        assert ids.nbytes <= 2 * len(content) + 4096, "more tokens than the files hold"


@examples("token cache")
@given(content=st.data())
def test_token_cache(ground, content):
    path, cache = laid(ground, "cached.txt", TEXT.encode()), ground / "cache"
    clean = np.array(_corpus(path, cache=cache).train[:])  # a copy: the file is mapped
    (kept,) = cache.iterdir()
    kept.write_bytes(content.draw(damaged(kept.read_bytes())))
    with bounded():
        again = _corpus(path, cache=cache)
    assert np.array_equal(again.train[:], clean)
    assert [other.name for other in cache.iterdir()] == [kept.name]
    TALLY.setdefault("token cache", Counter())["read"] += 1


@pytest.fixture(scope="module")
def bpe() -> dict[str, Any]:
    """A ``tokenizer.json`` of our own, as an object."""
    return json.loads(tokenizer.BPE.train([TEXT], 290).definition)


@examples("tokenizer.json")
@given(content=st.data())
def test_tokenizer_json(ground, bpe, content):
    vocabulary = bpe["model"]["vocab"]
    least = bpe | {"model": bpe["model"] | {"vocab": dict(list(vocabulary.items())[-9:])}}
    written = content.draw(st.sampled_from((bpe, bpe, least)).flatmap(bent))
    path = laid(ground, "tokenizer.json", written)
    found = tried("tokenizer.json", ground, lambda: tokenizer.make(str(path)))
    if found is not None:
        assert found.vocab_size <= 1 << 22
        ids = found.encode(TEXT)
        assert ids.size == 0 or ids.max() < found.vocab_size
        found.decode(ids)
        tokenizer.from_json(found.to_json())


# Parameters


def _parameters() -> params.Params:
    return params.init_gpt2(MODEL, spread=0.1)


def _packed(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


WEIGHTS = to_safetensors({f"transformer.{k}": v for k, v in _parameters().items()})
HALVES = _packed(
    json.dumps(
        {
            "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
            "b": {"dtype": "F16", "shape": [4], "data_offsets": [12, 20]},
            "none": {"dtype": "BF16", "shape": [0, 7], "data_offsets": [20, 20]},
            "__metadata__": {"format": "pt"},
        }
    ).encode(),
    bytes(20),
)


@st.composite
def safetensors(draw: Any, whole: bytes) -> bytes:
    """A file whose header is another, of which the length may be right, or any bytes of it."""
    length = int.from_bytes(whole[:8], "little")
    if draw(st.booleans()):
        return draw(damaged(whole))
    header = draw(bent(json.loads(whole[8 : 8 + length])))
    content = _packed(header, whole[8 + length :])
    declared = draw(st.sampled_from((None, None, None, 0, 2**27, 2**40, 2**63, 2**64 - 1)))
    return content if declared is None else struct.pack("<Q", declared) + content[8:]


@examples("safetensors")
@given(content=st.sampled_from((WEIGHTS, HALVES)).flatmap(safetensors))
def test_safetensors(ground, content):
    path = laid(ground, "model.safetensors", content)
    found = tried("safetensors", ground, lambda: safetensors_io.read_safetensors(path))
    if found is not None:
        assert sum(value.nbytes for value in found.values()) <= 2 * len(content)
    tried("safetensors", ground, lambda: transformers_io.load(path, MODEL))


INDEX = {"metadata": {}, "weight_map": {"transformer.wte.weight": "model.safetensors"}}


@examples("weights folder")
@given(content=st.data(), what=st.sampled_from(("config.json", "index", "model", "tokenizer")))
def test_weights_folder(ground, content, what):
    folder = ground / "weights"
    transformers_io.save(folder, MODEL, _parameters())
    names = {"index": "model.safetensors.index.json", "model": "model.safetensors"}
    for name in (names["index"], "tokenizer.json"):
        (folder / name).unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    strategies = {
        "config.json": bent(config),
        "index": bent(INDEX),
        "model": safetensors(WEIGHTS),
        "tokenizer": damaged(TEXT.encode()),
    }
    name = names.get(what, what.removesuffix(".json") + ".json")
    laid(folder, name, content.draw(strategies[what]))
    found = tried("weights folder", ground, lambda: pretrained.load(str(folder)))
    if found is not None:
        config, values, _ = found
        assert {k: v.shape for k, v in values.items()} == params.gpt2_shapes(config)


# A run's folder


def _checkpoint() -> Checkpoint:
    values = _parameters()
    return Checkpoint(
        step=10,
        params=values,
        first_moment=values,
        second_moment=values,
        model=MODEL,
        train=TrainConfig(optimizer=AdamWConfig(), batch_size=2),
        framework="torch",
        data={"batches": 10, "seed": 0},
        tokenizer={"kind": "bytes"},
        random={"seed": 0},
        extra={},
    )


def _sealed(state: bytes) -> bytes:
    """``state`` with the digest that it should have, if it ends as a state does."""
    at = state.rfind(b'"sha256":')
    start = state.find(b'"', at + 9) + 1
    if at < 0 or start == 0:
        return state
    blank = state[:start] + b'"\n}\n'
    return state[:start] + hashlib.sha256(blank).hexdigest().encode() + b'"\n}\n'


@examples("checkpoint")
@given(content=st.data(), what=st.sampled_from(("state", "sealed", "sealed", "tensors", "agreed")))
def test_checkpoint(ground, content, what):
    folder = ground / "run" / "torch" / "checkpoints"
    whole = checkpoint.save(folder, _checkpoint())
    state = json.loads((whole / "state.json").read_text())
    if what in ("state", "sealed"):
        written = content.draw(bent(state))
        laid(whole, "state.json", _sealed(written) if what == "sealed" else written)
    else:
        name = content.draw(st.sampled_from(sorted(state["files"])))
        tensors = content.draw(safetensors((whole / name).read_bytes()))
        laid(whole, name, tensors)
        state["files"][name] = {
            "bytes": len(tensors),
            "sha256": hashlib.sha256(tensors).hexdigest(),
        }
        if what == "agreed":
            laid(whole, "state.json", _sealed(json.dumps(state, indent=2).encode()))
    tried("checkpoint", ground, lambda: checkpoint.load(whole))
    with bounded():
        newest, passed_over = checkpoint.newest([folder])
    assert (newest is None) == bool(passed_over)
    tried("checkpoint", ground, lambda: pretrained.load(str(ground / "run")))


def _run_config() -> RunConfig:
    return resolve(RunSettings(init="weights", data="absent.txt", length=8, batch_size=2), MODEL)


@examples("run folder")
@given(content=st.data(), what=st.sampled_from(("config", "config", "metrics", "tokenizer")))
def test_run_folder(ground, content, what):
    folder = ground / "begun"
    folder.mkdir(exist_ok=True)
    described = {"run": asdict(_run_config()), "corpus": {"sha256": "0" * 64}}
    text = corpus.Corpus(train=np.zeros(9), validation=np.zeros(9), description={"sha256": "1"})
    if what == "config":
        laid(folder, run_folder.CONFIG, content.draw(bent(described)))
        stored = tried("run folder", ground, lambda: run_folder.stored(folder))
        if stored is not None:
            tried("run folder", ground, lambda: changed(stored, RunSettings(steps=900)))
        tried("run folder", ground, lambda: run_folder.check_data(folder, text))
    elif what == "tokenizer":
        path = laid(
            folder, run_folder.TOKENIZER, content.draw(bent({"kind": "bpe", "definition": TEXT}))
        )
        tried("run folder", ground, lambda: tokenizer.from_json(run_folder.read_json(path)))
    else:
        row = {"step": 3, "loss": 2.5, "grad_norm": 1.0, "lr": 1e-3, "tokens_per_s": 9.5}
        rows = [json.dumps(row | {"step": n}).encode() for n in range(4)]
        rows[content.draw(st.integers(0, 3))] = content.draw(bent(row | {"val_loss": 2.0}))
        path = laid(folder, metrics.FILE, content.draw(damaged(b"\n".join(rows))))
        found = tried("run folder", ground, lambda: metrics.read(path, 3))
        for kept in found or []:
            assert kept.step <= 3
            assert np.isfinite(list(kept.to_json().values())).all()


# Records


def _shortened(name: str) -> Any:
    """A committed record with at most a few of each of its rows, so that much can be tried."""

    def short(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: short(part) for key, part in value.items()}
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return [short(part) for part in value[:2]]
        return value

    return short(records.load(name).as_object())


def _speed_record() -> dict[str, Any]:
    """Two rows of a committed record with all of their samples, and their ratio."""
    found = records.load("speed-small-cpu").as_object()
    found["results"] = found["results"][:2]
    first, second = found["results"]
    keys = {field.name: first[field.name] for field in fields(Configuration)}
    keys |= {"numerator": first["contestant"], "denominator": second["contestant"]}
    found["ratios"] = [ratio for ratio in found["ratios"] if keys.items() <= ratio.items()]
    assert len(found["ratios"]) == 1
    return found


def test_the_record_that_is_bent_holds(ground):
    path = laid(ground, "record.json", json.dumps(_speed_record()).encode())
    assert "holds: 2 results" in speed_record.check(path)


@examples("benchmark record")
@given(content=bent(_speed_record()))
def test_benchmark_record(ground, content):
    path = laid(ground, "record.json", content)
    tried("benchmark record", ground, lambda: speed_record.check(path), speed_record.Refused)


RECORDS = {
    "compare-cpu": ("compare:compare-cpu", "machine:compare-cpu"),
    "mutants-cpu": ("mutants:mutants-cpu", "machine:mutants-cpu"),
    "training-cpu": ("learning:training-cpu", "markov:training-cpu"),
    "defaults-cpu": ("defaults:defaults-cpu",),
    "decoding-cpu": ("decoding:decoding-cpu",),
    "findings-cpu": ("findings:findings-cpu",),
    "compile-cpu": ("compile:compile-cpu",),
    "speed-124m-cpu": ("speed:speed-124m-cpu::train", "ceilings:speed-124m-cpu"),
    "speed-ladder-cpu": ("ladder:speed-ladder-cpu",),
}
SHORT = {name: _shortened(name) for name in RECORDS}


@examples("other records")
@given(content=st.data(), name=st.sampled_from(sorted(RECORDS)))
def test_other_records(ground, content, name):
    results = ground / "results"
    results.mkdir(exist_ok=True)
    path = laid(results, f"{name}.json", content.draw(bent(SHORT[name])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "RESULTS", results)
        patch.setattr(
            source_diff, "rooms", lambda found: []
        )  # the sources, which no record changes
        for block in RECORDS[name]:
            page = f"<!-- from {block} -->\n<!-- end -->"
            tried("other records", ground, lambda page=page: markdown.fill(page))
        tried("other records", ground, html.make)
    path.unlink()


def _plan_record() -> dict[str, Any]:
    """What a committed record of plans has of rates, at one size."""
    found = records.load("plan-cpu").as_object()
    kept = {key: found[key] for key in ("environment", "asked", "floors")}
    return kept | {"sizes": [{"ceilings": found["sizes"][0]["ceilings"]}]}


def _plan_by(path: Path) -> int:
    settings = RunSettings(preset="tiny", batch_size=2, length=8)
    options = PlanOptions(devices=2, ceilings=path, settings=settings)
    return command.run(options, Console(file=io.StringIO()))


def test_a_plan_is_made_by_the_record_that_is_bent(ground):
    assert _plan_by(laid(ground, "plan.json", json.dumps(_plan_record()).encode())) == 0


@examples("rates for a plan")
@given(content=bent(_plan_record()))
def test_rates_for_a_plan(ground, content):
    path = laid(ground, "plan.json", content)
    tried("rates for a plan", ground, lambda: _plan_by(path), MismatchedRates)


# Tokens to compare on, and pairs


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(14).reshape(2, 7))
    return buffer.getvalue()


@st.composite
def npy(draw: Any) -> bytes:
    """A ``.npy`` file with bytes damaged, or with another word in its header."""
    whole = _npy()
    if draw(st.booleans()):
        return draw(damaged(whole))
    words = (b"'<i8'", b"(2, 7)", b"False", b"'descr'", b"'fortran_order'", b"'shape'")
    shapes = ("(-1, 7)", "(2**62, 7)", "(0, 7)", "(2, 7, 0)", "(1 << 40, 2)", "()", "(7,)", "7")
    dtypes = ("'|O'", "'<f8'", "'<M8[s]'", "[('a', '<i4')]", "'3<i4'", "'|V8'", "'<U4'", "'>i8'")
    others = (
        "{}",
        "[]",
        "None",
        "1e999",
        "9" * 4400,
        "'\\x'",
        "(" * 300,
        "b'x'",
        "True",
        "0",
        "{0: 1}",
    )
    old = draw(st.sampled_from(words))
    new = draw(st.sampled_from((*shapes, *dtypes, *others))).encode()
    if draw(st.booleans()):
        new = str((draw(st.integers(-9, 2**70)), draw(st.integers(-9, 2**70)))).encode()
    at = whole.index(b"{")
    header = whole[at : whole.index(b"\n")].replace(old, new)
    header = header.strip() + b" " * (-(len(header.strip()) + 11) % 64) + b"\n"
    return whole[:8] + (len(header) % 2**16).to_bytes(2, "little") + header + bytes(112)


@examples("tokens.npy")
@given(content=npy())
def test_tokens(ground, content):
    path = laid(ground, "tokens.npy", content)
    found = tried("tokens.npy", ground, lambda: data.load_tokens(path, MODEL))
    if found is not None:
        assert found.dtype == np.int32
        assert found.max() < MODEL.vocab_size


PAIR = """import numpy as np
from twingrad import Pair
pair = Pair(torch=len, jax=len, torch_loss=max, jax_loss=max, batch=[np.zeros(2)], {more})
"""
LINES = (
    "raise SystemExit(0)", "raise Exception", "import nothing_of_this_name", "pair = 3", "del pair",
    "def f(): f()\nf()", "raise ExceptionGroup('', [ValueError()])", "assert False", "1 / 0",
    "(" * 300, "\0", "# -*- coding: nonsense -*-", "raise ValueError('a\\nb')", "x = '\ud800'",
    "class E(Exception):\n    def __str__(self): raise OSError\nraise E",
)  # fmt: skip
MORE = ("batch=None", "names=3", "jax_batch=[1]", "torch=None", "copy=[]", "name=object()", "x=1")


@examples("pair file")
@given(content=st.data())
def test_pair_file(ground, content):
    whole = PAIR.format(more=content.draw(st.sampled_from((*MORE, "", ""))))
    lines = whole + content.draw(st.sampled_from(("", *LINES)))
    written = lines.encode(errors="surrogatepass")
    if content.draw(st.booleans()):
        written = content.draw(damaged(written))
    path = laid(ground, "a_pair.py", written)
    tried("pair file", ground, lambda: pair.load(path))


# The command line

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
    ("init-pair",): ((), ("{bad}", "{absent}/pair.py", "{folder}")),
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
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(3 * SECONDS)  # the first call loads the frameworks
        status = main(call)
        signal.alarm(0)
    assert status == 2, (call, out.getvalue())
    assert err.getvalue().startswith("twingrad: ")
    assert err.getvalue().count("\n") == 1, err.getvalue()
    assert listing(ground) == before
    assert list(here.iterdir()) == []
    TALLY.setdefault("command line", Counter())["refused"] += 1


@pytest.mark.parametrize("content", [b"", b'{"a": ' * 100_000, WEIGHTS[:99]], ids=len)
def test_a_bad_file_ends_the_program_with_status_2(ground, content):
    path = laid(ground, "bad.json", content)
    run = subprocess.run(
        [sys.executable, "-m", "bench", "bench", "--check", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("twingrad: ")
    assert run.stderr.count("\n") == 1


# Configurations


@st.composite
def configurations(draw: Any) -> tuple[GPTConfig, tuple[int, int]]:
    """A small GPT-2 of any proportions, and how many sequences of what length it is given."""
    heads = draw(st.integers(1, 5))
    # LayerNorm makes 0 of one feature and ±1 of two, whatever they are: its gradient is rounding
    # times 1/sqrt(epsilon), and a gate on relative error has nothing to hold on to.
    width = draw(st.integers(1, 9).filter(lambda width: heads * width > 2))
    config = GPTConfig(
        vocab_size=draw(st.integers(2, 90)),
        context_length=draw(st.integers(1, 24)),
        emb_dim=heads * width,
        n_heads=heads,
        n_layers=draw(st.integers(1, 3)),
        drop_rate=0.0,
        qkv_bias=draw(st.booleans()),
        tie_embeddings=draw(st.booleans()),
    )
    return config, (draw(st.integers(1, 4)), draw(st.integers(1, config.context_length)))


@_settings(EXAMPLES // 50 or 3)
@given(drawn=configurations(), seed=st.integers(0, 2**31))
def test_every_configuration_passes_the_float64_gate(frameworks, drawn, seed):
    config, size = drawn
    program = programs.gpt2(config=config, size=size, seed=seed, steps=1)
    outcome = Comparison(program=program, frameworks=frameworks, device="cpu").run("float64")
    failed = [(t.name, t.factor) for gate in outcome.gates for t in gate.tensors if not t.ok]
    assert outcome.ok, f"{config} on {size}: {failed[:3]}"
    EQUAL.append((config, size, seed))
