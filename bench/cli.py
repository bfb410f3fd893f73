"""The front door: ``twingrad`` and ``python -m bench``."""

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from bench import launch
from shared.config import PRESETS, TRAINING_DTYPES
from shared.world import World

DTYPES = ("float64", "float32", "bfloat16", "tf32", "all")
DIAGNOSED = ("sigmoid-bce", "simple-net", "gpt2")
PROGRAMS = ("all", "tensors", "sigmoid-bce", "simple-net", "gpt2")
DEVICES = ("auto", "cpu", "cuda")
_UNITS = {"s": 1, "m": 60, "h": 3600}


# A run's settings that the command line takes, by the names that they are kept under.
SETTINGS: dict[str, tuple[type, str]] = {
    "preset": (str, f"size of GPT-2: {', '.join(PRESETS)}; default tiny"),
    "data": (
        str,
        "python (the standard library's sources, default), markov, hf:NAME, a text file or folder, "
        "or .bin files of nanoGPT or llm.c",
    ),
    "tokenizer": (str, "bytes (default), gpt2, bpe (trained on the data), or a tokenizer.json"),
    "token_count": (int, "how many tokens bpe is trained to"),
    "init": (str, "begin from gpt2, gpt2-medium, gpt2-large, gpt2-xl, a folder, or another run"),
    "steps": (int, "length of the whole run, default 800"),
    "seed": (int, "of parameters, order of the data and dropout; default 0"),
    "dtype": (str, f"what is computed in: {', '.join(TRAINING_DTYPES)}"),
    "dropout": (str, "matched (default: both sides drop the same units) or native"),
    "drop_rate": (float, "share of units that dropout drops"),
    "batch_size": (int, "sequences a step"),
    "micro_batches": (int, "into how many parts a step is divided, to save memory"),
    "length": (int, "tokens a sequence; default the context length"),
    "learning_rate": (float, "at its peak"),
    "min_learning_rate": (float, "at the end; default a tenth of the peak"),
    "warmup": (int, "steps in which the rate climbs to its peak"),
    "weight_decay": (float, "of matrices"),
    "max_grad_norm": (float, "to which gradients are clipped"),
    "eval_every": (int, "steps from one validation to the next"),
    "eval_batches": (int, "batches a validation"),
    "checkpoint_every": (int, "steps from one checkpoint to the next"),
    "keep": (int, "checkpoints kept, default 3"),
    "loss_chunk": (int, "positions whose logits exist at once, to save memory; 0 is all"),
    "data_parallel": (int, "groups of processes that each have rows of every batch"),
    "sharded": (int, "processes of a group, which hold the model together"),
    "recompute": (bool, "compute activations again in the backward pass, to save memory"),
    "compile": (bool, "torch.compile, in PyTorch; JAX is always compiled"),
}


