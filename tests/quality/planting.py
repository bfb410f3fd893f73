"""Mutants of a file by the operators of mutmut: one small change of the source in each.

mutmut's own runner keeps all mutants of a function in one file and chooses between them as the
program runs, which leaves out decorated functions and whatever runs at import. Here its operators
are used alone, also there, and each mutant is a whole source.
"""

import difflib
import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.sources import ROOT


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A file with one change: its first changed line, and the changed lines before and after."""

    file: str
    number: int
    line: int
    before: str
    after: str
    source: str

    @property
    def name(self) -> str:
        """A name that is the same in every call, as long as the file is."""
        return f"{self.file}:{self.number}"


@functools.cache
def _mutations(file: str, words: bool = True):
    """The syntax tree of a file and all its mutations; what is for types alone is left out."""
    import libcst
    from libcst import matchers
    from libcst.metadata import MetadataWrapper
    from mutmut.mutation.file_mutation import MutationVisitor
    from mutmut.mutation.mutators import mutation_operators
    from mutmut.mutation.pragma_handling import get_ignored_lines

    class Visitor(MutationVisitor):
        def _skip_node_and_children(self, node: libcst.CSTNode) -> bool:
            if isinstance(node, libcst.FunctionDef):
                return False
            return super()._skip_node_and_children(node) or matchers.matches(node, types)

    named = matchers.Name("__all__") | matchers.Name("__slots__")
    types = matchers.AnnAssign(annotation=matchers.Annotation(matchers.Name("TypeAlias")))
    types |= matchers.Assign(value=matchers.Call(func=matchers.Name("TypeVar")))
    types |= matchers.Assign(targets=[matchers.AssignTarget(named)])
    text = (ROOT / file).read_text(encoding="utf-8")
    wrapper = MetadataWrapper(libcst.parse_module(text))
    visitor = Visitor(mutation_operators, get_ignored_lines(file, text, wrapper, None), None)
    tree = wrapper.visit(visitor)
    found = visitor.mutations
    if not words:
        found = [one for one in found if not isinstance(one.original_node, libcst.SimpleString)]
    return tree, found


def draw(files: Sequence[str], count: int, seed: int, *, words: bool = True) -> list[Mutant]:
    """``count`` mutants of all files together, each as likely as any other, in random order.

    Without ``words``, no text in quotes is changed.
    """
    made = {file: _mutations(file, words) for file in files}
    places = [(file, number) for file in files for number in range(len(made[file][1]))]
    chosen = random.Random(seed).sample(places, min(count, len(places)))
    return [_mutant(file, number, *made[file]) for file, number in chosen]


def count(files: Sequence[str]) -> int:
    """How many mutants there are of all files together."""
    return sum(len(_mutations(file)[1]) for file in files)


def _mutant(file: str, number: int, tree, mutations) -> Mutant:
    mutation = mutations[number]
    source = tree.deep_replace(mutation.original_node, mutation.mutated_node).code
    old, new = tree.code.splitlines(), source.splitlines()
    changes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    (first, *_) = [(a, b, c, d) for tag, a, b, c, d in changes if tag != "equal"]
    start, end, new_start, new_end = first
    return Mutant(
        file=file,
        number=number,
        line=start + 1,
        before="\n".join(line.strip() for line in old[start:end]),
        after="\n".join(line.strip() for line in new[new_start:new_end]),
        source=source,
    )


def path_of(mutant: Mutant, checkout: Path) -> Path:
    """The file of a mutant in a copy of the checkout."""
    return checkout / mutant.file
