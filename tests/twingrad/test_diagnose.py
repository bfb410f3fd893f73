"""Diagnosis finds the module whose own computation differs, and names why."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from bench.cli.main import main
from bench.diagnosis import builtin, training, trajectory
from bench.harness import frameworks, programs
from bench.mutation import mutants
from bench.mutation import programs as mutation_programs
from tests.helpers.ports import BUGS, EVERY, PORTS
from twingrad import Pair, assert_equal_models, pair
from twingrad.diagnosis import pairs as diagnose

if not all(frameworks.installed(name) for name in ("torch", "jax")):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)

each_port = pytest.mark.parametrize("name", PORTS)


@pytest.fixture(scope="module")
def both():
    return frameworks.both()


def _linear_pair(**changed):
    """A linear layer and its port, which must agree."""

    def make():
        torch.manual_seed(0)
        return torch.nn.Linear(3, 2)

    given = {
        "torch": make,
        "jax": lambda: nnx.Linear(3, 2, rngs=nnx.Rngs(0)),
        "torch_loss": lambda model, x, y: ((model(x) - y) ** 2).mean(),
        "jax_loss": lambda model, x, y: ((model(x) - y) ** 2).mean(),
        "batch": (np.arange(12.0).reshape(4, 3), np.ones((4, 2))),
    }
    return given | changed


# Models that are not the project's own.


@pytest.mark.slow
@each_port
def test_a_right_port_has_no_divergence(name):
    assert diagnose.diagnose(PORTS[name]()) == []


@pytest.mark.slow(
    "hf-epsilon",
    "hf-gelu",
    "recurrent-head",
    "recurrent-update",
    "tower-sum",
    "hf-scale",
    "tower-epsilon",
    "conv-epsilon",
    "conv-momentum",
    "tower-activation",
)
@pytest.mark.parametrize(("name", "bug"), EVERY)
def test_a_planted_bug_of_a_port_is_located_and_named(name, bug):
    where, cause = BUGS[name][bug]
    first, *_ = diagnose.diagnose(PORTS[name](bug))
    assert where in first.where, first
    assert cause in (first.cause or ""), first


@pytest.mark.slow
def test_of_two_bugs_the_first_is_located():
    found = diagnose.diagnose(PORTS["hf"]("epsilon"), every=True)
    places = [f.where.split()[0] for f in found if f.stage == "forward"]
    assert places == ["transformer.h.0.ln_1", "transformer.h.1.ln_1"]


def test_an_optimizer_that_decays_everything_is_named():
    import optax

    given = _linear_pair(
        torch_optimizer=lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01),
        jax_optimizer=optax.adamw(0.1),
    )
    (found,) = diagnose.diagnose(Pair(**given))
    assert found.stage == "update"
    assert "weight decay 0.0001" in found.cause


def test_equal_optimizers_are_not_found_guilty():
    import optax

    given = _linear_pair(
        torch_optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        jax_optimizer=optax.sgd(0.1, momentum=0.9),
    )
    assert diagnose.diagnose(Pair(**given)) == []


def test_equal_models_can_be_claimed_in_anybodys_test():
    assert_equal_models(**_linear_pair())


def test_a_claim_that_does_not_hold_names_the_place():
    doubled = _linear_pair(jax_loss=lambda model, x, y: 2 * ((model(x) - y) ** 2).mean())
    with pytest.raises(AssertionError, match=r"forward of loss: no known cause"):
        assert_equal_models(**doubled)


# The built-in programs.


@pytest.mark.parametrize(
    "name", ["sigmoid-bce", "simple-net", pytest.param("gpt2", marks=pytest.mark.slow)]
)
def test_the_built_in_programs_have_no_divergence(both, name):
    options = {"steps": 4} if name == "gpt2" else {"steps": 8}
    assert builtin.find(programs.make(name, **options), both) == []


# One of each kind; the record of the study ``diagnosis`` has them all.
LOCATED = {
    "layer-norm-epsilon-1e-6": ("forward", "ln_1", "epsilon 1e-06"),
    "no-final-norm": ("forward", "model", "h.1 times wte.weight"),
    "no-mask": ("forward", "h.0.attn", "without a mask"),
    "one-norm-twice": ("forward", "h.0", "h.0.ln_1 of"),
    "positions-from-one": ("forward", "model", "positions from 1"),
    "padding-row": ("backward", "model", "token 16 gets no gradient"),
    "dropout-left-on": ("forward", "model", "draws at random"),
    "dropout-unscaled": ("forward", "drop", "what stays not scaled"),
    "clip-by-value": ("update", "adamw", "each number clipped"),
}


# On either side in turn: each takes seconds, and the sides are told apart by other tests.
QUICK = {"layer-norm-epsilon-1e-6", "no-mask", "padding-row", "dropout-unscaled", "clip-by-value"}
PLANTED = [
    pytest.param(
        name, frameworks.NAMES[place % 2], marks=[] if name in QUICK else [pytest.mark.slow]
    )
    for place, name in enumerate(LOCATED)
]


@pytest.mark.slow("clip-by-value-torch", "dropout-unscaled-jax", "layer-norm-epsilon-1e-6-torch")
@pytest.mark.parametrize(("name", "side"), PLANTED)
def test_a_planted_bug_of_the_twins_is_located_and_named(both, name, side):
    stage, where, cause = LOCATED[name]
    (mutant,) = (m for m in mutants.MUTANTS if m.name == name)
    with mutants.planted(mutant, side):
        first, *_ = builtin.find(mutation_programs.PROGRAMS[mutant.program](), both)
    assert first.stage == stage, first
    assert where in first.where, first
    assert cause in (first.cause or ""), first


# What the trainers do with a pass, which is PyTorch's own here: nothing has to be compiled.
RECIPES = {
    "mean-of-means": "the mean of the micro-batches' own means",
    "last-norm-reported": "the norm of the last micro-batch's share",
    "rate-per-micro-batch": "a schedule that counts micro-batches",
    "dropout-mask-every-layer": "the same units in every layer",
    "resume-without-schedule": "leaves the schedule's count of the steps as it was",
}


@pytest.mark.slow(
    "resume-without-schedule", "dropout-mask-every-layer", "rate-per-micro-batch", "mean-of-means"
)
@pytest.mark.parametrize("name", RECIPES)
def test_a_training_run_is_told_by_its_recipe(both, name):
    runs = trajectory.TrainingRuns(mutation_programs.PROGRAMS["gpt2"](), both)
    right = runs.train(both[0])
    (mutant,) = (m for m in mutants.MUTANTS if m.name == name)
    with mutants.planted(mutant, "torch"):
        wrong = runs.train(both[0])
    cause = training.followed(runs.program, both[0], wrong, right)
    assert RECIPES[name] in cause.torch
    assert cause.torch.startswith("the recipe, but")
    assert cause.jax == "the recipe"
    assert training.followed(runs.program, both[0], right, dict(right)) is None


# The command line.


def test_a_new_users_path_in_under_thirty_lines(tmp_path, capsys):
    path = tmp_path / "mine.py"
    assert main(["init-pair", str(path)]) == 0
    code = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(code) < 40
    assert main(["compare", str(path)]) == 0
    assert main(["diagnose", str(path), "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["ok"]
    assert found["findings"] == []
    capsys.readouterr()


def test_findings_are_shown_written_and_end_in_one(tmp_path, capsys):
    path = tmp_path / "mine.py"
    pair.write_starter(path)
    path.write_text(path.read_text().replace("nnx.relu", "nnx.gelu"))
    assert main(["diagnose", str(path), "--json", str(tmp_path / "found.json")]) == 1
    assert "GELU" in capsys.readouterr().out
    (finding,) = json.loads((tmp_path / "found.json").read_text())["findings"]
    assert set(finding) == {"stage", "where", "cause", "evidence", "size"}


BAD = {
    "raises": ("raise RuntimeError('no such model')", "RuntimeError: no such model"),
    "nothing": ("x = 1", "nothing called pair"),
    "no-pair": ("pair = 3", "int called pair"),
    "syntax": ("def", "SyntaxError"),
    "exits": ("import sys; sys.exit(0)", "SystemExit: 0"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_pair_file_is_one_sentence(tmp_path, capsys, kind):
    text, said = BAD[kind]
    path = tmp_path / "mine.py"
    path.write_text(text)
    for command in ("compare", "diagnose"):
        assert main([command, str(path)]) == 2
        sentence, *frames = capsys.readouterr().err.splitlines()
        assert said in sentence
        # Where the file's own code raised, its one line is shown, and nothing of anybody else's.
        assert len(frames) == (said.partition(":")[0][-4:] in ("rror", "Exit"))
        assert all(line.startswith(f"  {path}:1") and text in line for line in frames)


def test_init_pair_overwrites_nothing(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("mine")
    assert main(["init-pair", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_text() == "mine"


NAMED = {"0.weight": "kernel", "0.bias": "bias"}


def _refused(**changed):
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the sentence is what is tested
        diagnose.diagnose(Pair(**_linear_pair(**changed)))
    return str(raised.value)


def test_parameters_without_a_partner_are_named():
    said = _refused(jax=lambda: nnx.Linear(3, 2, use_bias=False, rngs=nnx.Rngs(0)))
    assert "no partner was found in JAX for bias (2,)" in said


def test_different_batches_are_refused():
    said = _refused(jax_batch=(np.zeros((3, 3)), np.ones((4, 2))))
    assert "(4, 3) in PyTorch and (3, 3) in JAX" in said


def test_nan_in_the_batch_is_refused():
    assert "NaN" in _refused(batch=(np.full((4, 3), np.nan), np.ones((4, 2))))


def test_a_loss_that_is_not_finite_is_refused():
    def infinite(model, x, y):
        return (model(x) - y).sum() * float("inf")

    said = _refused(torch_loss=infinite, jax_loss=infinite)
    assert "PyTorch's loss is inf and JAX's inf" in said
    assert "begins in the loss itself" in said


def test_a_model_that_is_not_deterministic_is_refused():
    def noisy(model, x, y):
        return ((model(x) + torch.rand(4, 2) - y) ** 2).mean()

    assert "torch model is not deterministic" in _refused(torch_loss=noisy)


def test_the_module_that_draws_at_random_is_named():
    class Noisy(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) + torch.rand(4, 2)

    def make():
        return torch.nn.Sequential(Noisy(3, 2))

    assert "and 0 is where that begins" in _refused(torch=make, names=NAMED)


def test_what_the_users_code_raises_is_passed_on():
    def broken():
        raise KeyError("lost")

    assert "the pair's jax raised KeyError" in _refused(jax=broken)


def test_an_error_that_cannot_be_put_into_words_is_named():
    class Speechless(Exception):
        def __str__(self):
            raise OSError

    def broken():
        raise Speechless

    assert "the pair's jax raised Speechless: no reason given" in _refused(jax=broken)


def test_what_a_loss_asserts_is_passed_on():
    def strict(model, x, y):
        assert x.shape == (1, 1), "one row at a time"

    assert "torch_loss raised AssertionError: one row" in _refused(torch_loss=strict)


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_code_that_ends_the_process_is_no_verdict(side):
    said = _refused(**{f"{side}_loss": lambda model, x, y: sys.exit(0)})
    assert f"the pair's {side}_loss raised SystemExit: 0" in said


def test_a_parameter_is_judged_whatever_it_is_called():
    """A function's parameters are all trained: one named after a statistic is no statistic."""

    def make():
        torch.manual_seed(0)
        return torch.nn.Linear(3, 2)

    def function(params, x):
        return x @ jax.lax.stop_gradient(params["static"]["kernel"]) + params["static"]["bias"]

    params = {"static": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}
    (found,) = diagnose.diagnose(Pair(**_linear_pair(torch=make, jax=lambda: (function, params))))
    assert (found.stage, found.where) == ("backward", "weight")
    assert "no gradient flows in JAX" in found.cause


def test_a_wrong_kind_of_model_is_refused():
    assert "expected a torch.nn.Module" in _refused(torch=lambda: 3)
    assert "expected an nnx.Module" in _refused(jax=lambda: 3)


@pytest.mark.slow
def test_plain_functions_are_models_too():
    def function(params, x):
        return x @ params["kernel"] + params["bias"]

    params = {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}
    assert diagnose.diagnose(Pair(**_linear_pair(jax=lambda: (function, params)))) == []
