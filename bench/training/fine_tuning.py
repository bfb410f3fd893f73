"""Loss before and after fine-tuning, on the new text and on the text of the run it began from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.training import run_folder
from bench.training.config import RunConfig
from shared import corpus, files
from shared.config import is_number
from shared.corpus import Corpus
from shared.tokenizer import Tokenizer
from twingrad.files import write_json

FILE = "fine_tuning.json"
NEW, OLD = "new text", "old text"
# The validation loss of each text, in nats per token.
Losses = dict[str, float]


@dataclass(kw_only=True)
class FineTuning:
    """One framework's validation losses, by text, before its first step and after its last."""

    before: Losses = field(default_factory=dict)
    after: Losses = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write them beside the metrics."""
        write_json(folder / FILE, {"before": self.before, "after": self.after})

    @classmethod
    def read(cls, folder: Path) -> "FineTuning":
        """Those that an earlier part of the run wrote; empty where it wrote none."""
        if not (folder / FILE).exists():
            return cls()
        values = files.read_object(folder / FILE, "remove it, which loses the losses before alone")
        return cls(before=_losses(values.get("before")), after=_losses(values.get("after")))

    def __str__(self) -> str:
        """As ``new text 3.2101 before, 2.0514 after; old text 2.2516 before, 2.6120 after``."""
        return "; ".join(
            f"{text} {loss:.4f} before"
            + (f", {self.after[text]:.4f} after" if text in self.after else "")
            for text, loss in self.before.items()
        )

    def measured(self, steps: int) -> Mapping[str, Sequence[tuple[int, float]]]:
        """By text, the loss before the first step and after the last of so many ``steps``."""
        return {
            f"{text}, before and after": [
                (step, losses[text])
                for step, losses in ((0, self.before), (steps, self.after))
                if text in losses
            ]
            for text in self.before
        }


def _losses(values: object) -> Losses:
    if not isinstance(values, dict):
        return {}
    return {text: loss for text, loss in values.items() if is_number(loss)}


def old_text(config: RunConfig, words: Tokenizer) -> Corpus | None:
    """The text of the run that ``config`` begins from; None where it begins from another model.

    Raises ``ValueError`` where that text cannot be read any more.
    """
    source = Path(config.init or "")
    for folder in (source, *source.parents[2:3]):  # a run, or one of its checkpoints
        if config.init is not None and (folder / run_folder.CONFIG).is_file():
            if "run" not in run_folder.read_json(folder / run_folder.CONFIG):
                return None  # a folder that transformers saved
            return corpus.load(run_folder.stored(folder).data, words, config.model.vocab_size)
    return None