class _Parser(argparse.ArgumentParser):
    """Refuses a call in one sentence, where argparse would print the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 all gates hold, 1 one does not, 2 the call or an input was wrong."""
    # PyTorch asks the kernel for large pages, which spares thousands of faults a large tensor.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # Its threads sleep while they wait. By default they spin, and where JAX or another program
    # wants the core that they spin on, a step takes many times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        arguments = _parser().parse_args(argv)
        arguments.argv = sys.argv[1:] if argv is None else list(argv)
        return arguments.run(arguments)
    except ValueError as error:
        print(f"twingrad: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("twingrad: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = "" if error.filename is None else f"{str(error.filename)[:200]}: "
        print(f"twingrad: {place}{error.strerror or error}; give another path", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"twingrad: not enough memory ({error}): ask for something smaller", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="twingrad",
        description="The same programs in PyTorch and in JAX, proven equal, tensor by tensor.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    tour = commands.add_parser("tensors", help="the tensor tour: NumPy, PyTorch, JAX side by side")
    tour.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    tour.set_defaults(run=_tensors)

    compare = commands.add_parser(
        "compare", help="run the programs in both frameworks and judge every tensor"
    )
    compare.add_argument(
        "program",
        nargs="?",
        default="all",
        help=f"{', '.join(PROGRAMS)}, or a pair file, which is run",
    )
    compare.add_argument("--preset", help=f"size of GPT-2: {', '.join(PRESETS)}")
    compare.add_argument("--dtype", help=f"{', '.join(DTYPES)}; float64 always runs first")
    compare.add_argument("--device", default="auto", help=", ".join(DEVICES))
    compare.add_argument(
        "--weights",
        type=Path,
        metavar="PATH",
        help="a folder as transformers saves it, or one .safetensors file with --preset",
    )
    compare.add_argument(
        "--tokens", type=Path, metavar="FILE.npy", help="token ids, integers [B, T+1]"
    )
    compare.add_argument("--json", type=Path, metavar="FILE", help="write every verdict as JSON")
    compare.add_argument(
        "--save",
        type=Path,
        metavar="FILE.safetensors",
        help="write logits, losses and gradients of both sides",
    )
    compare.add_argument("--html", type=Path, metavar="FILE", help="write it as a page to look at")
    compare.set_defaults(run=_compare)

    mutants = commands.add_parser(
        "mutants", help="plant bugs in one side at a time and show which gate trips"
    )
    mutants.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    mutants.add_argument("--only", nargs="+", metavar="NAME", help="these bugs alone")
    mutants.add_argument(
        "--alternate", action="store_true", help="each on one side, PyTorch and JAX in turn"
    )
    mutants.add_argument("--device", default="auto", help=", ".join(DEVICES))
    mutants.set_defaults(run=_mutants)
    _add_diagnose(commands)
    _add_train(commands)
    _add_sample(commands)
    _add_bench(commands)
    _add_plan(commands)
    report = commands.add_parser(
        "report", help="write a page: the twins side by side, and all that was measured of them"
    )
    report.add_argument(
        "--html", type=Path, default=Path("report.html"), metavar="FILE", help="default report.html"
    )
    report.set_defaults(run=_report)
    return parser


def _add_diagnose(commands: Any) -> None:
    diagnose = commands.add_parser(
        "diagnose", help="find where two models that should be one first part, and why"
    )
    diagnose.add_argument(
        "program",
        nargs="?",
        default="gpt2",
        help=f"{', '.join(DIAGNOSED)}, or a pair file, which is run; default gpt2",
    )
    diagnose.add_argument("--preset", help=f"size of GPT-2: {', '.join(PRESETS)}; default tiny")
    diagnose.add_argument("--all", action="store_true", help="every place, not the first alone")
    diagnose.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON")
    diagnose.set_defaults(run=_diagnose)

    begin = commands.add_parser("init-pair", help="write a pair file to fill in")
    begin.add_argument("file", type=Path, metavar="FILE")
    begin.set_defaults(run=_init_pair)


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train GPT-2 in PyTorch, in JAX, or in both at once",
        parents=[_launch_options()],
    )
    train.add_argument("--framework", default="both", help="torch, jax, both")
    train.add_argument("--out", type=Path, metavar="DIR", help="the run's folder; default runs/...")
    train.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest checkpoint, of either framework",
    )
    train.add_argument("--stop-after", type=int, metavar="K", help="end at step K, checkpointed")
    train.add_argument("--device", default="auto", help=", ".join(DEVICES))
    train.add_argument("--tensorboard", action="store_true", help="also write TensorBoard's files")
    train.add_argument(
        "--patience",
        type=float,
        default=300.0,
        metavar="S",
        help="seconds that a process may be absent or behind the others; default 300",
    )
    for name in SETTINGS:
        _add_setting(train, name)
    train.set_defaults(run=_train)


def _add_setting(parser: Any, name: str) -> None:
    """The option for a run's setting; None where it is left out."""
    kind, meaning = SETTINGS[name]
    option = "--" + name.replace("_", "-")
    if kind is bool:
        parser.add_argument(option, action="store_true", default=None, help=meaning)
    else:
        parser.add_argument(option, type=kind, help=meaning)


def _launch_options() -> _Parser:
    """Those with which ``train`` starts other processes, which are started without them."""
    launch = _Parser(add_help=False, allow_abbrev=False)
    launch.add_argument("--processes", type=int, metavar="N", help="start as many on this host")
    launch.add_argument("--hosts", metavar="A,B", help="with as many on each of several hosts")
    launch.add_argument("--host-index", type=int, metavar="I", help="which of them this is, from 0")
    launch.add_argument("--port", type=int, metavar="P", help="of the first, at which all meet")
    return launch


