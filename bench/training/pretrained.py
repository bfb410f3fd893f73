"""Parameters to begin from: a released checkpoint, a folder, a file, another run."""

from dataclasses import dataclass
from pathlib import Path

from bench.training import metrics
from shared import checkpoint, tokenizer, transformers_io
from shared.config import GPTConfig, preset
from shared.params import Params
from twingrad.environment import install_command

# The checkpoints that OpenAI released, by the names people call them.
RELEASED = {
    name: f"openai-community/{name}" for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
}
# Vocabularies are rounded up to a multiple of some hundreds for speed.
_PADDING = 512
_FILES = ["config.json", "model.safetensors"]
# A tokenizer as its ``to_json`` gives it.
TokenizerJson = dict[str, object]


@dataclass(frozen=True)
class Pretrained:
    """A model's configuration and parameters, the tokenizer stored with them, and their origin.

    ``origin`` names the checkpoint that was taken, for the user.
    """

    config: GPTConfig
    params: Params
    tokenizer: TokenizerJson | None
    origin: str


def load(source: str, preset_name: str | None = None, *, best: bool = False) -> Pretrained:
    """The model of ``source``.

    ``source`` is one of ``RELEASED``; a folder as transformers saves it; a ``.safetensors`` file,
    with ``preset_name``; one of our checkpoints, or a run's folder, for its newest, or its ``best``
    by validation. Raises ``ValueError`` in one sentence.
    """
    if source in RELEASED:
        config, values = transformers_io.load(_released(source))
        return Pretrained(config, values, {"kind": "gpt2"}, RELEASED[source])
    path = Path(source)
    if best:
        path = _best(path)
    if not path.exists():
        names = ", ".join(RELEASED)
        raise ValueError(f"{source} does not exist: give one of {names}, a folder or a file")
    if (path / "state.json").exists():
        stored = checkpoint.load(path)
    elif folders := [folder for folder in path.glob("*/checkpoints") if folder.is_dir()]:
        newest, passed_over = checkpoint.newest(sorted(folders))
        if newest is None:
            reason = passed_over[0] if passed_over else "there is none yet"
            raise ValueError(f"{path} has no whole checkpoint: {reason}")
        stored, path = newest.checkpoint, newest.path
    else:
        config, values = transformers_io.load(path, preset(preset_name) if preset_name else None)
        return Pretrained(config, values, _tokenizer_of(path), str(path))
    origin = f"{path}, written by {stored.framework} at step {stored.step:,}"
    return Pretrained(stored.model, dict(stored.params), stored.tokenizer, origin)


def _best(run: Path) -> Path:
    """The checkpoint of the folder ``run`` that had the lowest validation loss."""
    losses = {}
    for folder in sorted(run.glob("*/checkpoints")):
        steps = checkpoint.steps(folder)
        for row in metrics.read(folder.parent / metrics.FILE, max(steps, default=0)):
            if row.val_loss is not None and row.step in steps:
                losses[folder / f"step-{row.step:06d}"] = row.val_loss
    if not losses:
        raise ValueError(
            f"{run} is not a run with a checkpoint that was validated: leave out --best to take "
            "the newest"
        )
    return min(losses, key=lambda path: losses[path])


def tokenizer_of(model: Pretrained, source: str) -> TokenizerJson:
    """The tokenizer that is stored with ``model``, else GPT-2's if it has GPT-2's vocabulary.

    Raises ``ValueError`` for a model of another vocabulary: its texts would be read wrongly.
    """
    if model.tokenizer is not None:
        return model.tokenizer
    tokens, usual = model.config.vocab_size, GPTConfig.vocab_size
    if usual <= tokens < usual + _PADDING:
        return {"kind": "gpt2"}
    is_bytes = " (256 tokens may be bytes: --tokenizer bytes)" if tokens == 256 else ""
    raise ValueError(
        f"{source} has no tokenizer.json, and its model has {tokens} tokens where GPT-2 has "
        f"{usual}: name its tokenizer by --tokenizer{is_bytes}"
    )


def _tokenizer_of(folder: Path) -> TokenizerJson | None:
    """The ``tokenizer.json`` beside the parameters, as transformers saves it."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    return {"kind": "bpe", "definition": tokenizer.read_definition(path)}


def _released(name: str) -> Path:
    """The folder of a released checkpoint: from the Hugging Face cache, else from the hub."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ValueError(
            f"{name} is fetched by huggingface_hub: {install_command('hub')}, or give --init a "
            "folder that holds config.json and model.safetensors"
        ) from None
    repository = RELEASED[name]
    try:
        return Path(snapshot_download(repository, allow_patterns=_FILES, local_files_only=True))
    except Exception:  # not in the cache, in whichever of its ways the library says so
        pass
    try:
        return Path(snapshot_download(repository, allow_patterns=_FILES))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{repository} is not in the Hugging Face cache and cannot be fetched ({reason}): "
            "connect once, or give --init a folder that holds config.json and model.safetensors"
        ) from None
