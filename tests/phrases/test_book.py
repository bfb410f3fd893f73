"""The book: what it has, that both halves have the same, and what is found by which words."""

import ast
import builtins

import pytest

from bench.reporting import phrasebook
from tests.helpers.sources import ROOT
from twingrad.phrases import book, sources
from twingrad.phrases.phrase import FLOAT64_BOUND

ENTRIES = list(book.entries())
TERMINAL = 80


def test_there_are_more_than_a_hundred_and_no_name_or_title_comes_twice():
    assert len(ENTRIES) > 100
    for names in ([p.name for _, p in ENTRIES], [p.title for _, p in ENTRIES]):
        assert len({*names}) == len(names)
    titles = [p.title for _, p in ENTRIES] + [family.title for family in book.FAMILIES]
    assert len({*map(phrasebook.anchor, titles)}) == len(titles)


@pytest.mark.parametrize("family", book.FAMILIES, ids=lambda family: family.name)
def test_both_halves_have_the_phrases_of_the_notes_in_their_order(family):
    for framework in sources.FRAMEWORKS:
        names = [phrase.name for phrase in family.phrases]
        assert sources.names(framework, family) == names, framework


def test_every_module_of_code_belongs_to_a_family():
    names = {family.name for family in book.FAMILIES}
    for folder in ("torch_code", "jax_code", "notes"):
        paths = (ROOT / "twingrad" / "phrases" / folder).glob("[!_]*.py")
        assert {path.stem for path in paths} == names


def test_every_phrase_says_what_differs_and_what_it_costs():
    for _, phrase in ENTRIES:
        assert phrase.words, phrase.name
        assert phrase.differs.endswith("."), phrase.name
        assert phrase.costs.endswith("."), phrase.name


def test_most_phrases_have_a_gradient_and_the_bound_of_float64():
    with_gradient = [phrase for _, phrase in ENTRIES if phrase.gradient]
    exact = [phrase for _, phrase in ENTRIES if phrase.bound == FLOAT64_BOUND]
    assert len(with_gradient) > len(ENTRIES) / 3
    assert len(exact) > len(ENTRIES) * 0.9


@pytest.mark.parametrize("framework", sources.FRAMEWORKS)
def test_code_is_shown_whole_with_what_it_uses_and_fits_a_terminal(framework):
    for family, phrase in ENTRIES:
        code = sources.source(framework, family, phrase)
        assert max(map(len, code.splitlines())) <= TERMINAL, phrase.name
        tree = ast.parse(code)
        assert phrase.name in {getattr(node, "name", "") for node in tree.body}
        assert _used(tree) <= _bound(tree) | {*dir(builtins)}, code


def _bound(tree: ast.AST) -> set[str]:
    """Every name that is bound anywhere in ``tree``."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
    return names


def _used(tree: ast.AST) -> set[str]:
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


QUESTIONS = {
    "torch.gather": "gather",
    "take_along_axis": "gather",
    "torch.topk": "top_k",
    "lax.scan": "recurrence",
    "detach": "stop_gradient",
    "requires_grad_": "freeze",
    "per-example gradients": "per_example_gradients",
    "torch.no_grad": "without_gradient",
    "IGNORE_INDEX": "ignore_some_targets",
    "register_forward_hook": "intermediates",
    "index_add": "add_at",
    "clip_grad_norm_": "clip_by_norm",
    "block_until_ready": "measure_time",
    "fsdp": "sharded_parameters",
    "NonConcreteBooleanIndexError": "chosen",
    "nnx.List": "list_of_layers",
    "kv cache": "write_a_slice",
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_finds_its_phrase_among_the_first(question):
    found = book.find(question.split())
    names = [phrase.name for _, phrase in (found.named or found.in_code)]
    assert QUESTIONS[question] in names[:4]


def test_a_word_that_is_in_code_alone_is_found():
    found = book.find(["logaddexp"])
    assert not found.named
    assert [phrase.name for _, phrase in found.in_code] == ["own_forward_derivative"]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("gahter", "no phrase has 'gahter': did you mean gather? twingrad phrases"),
        ("scan gahter", "'gahter': did you mean gather?"),
        ("qqqq", "no phrase has 'qqqq': twingrad phrases without a word lists all"),
        ("scan safetensors", "no phrase has all words of 'scan safetensors'"),
        ("...", "'...' has no word to look for"),
    ],
)
def test_a_question_without_an_answer_is_refused_in_a_sentence(question, said):
    with pytest.raises(ValueError, match=r"phrase|word") as error:
        book.find(question.split())
    assert said in str(error.value)
