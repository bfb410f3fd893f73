"""How readable the texts of the default training run are, in each framework, and what it takes.

``twingrad train`` runs in each framework with no setting but the framework, in a process of its own
with empty caches, so that its time holds everything: imports, training the tokenizer, tokenising,
compiling, validation, checkpoints. Besides the time of the clock, which other work on the machine
lengthens, the time of processors is measured: a run that takes ten minutes of one processor is done
in ten minutes on two, however badly it divides its work. ``twingrad sample`` then goes on from
``PROMPTS``, with every seed of ``SEEDS`` and its default settings. Of each text two things are
counted, in whole lines alone: what follows the last line break is left out, since the text ends
there for want of tokens.

- *Words*: runs of two or more letters, so that ``read_text2`` has the two words ``read`` and
  ``text``. A word is known if it is one of the text that was trained on, in the same upper and
  lower case. The words of the prompt do not count.
- *Lines that open a bracket*, round, square or curly, wherever it stands: in code, in a string, in
  a comment. Such a line is closed if every bracket that it opens is closed on the same line, by its
  own kind and in order, and it closes none that it has not opened. Python's own sources leave some
  open, for the next line to close.

The text that validates is counted in the same way, which shows what can be hoped for, and so are
texts of the preset ``tiny``, whose tokens are bytes.
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from bench.harness import frameworks, machine, terminal
from bench.harness.records import ROOT, Json, Record
from bench.studies.study import Study, StudyOptions, of_record, shared, twins
from bench.training import metrics, run_folder, sample
from bench.training.config import DEFAULT_PRESET
from bench.training.sample import SampleOptions
from shared import corpus, tokenizer
from shared.corpus import Tokens
from shared.tokenizer import END_OF_TEXT, Tokenizer

# They end where a word does: the space before the next word is a part of its token.
PROMPTS = (
    "def",
    "class",
    "import",
    "    def __init__(self",
    "    for",
    "    if not",
    "#",
    '    """Return',
)
SEEDS = range(10)
# The least shares of known words and of closed lines, and the longest run in seconds, of the clock
# or of processors.
WORDS, LINES, SECONDS = 0.8, 0.8, 600.0
# The preset that is measured beside the default, and in which framework.
OTHER = ("tiny", "jax")
_WORD = re.compile(r"[^\W\d_]{2,}")
_CLOSED_BY = {"(": ")", "[": "]", "{": "}"}
_CLOSING = frozenset(_CLOSED_BY.values())


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Words of texts and those known, lines that open a bracket and those closed."""

    words: int
    known: int
    opening: int
    closed: int

    @classmethod
    def of(cls, texts: Iterable[tuple[str, str]], vocabulary: Set[str]) -> "Counts":
        """The counts of (prompt, continuation) pairs."""
        words = known = opening = closed = 0
        for prompt, continuation in texts:
            lines, line_break, _ = continuation.rpartition("\n")
            if not line_break:
                continue
            written = _WORD.findall(lines)
            words += len(written)
            known += sum(word in vocabulary for word in written)
            states = [closes(line) for line in (prompt + lines).split("\n")]
            opening += len(states) - states.count(None)
            closed += states.count(True)
        return cls(words=words, known=known, opening=opening, closed=closed)


def closes(line: str) -> bool | None:
    """Whether ``line`` closes every bracket that it opens; None where it opens none."""
    expected: list[str] = []
    opens, fits = False, True
    for letter in line:
        if letter in _CLOSED_BY:
            opens = True
            expected.append(_CLOSED_BY[letter])
        elif letter in _CLOSING:
            fits = fits and bool(expected) and expected.pop() == letter
    return (fits and not expected) if opens else None


def measure(options: StudyOptions) -> Record:
    """Train the default in each framework, and the other preset in one; count what they write."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="twingrad-") as folder:
        defaults = [_run(DEFAULT_PRESET, name, Path(folder)) for name in frameworks.NAMES]
        runs = [*defaults, _run(*OTHER, Path(folder))]
        out = _folder(Path(folder), DEFAULT_PRESET, frameworks.NAMES[0])
        text, words = _corpus(out)
        vocabulary = frozenset(_WORD.findall(_decoded(text.train, words)))
        validation = Counts.of([("", _decoded(text.validation, words))], vocabulary)
        for run in runs:
            texts: list[str] = run["texts"]
            pairs = zip(PROMPTS * len(SEEDS), texts, strict=True)
            run |= asdict(Counts.of([continued(*pair) for pair in pairs], vocabulary))
        body = {
            "settings": run_folder.read_json(out / run_folder.CONFIG)["run"],
            "corpus": run_folder.read_json(out / run_folder.CONFIG)["corpus"],
            "prompts": list(PROMPTS),
            "seeds": list(SEEDS),
            "bounds": {"words": WORDS, "lines": LINES, "seconds": SECONDS},
            "vocabulary": len(vocabulary),
            "validation": asdict(validation),
            "runs": runs,
            "seconds": time.perf_counter() - began,
        }
    return Record(machine.environment(frameworks.both(), "cpu"), body)


def continued(prompt: str, text: str) -> tuple[str, str]:
    """The prompt and what goes on from it, with a line break between two documents."""
    return prompt, text.removeprefix(prompt).replace(END_OF_TEXT, "\n")


