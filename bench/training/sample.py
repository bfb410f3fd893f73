"""Run ``twingrad sample``: continue texts with a model, in one framework."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bench.harness import frameworks, programs
from bench.harness.foreign import Array
from bench.harness.frameworks import Framework
from bench.training import pretrained
from bench.training.pretrained import Pretrained
from shared import tokenizer
from shared.config import PRESETS, TRAINING_DTYPES, GPTConfig
from shared.params import Params
from shared.sampling import Sampling
from shared.tokenizer import Stream, Tokenizer
from twingrad.cli.options import option
from twingrad.printable import printable
from twingrad.terminal import NAMES as TITLES

# JAX compiles one program for the prompt and one for all later tokens.
WARM = 2
_MODEL, _TEXT, _COMPUTING = "the model", "the text", "how it is computed"
# How many tokens are written where the user names no number and the context has room for them.
MOST = 200
# A small model gives unlikely tokens more probability than they have in texts.
TEMPERATURE, TOP_P = 0.7, 0.9


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Options of ``sample``."""

    checkpoint: str = option(
        "",
        group=_MODEL,
        required=True,
        metavar="DIR",
        files=True,
        offers=tuple(pretrained.RELEASED),
        help="a run, one of its checkpoints, a transformers folder, or gpt2 ... gpt2-xl",
    )
    best: bool = option(
        False, group=_MODEL, help="of a run: the checkpoint with the lowest validation loss"
    )
    prompt: tuple[str, ...] = option(
        (),
        group=_TEXT,
        repeated=True,
        metavar="TEXT",
        help="the text to go on from; given several times, all are continued at once",
    )
    tokens: int | None = option(
        None,
        group=_TEXT,
        metavar="N",
        help="how many tokens to add",
        otherwise=MOST,
        rule="the model's context length where that is shorter",
    )
    temperature: float = option(
        TEMPERATURE,
        group=_TEXT,
        metavar="X",
        help="how freely tokens are drawn; 0 always takes the likeliest",
    )
    top_k: int | None = option(
        None, group=_TEXT, metavar="K", help="draw from the K likeliest tokens alone"
    )
    top_p: float | None = option(
        TOP_P,
        group=_TEXT,
        metavar="P",
        help="draw from the likeliest tokens whose probabilities add up to P; 1 is all of them",
    )
    seed: int = option(Sampling.seed, group=_TEXT, metavar="S", help="seed of the draw")
    preset: str | None = option(
        None,
        group=_MODEL,
        choices=tuple(PRESETS),
        help="the model's size, where the checkpoint is a single .safetensors file",
    )
    tokenizer: str | None = option(
        None,
        group=_MODEL,
        files=True,
        offers=("bytes", "gpt2"),
        help="another than the checkpoint's own: bytes, gpt2, or the path of a tokenizer.json",
    )
    framework: str | None = option(
        None,
        group=_COMPUTING,
        help="what to decode in",
        choices=frameworks.NAMES,
        otherwise=frameworks.default_name,
        rule="the first that is installed",
    )
    dtype: str = option(
        "float32", group=_COMPUTING, help="the dtype of the computation", choices=TRAINING_DTYPES
    )
    device: str = option(
        "auto",
        group=_COMPUTING,
        help="where to decode; auto is cuda if the framework sees a GPU",
        choices=frameworks.DEVICES,
    )

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn; ``ValueError`` where a value is out of range."""
        return Sampling(
            temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, seed=self.seed
        )


@dataclass(frozen=True)
class Pace:
    """Seconds from the start at which each token was there, the first and all later ones."""

    rows: int
    times: list[float]

    def __str__(self) -> str:
        """Tokens a second once nothing is left to compile, and how long that took."""
        total = f"{self.rows * len(self.times)} tokens in {self.times[-1]:.2f} s"
        steady = self.times[WARM - 1 :]
        if len(steady) < 2:
            return total
        rate = self.rows * (len(steady) - 1) / (steady[-1] - steady[0])
        return f"{total}; {rate:.1f} tokens/s after the first {WARM * self.rows}"


def run(options: SampleOptions) -> int:
    """Print continuations of the prompts; ``ValueError`` where the call or an input is wrong."""
    _chosen(options)  # before a model is loaded
    model, words = _loaded(options)
    return write(options, model.config, model.params, words)


def texts(options: SampleOptions) -> list[str]:
    """Each prompt with its continuation; ``ValueError`` where the call or an input is wrong."""
    framework, device = _chosen(options)
    model, words = _loaded(options)
    config, params = _without_padding(model.config, model.params, words.vocab_size)
    prompts = [words.encode(prompt) for prompt in options.prompt]
    steps = _steps(options, framework, device, config, params, prompts)
    return _texts(prompts, steps, words)


def _loaded(options: SampleOptions) -> tuple[Pretrained, Tokenizer]:
    model = pretrained.load(options.checkpoint, options.preset, best=options.best)
    if options.tokenizer is not None:
        return model, tokenizer.make(options.tokenizer)
    return model, tokenizer.from_json(pretrained.tokenizer_of(model, options.checkpoint))


def write(options: SampleOptions, config: GPTConfig, params: Params, words: Tokenizer) -> int:
    """Print a single text as it grows, several when all are done.

    Raises ``ValueError`` for what the model cannot go on from.
    """
    framework, device = _chosen(options)
    config, params = _without_padding(config, params, words.vocab_size)
    prompts = [words.encode(prompt) for prompt in options.prompt]
    steps = _steps(options, framework, device, config, params, prompts)
    times: list[float] = []
    timed = _timed(steps, times)
    if len(prompts) == 1:
        _print_growing(options.prompt[0], timed, Stream(words))
    else:
        print(_shown("\n\n".join(_texts(prompts, timed, words))))
    print(f"{Pace(len(prompts), times)}, in {TITLES[framework.name]}", file=sys.stderr)
    return 0


def _texts(prompts: list[Array], steps: Iterator[Array], words: Tokenizer) -> list[str]:
    rows = np.stack(list(steps), axis=1)  # (B, new tokens)
    whole = [np.concatenate(pair) for pair in zip(prompts, rows, strict=True)]
    return [words.decode(ids) for ids in whole]


def _chosen(options: SampleOptions) -> tuple[Framework, str]:
    """What to decode in and on; ``ValueError`` for a call that is wrong whichever the model is."""
    if not options.prompt:
        raise ValueError("there is no prompt: give --prompt a text to go on from")
    if not all(options.prompt):
        raise ValueError("the prompt is empty: give --prompt a text to go on from")
    if options.tokens is not None and options.tokens < 1:
        raise ValueError(f"--tokens is {options.tokens}: expected 1 or more")
    _ = options.sampling  # which checks its values
    framework = frameworks.one(options.framework or frameworks.default_name())
    device = frameworks.pick_device(options.device, (framework,))
    if options.dtype == "tf32" and device != "cuda":
        raise ValueError("dtype tf32 needs a cuda device: TF32 is a mode of NVIDIA's tensor cores")
    return framework, device


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
    cut = {name: params[name][:vocab_size] for name in tables}
    return replace(config, vocab_size=vocab_size), params | cut


def _steps(
    options: SampleOptions,
    framework: Framework,
    device: str,
    config: GPTConfig,
    params: Params,
    prompts: list[Array],
) -> Iterator[Array]:
    """The next token of every prompt, step by step."""
    runtime = framework.runtime.configure(options.dtype, device)
    framework.runtime.tune(device, options.dtype, config.emb_dim)
    program = programs.gpt2(config=config, start=params, steps=1)
    model = program.build(framework, runtime, params)
    model.eval()
    model = framework.generate.decode_layout(model)
    tokens = options.tokens or min(MOST, config.context_length)
    return framework.generate.generate(model, prompts, tokens, options.sampling, runtime)


def _timed(steps: Iterator[Array], times: list[float]) -> Iterator[Array]:
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


def _print_growing(prompt: str, steps: Iterator[Array], stream: Stream) -> None:
    print(_shown(prompt), end="", flush=True)
    for ids in steps:
        print(_shown(stream.push(int(ids[0]))), end="", flush=True)
    print(_shown(stream.flush()))


def _shown(text: str) -> str:
    """``text`` as it is printed: in a pipe as it is, on a terminal so that it cannot steer that."""
    return printable(text) if sys.stdout.isatty() else text
