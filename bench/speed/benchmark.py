"""``twingrad bench``: both frameworks and their peers, timed side by side on the same work.

Every contestant has a process of its own, is certified against the float64 oracle at the very
configuration that is timed, and takes its samples in turn with the others. What is found becomes a
record that ``--check`` can judge without having seen the machine.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from bench.harness import frameworks, machine, programs, records
from bench.harness.machine import free_memory, gpu_clocks, hardware_state
from bench.speed import ceilings, scheduler, schema, statistics
from bench.speed import record as speed_record
from bench.speed import workloads as kinds
from bench.speed.backends.backend import Job, write_batches
from bench.speed.contestants import Contestant, Settings, choose, peers
from bench.speed.reference import Question
from bench.speed.results import datasheet, ratios, result_status
from bench.speed.scheduler import Entry, Failed, Process
from bench.speed.workloads import Stage
from shared import data, params

Batch = tuple[np.ndarray, ...]
BATCHES = 8
# Samples that are wanted of each contestant, and the time a call may take where nothing is said.
WANTED = 7
DEFAULT_BUDGET = 180.0
UNLIMITED = 1e9
# What is started where nobody is named.
CONTESTANTS = ("jax-tuned", "torch-tuned", "jax-idiomatic", "torch-idiomatic")
# Starts of each contestant, a new process every time, where no budget is to be kept: the same code
# has another speed in another process.
STARTS = 4
# Cold starts of each contestant with each cache, at least: one is one sample.
COLD_STARTS = 3
# Samples that a process gives at least where there are several.
EACH = 3
# The share of free memory that processes of one heat may come to.
MEMORY_SHARE = 0.8


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A call of ``bench``, its words already checked against the choices there are."""

    workloads: tuple[str, ...] = ()
    preset: str | None = None
    device: str = "auto"
    contestants: tuple[str, ...] = ()
    peers: dict[str, Path] = field(default_factory=dict)
    json: Path | None = None
    budget: float | None = None
    dtype: str | None = None
    batch_size: int | None = None
    length: int | None = None
    samples: int = WANTED
    starts: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """One start of a stage: a process for each contestant, which take turns."""

    stage: Stage
    number: int
    of: int
    folder: Path

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        count = f", start {self.number + 1} of {self.of}" if self.of > 1 else ""
        return self.stage.title + count


# A workload of a stage, and the rows that are decoded at once.
Leg = tuple[str, int]


