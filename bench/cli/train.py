"""Parsers and handlers of ``train``, ``sample`` and ``export``."""

import argparse
import os
from pathlib import Path
from typing import Any

from bench.cli.options import DEVICES, SETTINGS, Parser, add_setting, choice
from bench.training import launcher
from shared.config import PRESETS, TRAINING_DTYPES
from shared.world import World
from twingrad.terminal import new_console


def add_train(commands: Any) -> None:
    """Add the parser of ``train``."""
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
        add_setting(train, name)
    train.set_defaults(run=run_train)


def _launch_options() -> Parser:
    """Those with which ``train`` starts other processes, which are started without them."""
    launch = Parser(add_help=False, allow_abbrev=False)
    launch.add_argument("--processes", type=int, metavar="N", help="start as many on this host")
    launch.add_argument("--hosts", metavar="A,B", help="with as many on each of several hosts")
    launch.add_argument("--host-index", type=int, metavar="I", help="which of them this is, from 0")
    launch.add_argument("--port", type=int, metavar="P", help="of the first, at which all meet")
    return launch


def add_sample(commands: Any) -> None:
    """Add the parsers of ``sample`` and ``export``."""
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
    sample.set_defaults(run=run_sample)

    export = commands.add_parser("export", help="write a checkpoint as transformers loads it")
    export.add_argument("--checkpoint", required=True, metavar="DIR", help="as for sample")
    export.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    export.set_defaults(run=run_export)


def run_train(arguments: argparse.Namespace) -> int:
    """Train in one framework or in both."""
    from bench.training import command

    choice("framework", arguments.framework, command.FRAMEWORKS)
    choice("device", arguments.device, DEVICES)
    given = {name: getattr(arguments, name) for name in SETTINGS}
    given = {name: value for name, value in given.items() if value is not None}
    if "preset" in given:
        choice("preset", given["preset"], tuple(PRESETS))
    if not 0 < arguments.patience < float("inf"):
        raise ValueError(f"--patience is {arguments.patience:g}: expected seconds, over 0")
    if processes := _processes(arguments):
        return launcher.run(processes, _launch_options().parse_known_args(arguments.argv)[1])
    launcher.watch_parent(os.environ)
    asked = command.Asked(
        framework=arguments.framework,
        given=given,
        out=arguments.out,
        resume=arguments.resume,
        stop_after=arguments.stop_after,
        device=arguments.device,
        tensorboard=arguments.tensorboard,
        patience=arguments.patience,
    )
    return command.run(asked, new_console())


def _processes(arguments: argparse.Namespace) -> launcher.Asked | None:
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
    return launcher.Asked(
        processes=processes, hosts=hosts, host_index=arguments.host_index, port=arguments.port
    )


def run_sample(arguments: argparse.Namespace) -> int:
    """Print texts that continue the prompts."""
    from bench.training import pretrained
    from bench.training import sample as training_sample
    from shared import tokenizer
    from shared.sampling import Sampling

    choice("framework", arguments.framework, ("torch", "jax"))
    choice("dtype", arguments.dtype, TRAINING_DTYPES)
    choice("device", arguments.device, DEVICES)
    if not arguments.prompt:
        raise ValueError("there is no prompt: give --prompt a text to go on from")
    chosen = Sampling(
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
    )
    config, params, stored = pretrained.load(arguments.checkpoint, arguments.preset)
    if arguments.tokenizer is not None:
        words = tokenizer.make(arguments.tokenizer)
    else:
        words = tokenizer.from_json(stored) if stored else tokenizer.make("gpt2")
    asked = training_sample.Asked(
        framework=arguments.framework,
        prompts=arguments.prompt,
        tokens=arguments.tokens,
        sampling=chosen,
        dtype=arguments.dtype,
        device=arguments.device,
    )
    return training_sample.run(asked, config=config, params=params, tokenizer=words)


def run_export(arguments: argparse.Namespace) -> int:
    """Write a checkpoint as transformers loads it."""
    from bench.training import pretrained
    from shared import files, transformers_io

    config, values, stored = pretrained.load(arguments.checkpoint)
    kind = stored["kind"] if stored else "gpt2"
    transformers_io.save(arguments.out, config, values)
    if stored and kind == "bpe":
        path = Path(arguments.out) / "tokenizer.json"
        files.write_bytes(path, stored["definition"].encode())
    print(f"{arguments.out} is a GPT-2 that transformers loads with from_pretrained")
    if kind == "bytes":
        print("its tokens are bytes, which need no file: sample with --tokenizer bytes")
    return 0
