"""Run ``twingrad export``: write a checkpoint as transformers loads it."""

from dataclasses import dataclass
from pathlib import Path

from bench.training import pretrained
from shared import transformers_io
from twingrad.cli.options import option
from twingrad.files import write_bytes
from twingrad.printable import printable


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of ``export``."""

    checkpoint: str = option(
        "",
        required=True,
        metavar="DIR",
        files=True,
        offers=tuple(pretrained.RELEASED),
        help="a run, one of its checkpoints, a transformers folder, or gpt2 ... gpt2-xl",
    )
    out: Path = option(Path(), required=True, metavar="FOLDER", help="the folder to write")


def run(options: ExportOptions) -> int:
    """Write the model and its tokenizer; ``ValueError`` where that cannot be done."""
    model = pretrained.load(options.checkpoint)
    transformers_io.save(options.out, model.config, model.params)
    tokenizer = model.tokenizer or {"kind": "gpt2"}
    if tokenizer["kind"] == "bpe":
        write_bytes(options.out / "tokenizer.json", str(tokenizer["definition"]).encode())
    print(printable(f"{options.out} is a GPT-2 that transformers loads with from_pretrained"))
    if tokenizer["kind"] == "bytes":
        print("its tokens are bytes, which need no file: sample with --tokenizer bytes")
    return 0
