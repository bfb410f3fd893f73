"""One call of ``sample``: a model goes on from a text, in the one framework that was asked for."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bench.harness import frameworks, programs
from bench.harness.frameworks import Framework
from shared.config import GPTConfig
from shared.params import Params
from shared.sampling import Sampling
from shared.tokenizer import Stream, Tokenizer

# JAX compiles one program for the prompt and one for all later tokens.
WARM = 2


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A call of ``sample``, its words already checked against the choices there are."""

    framework: str
    prompts: Sequence[str]
    tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    dtype: str = "float32"
    device: str = "auto"


@dataclass(frozen=True)
class Pace:
    """When the first token of a run was there, and each of the others: seconds from its start."""

    rows: int
    times: list[float]

    def __str__(self) -> str:
        """Tokens a second once nothing is left to compile, and how long that took."""
        made = f"{self.rows * len(self.times)} tokens in {self.times[-1]:.2f} s"
        steady = self.times[WARM - 1 :]
        if len(steady) < 2:
            return made
        rate = self.rows * (len(steady) - 1) / (steady[-1] - steady[0])
        return f"{made}; {rate:.1f} tokens/s after the first {WARM * self.rows}"


def run(asked: Asked, config: GPTConfig, params: Params, tokenizer: Tokenizer) -> int:
    """Print what was asked for: one text as it grows, or several when all are done.

    Raises ``ValueError`` for what the model cannot go on from.
    """
    for prompt in asked.prompts:
        if not prompt:
            raise ValueError("the prompt is empty: give --prompt a text to go on from")
    side = frameworks.one(asked.framework)
    device = frameworks.pick_device(asked.device, (side,))
    if asked.dtype == "tf32" and device != "cuda":
        raise ValueError("dtype tf32 needs a cuda device: TF32 is a mode of NVIDIA's tensor cores")
    config, params = _without_padding(config, params, tokenizer.vocab_size)
    prompts = [tokenizer.encode(prompt) for prompt in asked.prompts]
    times: list[float] = []
    steps = _timed(_steps(asked, side, device, config, params, prompts), times)
    if len(prompts) == 1:
        _print_growing(asked.prompts[0], steps, Stream(tokenizer))
    else:
        rows = np.stack(list(steps), axis=1)  # (B, new tokens)
        whole = [np.concatenate(pair) for pair in zip(prompts, rows, strict=True)]
        print("\n\n".join(map(tokenizer.decode, whole)))
    print(Pace(len(prompts), times), file=sys.stderr)
    return 0


def _without_padding(
    config: GPTConfig, params: Params, vocab_size: int
) -> tuple[GPTConfig, Params]:
    """The model without tokens that no text has: some vocabularies are rounded up for speed."""
    if vocab_size > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {vocab_size} tokens and the model {config.vocab_size}: give the "
            "tokenizer that the model was trained with"
        )
    tables = {"wte.weight", "lm_head.weight"} & params.keys()
    kept = {name: params[name][:vocab_size] for name in tables}
    return replace(config, vocab_size=vocab_size), params | kept


def _steps(
    asked: Asked,
    side: Framework,
    device: str,
    config: GPTConfig,
    params: Params,
    prompts: list[np.ndarray],
) -> Iterator[np.ndarray]:
    runtime = side.runtime.configure(asked.dtype, device)
    side.runtime.tune(device, asked.dtype, config.emb_dim)
    program = programs.gpt2(config=config, given=params, steps=1)
    model = program.build(side, runtime, params)
    model.eval()
    model = side.generate.decode_layout(model)
    return side.generate.generate(model, prompts, asked.tokens, asked.sampling, runtime)


def _timed(steps: Iterator[np.ndarray], times: list[float]) -> Iterator[np.ndarray]:
    """``steps``, with the seconds that each was there after, printing left out, in ``times``."""
    spent = 0.0
    while True:
        begun = time.perf_counter()
        ids = next(steps, None)
        if ids is None:
            return
        spent += time.perf_counter() - begun
        times.append(spent)
        yield ids


def _print_growing(prompt: str, steps: Iterator[np.ndarray], stream: Stream) -> None:
    print(prompt, end="", flush=True)
    for ids in steps:
        print(stream.push(int(ids[0])), end="", flush=True)
    print(stream.flush())