def _folder(folder: Path, preset: str, framework: str) -> Path:
    return folder / f"{preset}-{framework}"


def _run(preset: str, framework: str, folder: Path) -> dict[str, Json]:
    """Train and sample: the time it took, the last validation loss, and the texts."""
    out = _folder(folder, preset, framework)
    command = [sys.executable, "-m", "bench", "train", "--framework", framework]
    command += ["--device", "cpu", "--out", str(out)]
    if preset != DEFAULT_PRESET:
        command += ["--preset", preset]
    cache = str(folder / f"cache-{preset}-{framework}")
    load, began, spent = os.getloadavg()[0], time.perf_counter(), _processor_time()
    # Threads that wait do not spin: what a processor does is then work.
    settings = {"XDG_CACHE_HOME": cache, "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, check=True)
    seconds, processor_s = time.perf_counter() - began, _processor_time() - spent
    about = cast("dict[str, int]", run_folder.read_json(out / run_folder.CONFIG)["corpus"])
    rows = metrics.read(out / framework / metrics.FILE, run_folder.stored(out).steps)
    call = SampleOptions(checkpoint=str(out), framework=framework, device="cpu", prompt=PROMPTS)
    texts = [text for seed in SEEDS for text in sample.texts(replace(call, seed=seed))]
    return {
        "preset": preset,
        "framework": framework,
        "seconds": seconds,
        "processor_s": processor_s,
        "load_before": load,
        "validation_loss": rows[-1].val_loss,
        "bytes_per_token": about["bytes"] / about["tokens"],
        "texts": texts,
    }


def _processor_time() -> float:
    """Seconds of processors that all ended children of this process have taken."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _corpus(out: Path) -> tuple[corpus.Corpus, Tokenizer]:
    """The corpus that the run in ``out`` was trained on, and its tokenizer."""
    stored = run_folder.stored(out)
    words = tokenizer.from_json(run_folder.read_json(out / run_folder.TOKENIZER))
    return corpus.load(stored.data, words, stored.model.vocab_size), words


def _decoded(tokens: Tokens, words: Tokenizer) -> str:
    """The text of ``tokens``, with a line break between two documents."""
    return words.decode(tokens[:]).replace(END_OF_TEXT, "\n")


def holds(record: Record) -> bool:
    """Whether the default keeps all bounds in every framework."""
    return all(
        run["known"] >= WORDS * run["words"]
        and run["closed"] >= LINES * run["opening"]
        and min(run["seconds"], run["processor_s"]) <= SECONDS
        for run in record["runs"]
        if run["preset"] == DEFAULT_PRESET
    )


def lines(record: Record) -> Iterator[str]:
    """What each run took and wrote, and the first text of each."""
    for run in record["runs"]:
        yield (
            f"{run['preset']} in {run['framework']}: {run['seconds']:.0f} s, "
            f"{_share(run, 'known')} of the words known, {_share(run, 'closed')} of the lines "
            "closed"
        )
        yield run["texts"][0]


def _share(counts: dict[str, Json], part: str) -> str:
    whole = counts["words" if part == "known" else "opening"]
    return f"{counts[part] / whole:.1%} of {whole:,}"


def markdown(record: Record) -> str:
    """A table of what each run took and wrote, and one text."""
    settings, bounds = record["settings"], record["bounds"]
    steps = settings["train"]["optimizer"]["total_steps"]
    table = [
        f"The default, `{DEFAULT_PRESET}`: {steps:,} steps of {settings['train']['batch_size']} x "
        f"{settings['length']} tokens, of a vocabulary of {settings['model']['vocab_size']:,} that "
        f"is trained on the text. {len(record['prompts'])} prompts are continued with "
        f"{len(record['seeds'])} seeds each. The bounds: {bounds['words']:.0%} of the words known, "
        f"{bounds['lines']:.0%} of the lines closed, {bounds['seconds']:.0f} s of the clock, or of "
        "processors where the clock counts other work too.",
        "",
        "| | the whole run | time of processors | validation loss, nats per byte | words known "
        "| lines closed |",
        "|---|---|---|---|---|---|",
    ]
    for run in record["runs"]:
        name = terminal.NAMES[run["framework"]]
        preset = "" if run["preset"] == DEFAULT_PRESET else f", `--preset {run['preset']}`"
        table.append(
            f"| {name}{preset} | {run['seconds']:.0f} s | {run['processor_s']:.0f} s | "
            f"{run['validation_loss'] / run['bytes_per_token']:.3f} | "
            f"{_share(run, 'known')} | {_share(run, 'closed')} |"
        )
    known, closed = (_share(record["validation"], part) for part in ("known", "closed"))
    table.append(f"| the text that validates | | | | {known} | {closed} |")
    first = record["runs"][0]["texts"][0]
    return "\n".join([*table, "", "```text", *first.splitlines(), "```"])


STUDY = Study(
    name="writing",
    claim="Within ten minutes on two cores the default run of each framework writes readable text",
    sources=(
        *twins("gpt2", "loss", "optim", "train", "generate", "params", "runtime"),
        *shared("config", "corpus/*", "data", "loader", "params", "sampling", "schedule"),
        *shared("tokenizer", "train_state"),
        "bench/training/config.py",
    ),
    measure=measure,
    lines=lines,
    holds=holds,
    blocks={"writing": of_record(markdown)},
)
