"""The programs that bugs are planted in."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.harness import programs
from bench.harness.programs import Program
from shared import params
from shared.config import IGNORED, GPTConfig


def small_gpt2(layers: int = 2) -> Program:
    """A GPT-2 small enough to be compiled a hundred times, and awkward enough to hide no bug.

    No two of its sizes are equal, and the loss is taken in chunks that do not come out even. The
    position embedding has a mean, as the residual stream of a trained model does, without which a
    careless variance costs nothing. In every other batch few targets count, most of them in one
    micro-batch. Gradients are larger then, so that some training steps are clipped and some are
    not: where all are, a gradient of the wrong size trains as the right one does.
    """
    config = GPTConfig(
        vocab_size=61, context_length=16, emb_dim=28, n_heads=4, n_layers=layers, qkv_bias=True
    )
    values = params.init_gpt2(config, spread=programs.SPREAD)
    values["wpe.weight"] += np.float32(0.3)
    program = programs.gpt2("small", config=config, start=values, size=(6, 13), steps=6)
    for _, targets in program.batches[1::2]:
        targets[:3, :8] = targets[3:, :-1] = IGNORED
    if program.training is None:
        raise ValueError("a GPT-2 has a trainer")
    return replace(program, training=replace(program.training, loss_chunk=16))


def _simple_net() -> Program:
    """``SimpleNet`` in the plain training loop, with an optimizer that remembers.

    Some of its steps are clipped and some are not, for the same reason.
    """
    program = programs.simple_net(steps=8)
    adamw = replace(programs.adamw(steps=8), max_grad_norm=0.3)
    return replace(program, optimizers={"adamw": adamw}, trajectory_optimizer="adamw")


PROGRAMS: dict[str, Callable[[], Program]] = {"gpt2": small_gpt2, "simple-net": _simple_net}