def _add_sample(commands: Any) -> None:
    sample = commands.add_parser("sample", help="go on from a text")
    sample.add_argument("--framework", default="torch", help="torch, jax")
    sample.add_argument(
        "--checkpoint",
        required=True,
        metavar="DIR",
        help="a run, one of its checkpoints, a transformers folder, or gpt2 ... gpt2-xl",
    )
    sample.add_argument("--prompt", action="append", metavar="TEXT", help="may be given repeatedly")
    sample.add_argument(
        "--tokens", type=int, default=200, metavar="N", help="how many; default 200"
    )
    sample.add_argument("--temperature", type=float, default=1.0, metavar="X", help="0 is greedy")
    sample.add_argument("--top-k", type=int, metavar="K", help="only the K likeliest")
    sample.add_argument("--top-p", type=float, metavar="P", help="the likeliest that make up P")
    sample.add_argument("--seed", type=int, default=0, metavar="S")
    sample.add_argument("--dtype", default="float32", help=", ".join(TRAINING_DTYPES))
    sample.add_argument("--device", default="auto", help=", ".join(DEVICES))
    sample.add_argument("--preset", help="the sizes, where the checkpoint is a single file")
    sample.add_argument("--tokenizer", help="another than the checkpoint's own: bytes, gpt2, PATH")
    sample.set_defaults(run=_sample)

    export = commands.add_parser("export", help="write a checkpoint as transformers loads it")
    export.add_argument("--checkpoint", required=True, metavar="DIR", help="as for sample")
    export.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    export.set_defaults(run=_export)


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser(
        "bench", help="time both frameworks and their peers, each certified to compute the same"
    )
    bench.add_argument(
        "--workload",
        nargs="+",
        metavar="W",
        help="overhead, forward, forward-backward, train, decode, cold, growth; default overhead "
        "and train, on a GPU the first five",
    )
    bench.add_argument("--preset", help=f"size of GPT-2: {', '.join(PRESETS)}; default small")
    bench.add_argument("--device", default="auto", help=", ".join(DEVICES))
    bench.add_argument("--dtype", help="float32 (default on a CPU), bfloat16 (default on a GPU)")
    bench.add_argument(
        "--contestants",
        metavar="A,B",
        help="torch and jax (default, each idiomatic and tuned), lean, torch-ladder, jax-ladder, "
        "hf, hf-compiled, hf-tuned, flax-reference, flax-reference-tuned, or one of a group",
    )
    bench.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a checkout, which is run: nanogpt=PATH, or a Python file that defines a class Racer",
    )
    bench.add_argument("--batch-size", type=int, metavar="B", help="sequences a step")
    bench.add_argument("--length", type=int, metavar="T", help="tokens a sequence")
    bench.add_argument(
        "--samples",
        type=int,
        metavar="N",
        help="clean samples wanted of each, at least 3 a process",
    )
    bench.add_argument(
        "--starts",
        type=int,
        metavar="N",
        help="processes that each contestant gets, one after the other: 1, or 3 and more; default "
        "4, but 1 for growth, with --budget, and without --workload and --preset on a CPU",
    )
    bench.add_argument("--budget", metavar="9m", help="end within this time: 90s, 9m, 1h")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write the record")
    bench.add_argument("--check", type=Path, metavar="FILE", help="judge a record, and no more")
    bench.add_argument(
        "--render", action="store_true", help="make tables and plots anew from committed records"
    )
    bench.set_defaults(run=_bench)


# Settings of a run that decide what a step takes.
PLANNED = (
    "preset", "dtype", "dropout", "drop_rate", "batch_size", "micro_batches", "length",
    "loss_chunk", "recompute",
)  # fmt: skip


def _add_plan(commands: Any) -> None:
    plan = commands.add_parser(
        "plan", help="memory, exchange and time of a training step, without taking one"
    )
    plan.add_argument("--framework", default="both", help="torch, jax, both")
    plan.add_argument("--device", default="cpu", help="cpu, cuda")
    for name in PLANNED:
        _add_setting(plan, name)
    plan.add_argument(
        "--devices", type=int, metavar="N", help="how many: every arrangement of them is planned"
    )
    plan.add_argument("--data-parallel", type=int, metavar="N", help="that hold the same parts")
    plan.add_argument("--sharded", type=int, metavar="M", help="that share one model's parts")
    plan.add_argument(
        "--ceilings", type=Path, metavar="FILE", help="a record of twingrad bench to take rates of"
    )
    plan.add_argument("--measure", action="store_true", help="measure them on this machine now")
    plan.add_argument("--link", type=float, metavar="GB/S", help="what a device can send")
    plan.add_argument("--json", type=Path, metavar="FILE", help="write the plan as JSON")
    plan.set_defaults(run=_plan)


