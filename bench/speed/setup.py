"""Setup of a benchmark: device, contestants, sizes and stages, resolved from the options."""

import importlib.util
import subprocess
import sys
from dataclasses import dataclass

from bench.harness import frameworks, records
from bench.speed import contestants, scheduler, statistics, workloads
from bench.speed.contestants import Contestant
from bench.speed.options import (
    CONTESTANTS,
    DEFAULT_BUDGET,
    DEFAULT_DTYPES,
    DEFAULT_PRESETS,
    STARTS,
    BenchOptions,
)
from bench.speed.results import Method
from bench.speed.workloads import Stage
from twingrad.cli import surroundings
from twingrad.environment import install_command


@dataclass(frozen=True, kw_only=True)
class BenchSetup:
    """The workloads, contestants and method of one call.

    ``brief`` calls have no time for all ceilings. In ``left_out`` workloads no contestant takes
    part.
    """

    options: BenchOptions
    device: str
    contestants: tuple[Contestant, ...]
    workloads: tuple[str, ...]
    preset: str
    dtype: str
    brief: bool
    budget: float | None
    starts: int
    stages: tuple[Stage, ...]
    left_out: tuple[str, ...]

    @property
    def method(self) -> Method:
        """How samples are taken and intervals computed."""
        return Method(
            formula=workloads.FORMULA,
            quiet_cores=scheduler.quiet_cores(),
            starts=self.starts,
            resampled=statistics.RESAMPLED,
            covered=statistics.COVERED,
            spread=statistics.SPREAD,
        )

    def dtype_of(self, stage: Stage) -> str:
        """The dtype in which a stage computes: the small programs know float32 alone."""
        return self.dtype if stage.program == "gpt2" else "float32"


def resolve(options: BenchOptions) -> BenchSetup:
    """The setup that the options ask for; ``ValueError`` says what is wrong with them."""
    device = pick_device(options.device)
    chosen = _chosen(options, device)
    named = options.workloads or workloads.DEFAULT[device]
    preset = options.preset or DEFAULT_PRESETS[device]
    brief = options.plain and device == "cpu" and options.budget_s is None
    budget = DEFAULT_BUDGET if brief else options.budget_s
    stages = workloads.stages(named, preset, device, chosen, options.batch_size, options.length)
    taken = {workload for stage in stages for workload in stage.workloads}
    left_out = tuple(workload for workload in named if workload not in taken)
    if not taken:
        raise ValueError(
            f"none of {', '.join(one.name for one in chosen)} takes part in "
            f"{', '.join(left_out)}: name another contestant, or another --workload"
        )
    return BenchSetup(
        options=options,
        device=device,
        contestants=tuple(chosen),
        workloads=named,
        preset=preset,
        dtype=options.dtype or DEFAULT_DTYPES[device],
        brief=brief,
        budget=budget,
        starts=options.starts or (1 if budget else STARTS),
        stages=tuple(stages),
        left_out=left_out,
    )


def _chosen(options: BenchOptions, device: str) -> list[Contestant]:
    peers = contestants.peers(options.peers)
    names = options.names or CONTESTANTS
    named = {peer.family for peer in peers if {peer.name, peer.family} & set(names)}
    # A peer takes part in all its forms, unless one of them is named.
    names += tuple(peer.name for peer in peers if peer.family not in named)
    chosen = contestants.choose(list(names), device, peers)
    if not options.names:  # with one framework installed, its half is measured
        chosen = [one for one in chosen if frameworks.installed(one.framework)]
    for framework in dict.fromkeys(one.framework for one in chosen):
        frameworks.one(framework)  # raises where it is not installed
    transformers = any(one.backend == "hf" for one in chosen)
    if transformers and importlib.util.find_spec("transformers") is None:
        raise ValueError("contestant hf needs transformers: pip install transformers")
    return chosen


def pick_device(device: str) -> str:
    """The device by the name that all installed frameworks have for it."""
    names = [name for name in frameworks.NAMES if frameworks.installed(name)]
    if not names:
        raise ValueError(f"neither framework is installed: {install_command(*frameworks.NAMES)}")
    if device == "cpu":
        return device
    # The frameworks are loaded in a process that ends: this one must stay free of them.
    code = (
        "from bench.harness import frameworks; "
        f"print(frameworks.pick_device({device!r}, tuple(map(frameworks.one, {names}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=records.ROOT, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        advice = surroundings.advice(done.stderr)
        raise ValueError("; ".join(filter(None, (last.removeprefix("ValueError: "), advice))))
    return done.stdout.split()[-1]
