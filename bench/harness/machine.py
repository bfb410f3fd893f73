"""Facts about the machine and the commit that a measurement was made on."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from bench.harness.frameworks import Framework
from bench.harness.records import load
from twingrad import environment as facts

Clocks: TypeAlias = dict[str, object]


class Environment(facts.Environment, total=False):
    """Machine, versions and commit of a record; of a benchmark also the machine's state."""

    load_average: list[float]
    threads: int
    environment_variables: dict[str, str]
    clocks: Clocks


def environment(sides: tuple[Framework, ...], device: str) -> facts.Environment:
    """Hardware, versions and commit; numeric settings stand with each outcome."""
    versions: dict[str, str] = {}
    for side in sides:
        versions |= side.runtime.versions()
    return facts.environment(device, versions)


def measured_on(argument: str) -> str:
    """One sentence on where a record was measured, and in how long if it says so."""
    record = load(argument)
    environment, seconds = record.environment, record.body.get("seconds")
    hardware, versions = environment["hardware"], environment["versions"]
    named = ", ".join(
        f"{name} {versions[key]}"
        for name, key in (
            ("Python", "python"),
            ("PyTorch", "torch"),
            ("JAX", "jax"),
            ("Flax", "flax"),
            ("NumPy", "numpy"),
        )
        if key in versions
    )
    memory = hardware["memory_bytes"] / 2**30
    took = f" in {_duration(seconds)}" if isinstance(seconds, float) else ""
    return (
        f"Measured{took} on {hardware['processor']}, {hardware['cores']} cores, {memory:.0f} GiB, "
        f"device {environment['device']}; {named}; record `bench/results/{argument}.json`."
    )


def _duration(seconds: float) -> str:
    """Seconds up to two minutes, and whole minutes from there on."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def free_memory(device: str) -> float:
    """Bytes that are free for a model: on the device, and on the host beside it."""
    free, path = 8e9, Path("/proc/meminfo")
    if path.exists():
        lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
        free = 1024.0 * int(lines["MemAvailable"].split()[0])
    if device != "cuda":
        return free
    mebibytes = _smi(("memory.free",)).get("memory.free", "")
    return min(free, 2.0**20 * float(mebibytes)) if mebibytes.isdecimal() else free


def benchmark_environment(device: str) -> Environment:
    """The environment with load, threads and clocks now, without versions of frameworks."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    return {
        **environment((), device),
        "load_average": list(os.getloadavg()),
        "threads": len(os.sched_getaffinity(0)),
        "environment_variables": {name: os.environ[name] for name in names if name in os.environ},
        "clocks": clocks(device),
    }


_QUERY = ("name", "driver_version", "clocks.sm", "clocks.mem", "temperature.gpu", "power.draw")


def clocks(device: str) -> Clocks:
    """Clocks and temperature now: of the GPU by nvidia-smi, of a CPU as the kernel has them."""
    if device == "cuda":
        return dict(_smi(_QUERY))
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    cpu_mhz = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    heat = [
        int(p.read_text()) / 1000 for p in Path("/sys/class/thermal").glob("thermal_zone*/temp")
    ]
    return {"cpu_mhz": cpu_mhz, "celsius": heat} if heat else {"cpu_mhz": cpu_mhz}


def gpu_name() -> str:
    """The name of the first GPU; empty where there is none."""
    return _smi(("name",)).get("name", "")


def _smi(names: tuple[str, ...]) -> dict[str, str]:
    """Values of the first GPU by nvidia-smi; nothing where there is none."""
    command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return {}
    first, *_ = done.stdout.splitlines() or [""]  # a line for each GPU
    return dict(zip(names, (part.strip() for part in first.split(",")), strict=False))


class Load:
    """The machine's work for anything but this process and all that it started, by the kernel."""

    def __init__(self) -> None:
        self.busy, self.own = _busy_seconds(), own_seconds()

    def others(self, seconds: float) -> float:
        """Cores that anything else kept busy since, on average; what a host stole counts."""
        if seconds <= 0:
            return 0.0
        return max(0.0, ((_busy_seconds() - self.busy) - (own_seconds() - self.own)) / seconds)


def _busy_seconds() -> float:
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(
        int, stat.read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """CPU seconds of this session's processes, and of those that they waited for."""
    times, session = os.times(), str(os.getsid(0))
    total = times.user + times.system + times.children_user + times.children_system
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            words = path.read_text().rpartition(")")[2].split()
            if words[3] == session and path.parent.name != str(os.getpid()):
                total += sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")
    return total
