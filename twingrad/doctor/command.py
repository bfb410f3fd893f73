"""Run ``twingrad doctor``: examine the installation, print and write what was found."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from twingrad import compile_cache
from twingrad.cli.options import option
from twingrad.doctor import installation, probe, problems
from twingrad.doctor.installation import NAMES, CacheFolder, Package
from twingrad.doctor.probe import Answer
from twingrad.doctor.problems import Examined, Problem
from twingrad.environment import NEEDS, checkout, installed_versions
from twingrad.files import require_writable, write_json
from twingrad.terminal import progress, put, table

_ASKED = "what has to work"


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """Options of ``doctor``."""

    framework: str | None = option(
        None,
        group=_ASKED,
        choices=("torch", "jax", "both"),
        otherwise="what is installed, at least one",
        help="the frameworks that have to work",
    )
    device: str = option(
        "auto",
        group=_ASKED,
        choices=("auto", "cpu", "cuda"),
        help="the device that they have to compute on; auto is every device they see",
    )
    timeout: float = option(
        60.0, metavar="S", help="seconds that a framework has to answer, before it is ended"
    )
    json: Path | None = option(None, metavar="FILE", help="all that was found out, as JSON")

    def __post_init__(self) -> None:
        if not 0 < self.timeout < float("inf"):
            raise ValueError(f"--timeout is {self.timeout:g}: expected seconds, over 0")

    @property
    def asked(self) -> tuple[str, ...]:
        """The frameworks that have to work; none where any one of them will do."""
        both = tuple(NEEDS)
        return both if self.framework == "both" else (self.framework,) if self.framework else ()


def run(options: DoctorOptions, console: Console) -> int:
    """Examine, print and write; 0 if what was asked for can be used, else 1."""
    require_writable(options.json)
    # JAX comes with other packages too: without Flax nobody has installed it to use it.
    present = [
        name for name, needs in NEEDS.items() if len(installed_versions(needs)) == len(needs)
    ]
    with progress(console) as say:
        say(f"asking {' and '.join(NAMES[name] for name in present)}")
        answers = probe.ask(present, options.timeout)
    examined = Examined(
        packages=list(installation.packages()),
        answers=answers,
        asked=options.asked,
        device=options.device,
        gpus=installation.gpus(),
        compiler=installation.compiler(),
        variables=installation.variables(),
        checkout=checkout() is not None,
    )
    found = problems.find(examined)
    compiled = compile_cache.inspect()
    caches = installation.caches(answers.get("jax", {}).get("cache") or compiled.folder)
    show(console, examined, caches, found)
    if options.json:
        write_json(options.json, as_object(examined, caches, found))
    return 1 if any(problem.blocks for problem in found) else 0


def show(
    console: Console, examined: Examined, caches: list[CacheFolder], found: list[Problem]
) -> None:
    """Print everything, and at the end what to do about it."""
    _show_packages(console, examined.packages)
    _show_frameworks(console, examined.answers)
    _show_machine(console, examined, caches)
    if not found:
        console.print("Nothing is missing.")
    for problem in found:
        mark = "[red]missing[/red]" if problem.blocks else "[yellow]note[/yellow]"
        console.print(f"{mark}  {escape(problem.what)}")
        console.print(f"      -> {escape(problem.fix)}", soft_wrap=True)
    blocking = [problem.what for problem in found if problem.blocks]
    usable = [NAMES[n] for n, answer in examined.answers.items() if "error" not in answer]
    if blocking:
        console.print(f"\n[red]Not usable[/red]: {escape('; '.join(blocking))}.")
    else:
        console.print(f"\n[green]Usable[/green]: twingrad with {' and '.join(usable)}.")


def _show_packages(console: Console, packages: Sequence[Package]) -> None:
    root = checkout()
    place = f"checkout {root}" if root else "installed package"
    own = installation.own_version()
    console.print(escape(f"twingrad {own} ({place}); {installation.system()}"), soft_wrap=True)
    rows = table("package", "installed", "works with", "", "for", title="\nInstalled")
    for package in packages:
        verdict = "-" if package.installed is None else "ok" if package.fits else "outside"
        rows.add_row(
            package.name, package.installed or "no", package.wanted, verdict, package.purpose
        )
    put(console, rows)


def _show_frameworks(console: Console, answers: Mapping[str, Answer]) -> None:
    rows = table("framework", "device", "computes", "memory", "model", title="Devices")
    for name, answer in answers.items():
        for device in answer.get("devices", []):
            size = _gib(device["memory_bytes"]) if device["memory_bytes"] else ""
            computes = "no" if device["error"] else "yes"
            rows.add_row(NAMES[name], device["device"], computes, size, escape(device["model"]))
        if "error" in answer:
            rows.add_row(NAMES[name], "none", "no", "", "")
    if rows.row_count:
        put(console, rows)
    rows = table("framework", "setting", "at its start", title="Settings")
    for name, answer in answers.items():
        for setting, value in answer.get("settings", {}).items():
            rows.add_row(NAMES[name], setting, escape(value))
    if rows.row_count:
        put(console, rows)
        console.print(
            "Commands set precision, x64 and determinism themselves, whatever they are here."
        )


def _show_machine(console: Console, examined: Examined, caches: list[CacheFolder]) -> None:
    total, available = installation.memory()
    free = f", {_gib(available)} available" if available is not None else ""
    rows = table("", "", title="\nMachine")
    rows.show_header = False
    rows.add_row("devices", escape(installation.devices_here()))
    rows.add_row("memory", f"{_gib(total)}{free}")
    rows.add_row("C++ compiler", escape(examined.compiler or "none"))
    for name, value in examined.variables.items():
        rows.add_row(f"{name}", escape(value) or "(empty)")
    if (compiled := compile_cache.inspect()).folder is None:
        rows.add_row("JAX's compiled programs", escape(compiled.reason))
    for cache in caches:
        kept = "nothing yet" if cache.files is None else f"{cache.files:,} files, "
        kept += "" if cache.files is None else f"{cache.size_bytes / 1e6:,.1f} MB"
        rows.add_row(cache.purpose, f"{escape(str(cache.path))}: {kept}")
    put(console, rows)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def as_object(
    examined: Examined, caches: list[CacheFolder], found: list[Problem]
) -> dict[str, object]:
    """All of it as JSON has it."""
    total, available = installation.memory()
    root = checkout()
    return {
        "ok": not any(problem.blocks for problem in found),
        "twingrad": {
            "version": installation.own_version(),
            "checkout": str(root) if root else None,
            "system": installation.system(),
        },
        "asked": {"frameworks": list(examined.asked), "device": examined.device},
        "packages": [asdict(package) for package in examined.packages],
        "frameworks": {name: dict(answer) for name, answer in examined.answers.items()},
        "machine": {
            "devices": installation.devices_here(),
            "cores": installation.cores(),
            "gpus": list(examined.gpus),
            "memory_bytes": total,
            "memory_available_bytes": available,
            "compiler": examined.compiler,
        },
        "variables": dict(examined.variables),
        "compile_cache": compile_cache.inspect().sentence,
        "caches": [asdict(cache) | {"path": str(cache.path)} for cache in caches],
        "problems": [asdict(problem) for problem in found],
    }