class Bench:
    """One call: what is planned, what was found."""

    def __init__(self, asked: Asked):
        self.asked = asked
        self.tell: Callable[[str], Any] = lambda text: None
        self.started = time.monotonic()
        brought = peers(asked.peers)
        names = asked.contestants or CONTESTANTS
        named = {one.family for one in brought if {one.name, one.family} & set(names)}
        # Who is brought along races, in all its forms unless one of them is named.
        names += tuple(one.name for one in brought if one.family not in named)
        self.device = _device(asked.device)
        self.chosen = choose(list(names), self.device, brought)
        if not asked.contestants:  # whoever has one framework races its half
            self.chosen = [one for one in self.chosen if frameworks.installed(one.framework)]
        _installed(self.chosen)
        self.workloads = asked.workloads or kinds.DEFAULT[self.device]
        self.preset = asked.preset or ("124m" if self.device == "cuda" else "small")
        self.dtype = asked.dtype or ("bfloat16" if self.device == "cuda" else "float32")
        # A call without arguments is to end in three minutes, and has no time for all ceilings.
        plain = not asked.workloads and not asked.preset and self.device == "cpu"
        self.brief = plain and asked.budget is None
        self.budget = DEFAULT_BUDGET if self.brief else asked.budget
        self.starts = asked.starts or (1 if self.budget else STARTS)
        self.method = {
            "formula": kinds.FORMULA,
            "quiet_cores": scheduler.QUIET,
            "starts": self.starts,
            "resampled": statistics.RESAMPLED,
            "covered": statistics.COVERED,
            "spread": statistics.SPREAD,
        }
        self.stages = kinds.plan(
            self.workloads, self.preset, self.device, self.chosen, asked.batch_size, asked.length
        )
        taken = {workload for stage in self.stages for workload in stage.workloads}
        left = [workload for workload in self.workloads if workload not in taken]
        if not taken:
            raise ValueError(
                f"none of {', '.join(one.name for one in self.chosen)} takes part in "
                f"{', '.join(left)}: name another contestant, or another --workload"
            )
        nobody = "none of the contestants takes part in it"
        self.results: list[dict[str, Any]] = []
        self.ratios: list[dict[str, Any]] = []
        self.ceilings: list[dict[str, Any]] = []
        self.skipped = [{"stage": workload, "why": nobody} for workload in left]
        self.seen: list[dict[str, Any]] = []
        self.interrupted = False

    def elapsed(self) -> float:
        """Seconds since the call."""
        return time.monotonic() - self.started

    def left(self) -> float:
        """Seconds of the budget that remain."""
        return (self.budget or UNLIMITED) - self.elapsed()

    def measure(self) -> None:
        """Every stage within the budget; the record is written after each."""
        self._measure_ceilings()
        total = len(self.stages)
        took: dict[tuple[str, ...], float] = {}
        for number, stage in enumerate(self.stages):
            # The programs of overhead are alike: one shows how long another takes.
            alike = stage.workloads if stage.program != "gpt2" else (*stage.workloads, stage.title)
            needed = took.get(alike, 0.1 * (self.budget or 0))
            if self.left() < needed:
                why = (
                    f"{max(0.0, self.left()):.0f} s of the budget of {self.budget:.0f} s were "
                    f"left, and it takes {needed:.0f} s or more"
                )
                self.skipped.append({"stage": stage.title, "why": why})
                continue
            begun, share = self.elapsed(), self.left() / (total - number)
            # The first stages matter most: they may take twice their share.
            until = time.monotonic() + min(2 * share, self.left())
            try:
                for heat in self._heats(stage):
                    self._stage(heat, until)
            except Failed as failure:
                why = f"its float64 oracle failed: {failure}"
                self.skipped.append({"stage": stage.title, "why": why})
            took[alike] = self.elapsed() - begun
            if self.asked.json:
                records.write_json(self.asked.json, self.report())

    def _measure_ceilings(self) -> None:
        config = next((s.config for s in self.stages if s.program == "gpt2"), None)
        if config is None:
            return
        stage = next(s for s in self.stages if s.program == "gpt2")
        for framework in dict.fromkeys(one.framework for one in self.chosen):
            two = framework == "torch" and self.device == "cpu" and not self.brief
            for fast in (False, True) if two else (True,):
                self.tell(f"ceilings of {framework}")
                name = f"{framework} alone"
                entry = Entry(contestant=_plain(name, framework), label=name)
                with scheduler.stable([entry]) as folder:
                    self._start(entry, folder)
                    try:
                        found = entry.ask(
                            "ceilings",
                            scheduler.WAIT_S["work"],
                            framework=framework,
                            config=config,
                            batch_size=stage.batch_size,
                            length=stage.length,
                            dtype=self.dtype,
                            device=self.device,
                            fast=fast,
                            parts=not self.brief,
                        )
                    except Failed:
                        continue
                self.ceilings.append(found)

    def _heats(self, stage: Stage) -> list[Stage]:
        """The stage, divided where not all its processes fit into memory at once.

        The first contestant then runs in every part, so that all can be held against it.
        """
        each = _needs(stage)
        free = MEMORY_SHARE * free_memory(self.device)
        fit = max(2, int(free // each))
        if stage.workloads == ("cold",) or len(stage.contestants) <= fit:
            return [stage]
        first, *others = stage.contestants
        step = fit - 1
        parts = [others[i : i + step] for i in range(0, len(others), step)]
        return [replace(stage, contestants=(first, *part)) for part in parts]

    def _stage(self, stage: Stage, until: float) -> None:
        if stage.workloads == ("cold",):
            return self._cold(stage, until)
        values, batches = _given(stage)
        legs = [(workload, 0) for workload in stage.workloads if workload != "decode"]
        legs += [("decode", rows) for rows in stage.rows]
        # What is found of a contestant in one leg, over all its processes.
        found = {
            leg: {
                one.name: Entry(contestant=one, label=one.name)
                for one in stage.contestants
                if not leg[1] or one.decodes
            }
            for leg in legs
        }
        # Growth is of twelve sizes, and its exponents average over them.
        starts = (self.asked.starts or 1) if stage.workloads == ("growth",) else self.starts
        try:
            with scheduler.stable() as folder:
                _write(folder, values, batches)
                # Loss and gradients are certified by one answer, for all that takes batches.
                self._oracle(stage, folder, "loss", batches[:2])
                for number in range(starts):
                    now = time.monotonic()
                    if number and now > until:
                        break
                    sitting = Sitting(stage=stage, number=number, of=starts, folder=folder)
                    ends = now + max(1.0, (until - now) / (starts - number))
                    self._sit(sitting, found, ends)
        finally:
            for (workload, rows), entries in found.items():
                variant = f"batch {rows}" if rows else stage.variant
                self._keep(stage, workload, variant, rows, list(entries.values()))

    def _sit(
        self,
        sitting: Sitting,
        found: dict[Leg, dict[str, Entry]],
        until: float,
    ) -> None:
        """A new process for each contestant that has not failed, and every leg with them."""
        everybody = sitting.stage.contestants
        shift = sitting.number % len(everybody)  # each time another one goes first
        entries = [
            Entry(contestant=one, label=one.name)
            for one in (*everybody[shift:], *everybody[:shift])
            if any(own[one.name].failed is None for own in found.values() if one.name in own)
        ]
        with scheduler.ending(entries):
            self._make(sitting, entries)
            share = max(1.0, until - time.monotonic()) / len(found)
            for number, (leg, kept) in enumerate(found.items(), start=1):
                racing = [e for e in entries if e.label in kept and kept[e.label].failed is None]
                for entry in racing:
                    entry.samples, entry.ready = [], {}
                try:
                    self._leg(sitting, leg, racing, until - share * (len(found) - number))
                finally:
                    for entry in racing:
                        kept[entry.label].add(entry)

    def _make(self, sitting: Sitting, entries: list[Entry]) -> None:
        """Start them, all at once: nothing is timed yet."""
        self.tell(f"{sitting.title}: starting {', '.join(entry.label for entry in entries)}")
        for entry in entries:
            self._start(entry, sitting.folder)
            assert entry.process is not None
            entry.process.send(
                "make",
                job=self._job(sitting.stage, entry.contestant),
                **_lies(sitting.folder),
            )
        for entry in entries:
            with suppress(Failed):
                # They share the cores.
                entry.answer("make", scheduler.WAIT_S["start"] * len(entries))
                entry.made = True

    def _leg(self, sitting: Sitting, leg: Leg, entries: list[Entry], until: float) -> None:
        """One workload of a stage: warm up and certify in turn, then round by round."""
        workload, rows = leg
        stage, folder = sitting.stage, sitting.folder
        asked: dict[str, Any] = {"workload": "train" if workload == "growth" else workload}
        if rows:
            prompts = data.token_batch(stage.config, rows, kinds.PROMPT - 1, 100)
            asked |= {"prompts": prompts, "new_tokens": kinds.FOLLOWING}
            self._oracle(stage, folder, f"decode {rows}", prompts=prompts)
        for entry in entries:
            if not entry.alive:
                entry.failed = entry.failed or "died while others had their turn"
                continue
            entry.failed = None
            self.tell(f"{workload}, {sitting.title}: {entry.label} warms up and is certified")
            try:
                if rows:
                    entry.ask("judged_by", 60, answer=str(folder / f"decode {rows}"))
                entry.ready = entry.ask("ready", scheduler.WAIT_S["work"], **asked)
                entry.state = entry.state or entry.ask("state", scheduler.WAIT_S["work"])
            except Failed:
                continue
            if not entry.ready["parity"]["ok"]:
                entry.failed = "parity"
        each = self.asked.samples
        if sitting.of > 1:
            each = max(EACH, -(-each // sitting.of))
        self.seen += scheduler.rounds(
            entries,
            asked,
            wanted=each,
            until=until,
            start=sitting.number,
            least=min(scheduler.LEAST, each),
            tell=lambda text: self.tell(f"{workload}, {sitting.title}: {text}"),
            check=lambda: gpu_clocks(self.device),
        )

    def _oracle(
        self,
        stage: Stage,
        folder: Path,
        name: str,
        batches: list[Batch] | None = None,
        prompts: np.ndarray | None = None,
    ) -> None:
        if (folder / name).exists():  # answered for a process before
            return
        self.tell(f"{stage.title}: the float64 oracle")
        (folder / name).mkdir()
        framework = "torch" if frameworks.installed("torch") else "jax"
        entry = Entry(contestant=_plain("oracle", framework), label="oracle")
        question = Question(
            side=framework,
            program=stage.program,
            config=stage.config,
            optimizer=stage.optimizer,
            dtype=self.dtype,
            batches=tuple(batches) if batches else None,
            prompts=prompts,
            new_tokens=kinds.FOLLOWING if prompts is not None else 0,
        )
        try:
            self._start(entry, folder)
            entry.ask(
                "oracle",
                scheduler.WAIT_S["work"],
                question=question,
                params=str(folder / "params"),
                folder=str(folder / name),
            )
        finally:
            if entry.process is not None:
                entry.process.end()

    def _cold(self, stage: Stage, until: float) -> None:
        """Process start to first loss, with compilation caches empty and filled."""
        values, batches = _given(stage)
        entries = {
            (one.name, cache): Entry(contestant=one, label=one.name)
            for one in stage.contestants
            for cache in ("empty cache", "filled cache")
        }
        try:
            with scheduler.stable(list(entries.values())) as folder:
                _write(folder, values, batches[:2])
                self._oracle(stage, folder, "loss", batches[:2])
                for turn in range(max(COLD_STARTS, self.starts)):
                    if turn and time.monotonic() > until:
                        break
                    # The empty cache is filled by the start that finds it empty.
                    for (name, cache), entry in entries.items():
                        self.tell(f"cold, {stage.title}: {name}, {cache}, start {turn + 1}")
                        self._cold_start(stage, entry, folder, turn)
        finally:
            for cache in ("empty cache", "filled cache"):
                own = [entry for (_, found), entry in entries.items() if found == cache]
                self._keep(stage, "cold", cache, 0, own)

    def _keep(
        self, stage: Stage, workload: str, variant: str, rows: int, entries: list[Entry]
    ) -> None:
        """Rows and ratios of what was found, if anything was: Ctrl-C loses no sample."""
        if any(entry.samples or entry.failed for entry in entries):
            found = [self._row(stage, workload, variant, rows, entry) for entry in entries]
            self.results += found
            self.ratios += ratios(found, self.method)

    def _cold_start(self, stage: Stage, entry: Entry, folder: Path, turn: int) -> None:
        if entry.failed:
            return
        caches = folder / f"caches-{turn}"
        begun = time.perf_counter()
        try:
            self._start(entry, folder, caches)
            entry.ask(
                "make",
                scheduler.WAIT_S["start"],
                job=self._job(stage, entry.contestant),
                **_lies(folder),
            )
            answer = entry.ask("first", scheduler.WAIT_S["work"])
            seconds = time.perf_counter() - begun
            entry.state = entry.state or entry.ask("state", scheduler.WAIT_S["work"])
        except Failed:
            return
        finally:
            if entry.process is not None:
                entry.process.end()
        ready = {**answer, "first_s": seconds, "step_s": seconds, "peak_bytes": {}}
        found = Entry(contestant=entry.contestant, label=entry.label, ready=ready)
        found.samples = [scheduler.Sample(turn, turn, seconds, answer["others"])]
        found.failed = None if answer["parity"]["ok"] else "parity"
        entry.add(found)

    def _start(self, entry: Entry, folder: Path, caches: Path | None = None) -> None:
        environment = scheduler.environment(entry.contestant, caches or folder)
        if caches is not None:
            environment |= {
                "JAX_ENABLE_COMPILATION_CACHE": "true",
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            }
        entry.process = Process(entry.contestant.name.replace(" ", "-"), environment, folder)

    def _job(self, stage: Stage, contestant: Contestant) -> Job:
        return Job(
            contestant=contestant,
            program=stage.program,
            config=stage.config,
            optimizer=stage.optimizer,
            batch_size=stage.batch_size,
            length=stage.length,
            dtype="float32" if stage.program != "gpt2" else self.dtype,
            device=self.device,
        )

    def _row(
        self, stage: Stage, workload: str, variant: str, rows: int, entry: Entry
    ) -> dict[str, Any]:
        """One contestant's result, timed or not."""
        one, ready = entry.contestant, entry.ready
        found: dict[str, Any] = {
            "workload": workload,
            "variant": variant,
            "preset": stage.preset or stage.program,
            "contestant": one.name,
            "framework": one.framework,
            "tier": one.tier,
            "status": result_status(entry),
            "batch_size": rows or stage.batch_size,
            "length": kinds.PROMPT + kinds.FOLLOWING if rows else stage.length,
            "n_layers": stage.config.n_layers if stage.program == "gpt2" else 0,
            "dtype": self.dtype if stage.program == "gpt2" else "float32",
            "about": one.described(),
            "state": entry.state,
            "parity": ready.get("parity") or {"ok": False, "reason": entry.failed},
            "samples": [asdict(sample) for sample in entry.samples],
        }
        counted = speed_record.counted(found["samples"], scheduler.QUIET)
        if found["status"] != "timed":
            return found | {"samples": [], "samples_s": []}
        found |= {"samples_s": counted, **statistics.summary(counted)}
        peak = ready["peak_bytes"]
        found |= {
            "first_s": ready["first_s"],
            "step_s": ready["step_s"],
            "peak_bytes": peak.get("device", peak.get("host")),
            "peak_host_bytes": peak.get("host"),
        }
        # A step's or a continuation's work, of which all rates follow.
        work: dict[str, float] = {}
        if rows:
            itemsize = 2 if self.dtype == "bfloat16" else 4
            needed = kinds.decode_bytes(stage.config, itemsize) * kinds.FOLLOWING
            work = {"tokens": rows * kinds.FOLLOWING, "bytes": needed}
        elif stage.program == "gpt2" and workload != "cold":
            flops = kinds.flops(
                "train" if workload == "growth" else workload,
                stage.config,
                stage.batch_size,
                stage.length,
            )
            work = {"tokens": stage.batch_size * stage.length, "flops": flops}
        found |= {"work": work, "datasheet_flops_per_s": datasheet(self.device)}
        return found | speed_record.derived(found, ceilings.best(self.ceilings), scheduler.QUIET)

    def report(self) -> dict[str, Any]:
        """The record, as the JSON contract and the schema have it."""
        found: dict[str, Any] = {
            "schema": schema.VERSION,
            "environment": machine.environment((), self.device) | hardware_state(self.device),
            "asked": {
                "workloads": list(self.workloads),
                "preset": self.preset,
                "dtype": self.dtype,
                "budget_s": self.budget,
                "samples": self.asked.samples,
            },
            "method": self.method,
            "seconds": self.elapsed(),
            "interrupted": self.interrupted,
            "skipped": self.skipped,
            "ceilings": self.ceilings,
            "clocks": self.seen,
            "results": self.results,
            "ratios": self.ratios,
            "growth": speed_record.growth(self.results),
        }
        for row in self.results:
            found["environment"]["versions"] |= row["state"].get("versions", {})
        return found


def _given(stage: Stage) -> tuple[params.Params, list[Batch]]:
    """Parameters and batches that every contestant of a stage starts from."""
    if stage.program != "gpt2":
        program = programs.make(stage.program, steps=BATCHES)
        return program.params, program.batches
    # Spread gains and biases: at ones and zeros, a dropped one would go unnoticed.
    values = params.init_gpt2(stage.config, 0, programs.SPREAD)
    drawn = [
        data.token_batch(stage.config, stage.batch_size, stage.length, seed)
        for seed in range(BATCHES)
    ]
    return values, [data.split_tokens(batch) for batch in drawn]


def _write(folder: Path, values: params.Params, batches: list[Batch]) -> None:
    """Lay down what every contestant of a stage starts from."""
    save_file({n: np.asarray(v, order="C") for n, v in values.items()}, folder / "params")
    write_batches(folder / "batches", batches)


def _lies(folder: Path) -> dict[str, str]:
    """Where that lies, and what it is judged by."""
    return {"params": str(folder / "params"), "batches": str(folder / "batches"),
            "answer": str(folder / "loss")}  # fmt: skip


def _plain(name: str, framework: str) -> Contestant:
    return Contestant(
        name=name, family="", framework=framework, tier="", racer="", about="", settings=Settings()
    )


def _needs(stage: Stage) -> float:
    """Bytes that a contestant will use, roughly: parameters, gradients, moments, and logits."""
    if stage.program != "gpt2":
        return 5e8
    count = params.count(params.gpt2_shapes(stage.config))
    logits = stage.batch_size * stage.length * stage.config.vocab_size
    return 5e8 + 4 * (6 * count + 3 * logits)


def _device(device: str) -> str:
    present = tuple(frameworks.one(name) for name in frameworks.NAMES if frameworks.installed(name))
    if not present:
        raise ValueError("neither framework is installed: pip install 'twingrad[torch,jax]'")
    if device == "cpu":
        return device
    # The frameworks are asked in a process that ends: this one must stay free of them.
    names = [side.name for side in present]
    code = (
        "from bench import sides; "
        f"print(sides.pick_device({device!r}, tuple(map(sides.one, {names}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=records.ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ValueError(done.stderr.strip().splitlines()[-1].removeprefix("ValueError: "))
    return done.stdout.split()[-1]


def _installed(contestants: list[Contestant]) -> None:
    for framework in dict.fromkeys(one.framework for one in contestants):
        frameworks.one(framework)
    if any(one.racer == "hf" for one in contestants):
        try:
            import importlib.metadata

            importlib.metadata.version("transformers")
        except importlib.metadata.PackageNotFoundError:
            raise ValueError("contestant hf needs transformers: pip install transformers") from None
