"""Checkpoints that either framework writes and either reads, whole or not at all."""

from shared.checkpoint.folders import StoredCheckpoint, newest, prune, steps, sweep
from shared.checkpoint.format import Checkpoint, Progress
from shared.checkpoint.reading import load
from shared.checkpoint.writing import NotFinite, Tensor, save, save_each

__all__ = [
    "Checkpoint",
    "NotFinite",
    "Progress",
    "StoredCheckpoint",
    "Tensor",
    "load",
    "newest",
    "prune",
    "save",
    "save_each",
    "steps",
    "sweep",
]