def _console() -> Console:
    """A terminal as wide as it is; a pipe wide enough for the tables."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def _choice(kind: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"unknown {kind} {value!r}: choose from {', '.join(choices)}")
    return value


def _writable(*paths: Path | None) -> None:
    """Refuse now what could not be written after minutes of work."""
    for path in paths:
        if path is None:
            continue
        folder = path.parent
        if path.is_dir():
            raise ValueError(f"cannot write {path}: it is a folder; name a file")
        if not folder.is_dir():
            raise ValueError(f"cannot write {path}: the folder {folder} does not exist; create it")
        if not os.access(folder, os.W_OK):
            raise ValueError(f"cannot write {path}: no permission to write in {folder}")


def _tensors(arguments: argparse.Namespace) -> int:
    from bench import tensors

    _writable(arguments.json)
    return tensors.show(arguments.json)


def _compare(arguments: argparse.Namespace) -> int:
    from bench import session

    if arguments.program.endswith(".py"):
        return _compare_pair(arguments)
    _choice("program", arguments.program, PROGRAMS)
    if arguments.preset is not None:
        _choice("preset", arguments.preset, tuple(PRESETS))
    if arguments.dtype is not None:
        _choice("dtype", arguments.dtype, DTYPES)
    _choice("device", arguments.device, DEVICES)
    _writable(arguments.json, arguments.save, arguments.html)
    asked = session.Asked(
        program=arguments.program,
        preset=arguments.preset,
        dtype=arguments.dtype,
        device=arguments.device,
        weights=arguments.weights,
        tokens=arguments.tokens,
        json=arguments.json,
        save=arguments.save,
        html=arguments.html,
    )
    return session.run(asked, _console())


def _compare_pair(arguments: argparse.Namespace) -> int:
    from bench import session
    from bench.diagnosis import pairs

    for option in ("preset", "weights", "tokens", "save"):
        if getattr(arguments, option) is not None:
            raise ValueError(f"--{option} is for gpt2: a pair file says itself what it compares")
    if arguments.dtype not in (None, "float64", "float32"):
        raise ValueError(f"dtype {arguments.dtype!r}: a pair is compared in float64 and float32")
    if arguments.device not in ("auto", "cpu"):
        raise ValueError(f"device {arguments.device!r}: a pair is compared on the cpu")
    _writable(arguments.json, arguments.html)
    asked = session.Asked(dtype=arguments.dtype, json=arguments.json, html=arguments.html)
    return session.run_pair(pairs.load(Path(arguments.program)), asked, _console())


def _diagnose(arguments: argparse.Namespace) -> int:
    from bench.diagnosis import inquiry

    _writable(arguments.json)
    if not arguments.program.endswith(".py"):
        _choice("program", arguments.program, DIAGNOSED)
    if arguments.preset is not None:
        if arguments.program != "gpt2":
            raise ValueError("--preset is for gpt2: say twingrad diagnose gpt2 --preset ...")
        _choice("preset", arguments.preset, tuple(PRESETS))
    asked = inquiry.Asked(
        program=arguments.program,
        preset=arguments.preset,
        every=arguments.all,
        json=arguments.json,
    )
    return inquiry.run(asked, _console())


def _report(arguments: argparse.Namespace) -> int:
    from bench import report

    _writable(arguments.html)
    report.write(arguments.html)
    print(f"{arguments.html} holds the twins side by side, and all that was measured of them")
    return 0


def _init_pair(arguments: argparse.Namespace) -> int:
    from bench.diagnosis import pairs

    pairs.begin(arguments.file)
    print(f"{arguments.file} is a pair that compares; put your models in it, then:")
    print(f"  twingrad compare {arguments.file}")
    print(f"  twingrad diagnose {arguments.file}")
    return 0


def _train(arguments: argparse.Namespace) -> int:
    from bench import training

    _choice("framework", arguments.framework, training.FRAMEWORKS)
    _choice("device", arguments.device, DEVICES)
    given = {name: getattr(arguments, name) for name in SETTINGS}
    given = {name: value for name, value in given.items() if value is not None}
    if "preset" in given:
        _choice("preset", given["preset"], tuple(PRESETS))
    if not 0 < arguments.patience < float("inf"):
        raise ValueError(f"--patience is {arguments.patience:g}: expected seconds, over 0")
    if processes := _processes(arguments):
        return launch.run(processes, _launch_options().parse_known_args(arguments.argv)[1])
    launch.watch_parent(os.environ)
    asked = training.Asked(
        framework=arguments.framework,
        given=given,
        out=arguments.out,
        resume=arguments.resume,
        stop_after=arguments.stop_after,
        device=arguments.device,
        tensorboard=arguments.tensorboard,
        patience=arguments.patience,
    )
    return training.run(asked, _console())


def _processes(arguments: argparse.Namespace) -> launch.Asked | None:
    """The processes to be started, if any are, and this is not one of them already."""
    options = (arguments.processes, arguments.hosts, arguments.host_index, arguments.port)
    is_asked = any(option is not None for option in options)
    if "RANK" in os.environ or World.from_environment(os.environ).size > 1:
        if is_asked:
            raise ValueError(
                "--processes, --hosts, --host-index and --port start processes: leave them out "
                "where torchrun or srun does"
            )
        return None
    layout = (arguments.data_parallel or 1) * (arguments.sharded or 1)
    if not is_asked and layout <= 1:
        return None
    hosts = tuple(filter(None, (arguments.hosts or "").split(",")))
    processes = arguments.processes
    if processes is None:
        processes = max(layout // max(len(hosts), 1), 1)
    return launch.Asked(
        processes=processes, hosts=hosts, host_index=arguments.host_index, port=arguments.port
    )


def _sample(arguments: argparse.Namespace) -> int:
    from bench import released, sampling
    from shared import tokenizer
    from shared.sampling import Sampling

    _choice("framework", arguments.framework, ("torch", "jax"))
    _choice("dtype", arguments.dtype, TRAINING_DTYPES)
    _choice("device", arguments.device, DEVICES)
    if not arguments.prompt:
        raise ValueError("there is no prompt: give --prompt a text to go on from")
    chosen = Sampling(
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
    )
    config, params, stored = released.load(arguments.checkpoint, arguments.preset)
    if arguments.tokenizer is not None:
        words = tokenizer.make(arguments.tokenizer)
    else:
        words = tokenizer.from_json(stored) if stored else tokenizer.make("gpt2")
    asked = sampling.Asked(
        framework=arguments.framework,
        prompts=arguments.prompt,
        tokens=arguments.tokens,
        sampling=chosen,
        dtype=arguments.dtype,
        device=arguments.device,
    )
    return sampling.run(asked, config=config, params=params, tokenizer=words)


def _export(arguments: argparse.Namespace) -> int:
    from bench import released
    from shared import params

    config, values, stored = released.load(arguments.checkpoint)
    kind = stored["kind"] if stored else "gpt2"
    params.save(arguments.out, config, values)
    if stored and kind == "bpe":
        path = Path(arguments.out) / "tokenizer.json"
        params.write_bytes(path, stored["definition"].encode())
    print(f"{arguments.out} is a GPT-2 that transformers loads with from_pretrained")
    if kind == "bytes":
        print("its tokens are bytes, which need no file: sample with --tokenizer bytes")
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    from bench import speed, speed_record, statistic, workloads

    if arguments.render:
        from bench import render

        return render.main([])
    if arguments.check:
        try:
            print(speed_record.check(arguments.check))
        except speed_record.Refused as refused:
            print(f"twingrad: {refused}", file=sys.stderr)
            return 1
        return 0
    chosen = [name for word in arguments.workload or [] for name in word.split(",")]
    for name in chosen:
        _choice("workload", name, workloads.WORKLOADS)
    if arguments.preset is not None:
        _choice("preset", arguments.preset, tuple(PRESETS))
    if arguments.dtype is not None:
        _choice("dtype", arguments.dtype, ("float32", "tf32", "bfloat16"))
    _choice("device", arguments.device, DEVICES)
    for name in ("batch_size", "length", "samples", "starts"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {value}: expected 1 or more")
    if 1 < (arguments.starts or 1) < statistic.STARTS:
        raise ValueError(
            f"--starts is {arguments.starts}, too few to tell processes apart by: give 1, or "
            f"{statistic.STARTS} and more"
        )
    named = [name.strip() for name in (arguments.contestants or "").split(",")]
    if arguments.contestants is not None and not all(named):
        raise ValueError(f"--contestants is {arguments.contestants!r}: expected names, as in A,B")
    _writable(arguments.json)
    asked = speed.Asked(
        workloads=tuple(dict.fromkeys(chosen)),
        preset=arguments.preset,
        device=arguments.device,
        contestants=tuple(filter(None, named)),
        peers=dict(_peer(given) for given in arguments.peer),
        json=arguments.json,
        budget=_seconds(arguments.budget) if arguments.budget else None,
        dtype=arguments.dtype,
        batch_size=arguments.batch_size,
        length=arguments.length,
        samples=arguments.samples or speed.WANTED,
        starts=arguments.starts,
    )
    return speed.run(asked, _console())


def _plan(arguments: argparse.Namespace) -> int:
    from bench import planning, runs
    from bench.plan import FRAMEWORKS, Plan

    _choice("framework", arguments.framework, (*FRAMEWORKS, "both"))
    _choice("device", arguments.device, ("cpu", "cuda"))
    given = {name: getattr(arguments, name) for name in PLANNED}
    given = {name: value for name, value in given.items() if value is not None}
    if "preset" in given:
        _choice("preset", given["preset"], tuple(PRESETS))
    for name in ("devices", "data_parallel", "sharded", "link"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} is {value}: expected more than 0")
    layout = (arguments.data_parallel or 1, arguments.sharded or 1)
    devices = arguments.devices or layout[0] * layout[1]
    named = arguments.data_parallel is not None or arguments.sharded is not None
    if named and devices != layout[0] * layout[1]:
        raise ValueError(
            f"--data-parallel {layout[0]} times --sharded {layout[1]} is {layout[0] * layout[1]}, "
            f"and --devices is {devices}: leave --devices out"
        )
    if arguments.measure and arguments.ceilings:
        raise ValueError("--measure and --ceilings exclude one another: leave one of them out")
    # A run's eight sequences a step, for each device.
    run = runs.resolve({"batch_size": 8 * devices} | given)
    step = Plan(
        model=run.model,
        train=run.train,
        length=run.length,
        data_parallel=devices,
        device=arguments.device,
    )
    _writable(arguments.json)
    asked = planning.Asked(
        step=step,
        preset=run.preset,
        devices=devices,
        layout=layout if named or devices == 1 else None,
        frameworks=FRAMEWORKS if arguments.framework == "both" else (arguments.framework,),
        ceilings=arguments.ceilings,
        measure=arguments.measure,
        link=arguments.link * 1e9 if arguments.link else None,
        json=arguments.json,
    )
    return planning.run(asked, _console())


def _peer(given: str) -> tuple[str, Path]:
    name, equals, path = given.partition("=")
    if not (name and equals and path):
        raise ValueError(f"--peer is {given!r}: expected NAME=PATH, as in nanogpt=../nanoGPT")
    if not re.fullmatch(r"\w[\w.-]*", name):  # files are named after it
        raise ValueError(f"--peer is named {name!r}: expected letters, digits, '_', '.' and '-'")
    return name, Path(path)


def _seconds(text: str) -> float:
    """``90s``, ``9m`` or ``1h``, or plain seconds."""
    number, scale = text, 1
    if text[-1:] in _UNITS:
        number, scale = text[:-1], _UNITS[text[-1]]
    try:
        found = float(number) * scale
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise ValueError(f"--budget is {text!r}: expected a time such as 90s, 9m or 1h")
    return found


def _mutants(arguments: argparse.Namespace) -> int:
    from bench import mutants, record, sides

    _choice("device", arguments.device, DEVICES)
    _writable(arguments.json)
    pair = sides.both()
    device = sides.pick_device(arguments.device, pair)
    console = _console()
    started = time.perf_counter()
    with console.status("planting bugs") as status:
        planted = mutants.in_turn(mutants.MUTANTS) if arguments.alternate else mutants.MUTANTS
        report = mutants.run(
            pair, device=device, names=arguments.only, say=status.update, mutants=planted
        )
    mutants.render(console, report)
    console.print(f"{time.perf_counter() - started:.0f} s")
    found = mutants.report_object(report)
    if arguments.json:
        record.write_json(arguments.json, found | {"environment": record.environment(pair, device)})
    return 0 if found["ok"] else 1
