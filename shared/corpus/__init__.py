"""Corpora: token ids to train on and to validate with, from text, token files or a chain.

Whatever its kind, a corpus is two long rows of token ids, left in their file until they are used,
and a description by which a run can be repeated.
"""

from shared.corpus.encoding import blocks, default_cache
from shared.corpus.file_tokens import ChangedFile
from shared.corpus.loading import holds_text, load, texts
from shared.corpus.markov import Markov
from shared.corpus.tokens import Concatenated, Corpus, Tokens

__all__ = [
    "ChangedFile",
    "Concatenated",
    "Corpus",
    "Markov",
    "Tokens",
    "blocks",
    "default_cache",
    "holds_text",
    "load",
    "texts",
]
