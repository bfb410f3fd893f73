"""Options that several commands share, and checks of their values."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from shared.config import PRESETS, TRAINING_DTYPES

DTYPES = ("float64", "float32", "bfloat16", "tf32", "all")
DEVICES = ("auto", "cpu", "cuda")


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


class Parser(argparse.ArgumentParser):
    """Refuses a call in one sentence, where argparse would print the usage before it."""

    def error(self, message: str) -> NoReturn:
        """Raise ``ValueError`` with one sentence."""
        raise ValueError(f"{message}; see {self.prog} --help")


def add_setting(parser: Any, name: str) -> None:
    """The option for a run's setting; None where it is left out."""
    kind, meaning = SETTINGS[name]
    option = "--" + name.replace("_", "-")
    if kind is bool:
        parser.add_argument(option, action="store_true", default=None, help=meaning)
    else:
        parser.add_argument(option, type=kind, help=meaning)


def choice(kind: str, value: str, choices: Sequence[str]) -> str:
    """``value``; ``ValueError`` names the choices if it is none of them."""
    if value not in choices:
        raise ValueError(f"unknown {kind} {value!r}: choose from {', '.join(choices)}")
    return value
