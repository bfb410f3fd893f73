"""Training GPT-2: the twins' trainers take the same steps, and their options change no number."""

from dataclasses import replace

import numpy as np
import pytest

from bench.harness import programs
from bench.studies import numerical_traps
from shared import data, params
from shared.config import IGNORED, AdamWConfig, GPTConfig, TrainConfig
from tests.helpers import verdicts
from twingrad.numerics import UNIT_ROUNDOFF

MODEL = GPTConfig(
    vocab_size=61, context_length=16, emb_dim=24, n_heads=4, n_layers=1, qkv_bias=True
)
TWO_LAYERS = replace(MODEL, n_layers=2)
NO_DROPOUT = replace(MODEL, drop_rate=0.0)
T = 13
slow = pytest.mark.slow


def _config(steps: int = 10, **options) -> TrainConfig:
    optimizer = AdamWConfig(learning_rate=3e-3, warmup_steps=3, total_steps=steps)
    return TrainConfig(**{"optimizer": optimizer, "batch_size": 6, "dtype": "float64"} | options)


def _trainer(framework, config: TrainConfig, model: GPTConfig = MODEL, start=None):
    runtime = framework.runtime.configure(config.dtype, "cpu")
    values = params.init_gpt2(model, spread=programs.SPREAD) if start is None else start

    def make():
        return framework.make_gpt2(model, recompute=config.recompute)

    return framework.train.Trainer(
        framework.params.build(make, values, runtime.master), config, runtime
    )


def _batch(step: int, micro_batches: int = 1):
    """A batch of six in which sequences differ in how many targets count: [A, B, T] each."""
    starts = np.random.default_rng(100 + step).integers(MODEL.vocab_size, size=(6, 1))
    inputs, targets = data.split_tokens((starts + 3 * np.arange(T + 1)) % MODEL.vocab_size)
    targets = targets.copy()
    targets[0, :9] = targets[3, :2] = IGNORED
    return tuple(x.reshape(micro_batches, -1, T) for x in (inputs, targets))


def _train(trainer, first: int, last: int, micro_batches: int = 1) -> np.ndarray:
    """Losses and gradient norms, [steps, 2]."""
    made = [trainer.step(*_batch(step, micro_batches)) for step in range(first, last)]
    return np.array([(step.loss, step.grad_norm) for step in made])


@pytest.fixture(scope="module")
def hundred(frameworks):
    """100 steps of each framework in float64, everything switched on: figures and state."""
    config = _config(100, micro_batches=2, loss_chunk=20)
    made = {}
    for framework in frameworks:
        trainer = _trainer(framework, config, TWO_LAYERS)
        made[framework.name] = (_train(trainer, 0, 100, 2), trainer.export())
    return made


@pytest.mark.slow
def test_a_hundred_steps_agree_at_every_step(hundred):
    (ours, _), (theirs, _) = hundred["torch"], hundred["jax"]
    assert (ours[:, 0] < ours[0, 0]).mean() > 0.9, "nothing was learned"
    assert (ours[:, 1] > 1).any()
    assert (ours[:, 1] < 1).any(), "clipping should act at some steps and not at others"
    verdicts.assert_steps_equal(ours, theirs, 1e-10)


@pytest.mark.slow
def test_parameters_and_moments_agree_after_a_hundred_steps(hundred):
    verdicts.assert_states_equal(hundred["torch"][1], hundred["jax"][1], 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["torch", "jax"])
def test_half_in_either_framework_is_the_whole_run(frameworks, hundred, first):
    begins, ends = frameworks if first == "torch" else reversed(frameworks)
    config = _config(100, micro_batches=2, loss_chunk=20)
    trainer = _trainer(begins, config, TWO_LAYERS)
    figures = [_train(trainer, 0, 50, 2)]
    handed = trainer.export()
    trainer = _trainer(ends, config, TWO_LAYERS)
    trainer.restore(handed)
    figures.append(_train(trainer, 50, 100, 2))
    expected, state = hundred[first]
    verdicts.assert_steps_equal(np.concatenate(figures), expected, 1e-10)
    verdicts.assert_states_equal(trainer.export(), state, 1e-10)


@pytest.mark.slow("jax-*", "torch-bfloat16-*")
@pytest.mark.parametrize(
    ("dtype", "dropout"),
    [("float64", "matched"), ("float32", "native"), ("bfloat16", "matched")],
)
def test_resuming_from_a_state_is_exact(framework, dtype, dropout):
    config = _config(dtype=dtype, dropout=dropout)
    whole = _trainer(framework, config)
    _train(whole, 0, 3)
    state = whole.export()
    expected = _train(whole, 3, 6)
    second = _trainer(framework, config)
    second.restore(state)
    assert (_train(second, 3, 6) == expected).all()
    verdicts.assert_states_equal(second.export(), whole.export(), 0)


@pytest.mark.slow("jax")
def test_a_state_is_a_copy(framework):
    trainer = _trainer(framework, _config())
    _train(trainer, 0, 1)
    state = trainer.export()
    before = {name: value.copy() for name, value in state.params.items()}
    _train(trainer, 1, 3)
    assert all((state.params[name] == before[name]).all() for name in before)


@pytest.fixture(scope="module")
def plain(framework):
    """Four steps with nothing switched on."""
    return _train(_trainer(framework, _config(), NO_DROPOUT), 0, 4)


@pytest.mark.slow("jax-*")
@pytest.mark.parametrize(
    "option",
    [
        {"loss_chunk": 7},
        pytest.param({"loss_chunk": 1000}, marks=slow),
        {"recompute": True},
        {"micro_batches": 3},
    ],
    ids=str,
)
def test_what_saves_memory_changes_no_number(framework, plain, option):
    """Without dropout, whose masks depend on how the batch is divided."""
    saving = _config(**option)
    made = _train(_trainer(framework, saving, NO_DROPOUT), 0, 4, saving.micro_batches)
    assert made == pytest.approx(plain, rel=1e-12, abs=0)


def _gradients(framework, trainer, inputs, targets) -> tuple[float, dict[str, np.ndarray]]:
    """What ``trainer`` would step by: the loss, and copies of the gradients by canonical name."""
    made = trainer.gradients(inputs, targets)
    if framework.name == "torch":
        left = {name: p.grad for name, p in trainer.model.named_parameters()}
        loss, named = made, framework.params.export_tensors(trainer.model, left)
    else:
        loss, named = made[0], framework.params.export_tensors(made[1])
    return float(loss), {name: value.copy() for name, value in named.items()}


def _assert_close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """Tensors agree to 1e-12 of the largest number of each."""
    assert ours.keys() == theirs.keys()
    for name in ours:
        apart = np.abs(ours[name] - theirs[name]).max()
        assert apart <= 1e-12 * np.abs(theirs[name]).max(), name


N, C, V = 39, 5, 11


def _head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, a head and targets, of which a whole chunk of 13 and single ones are ignored."""
    random = np.random.default_rng(0)
    targets = random.integers(V, size=N)
    targets[13:26] = targets[[3, 30, 38]] = IGNORED
    return random.normal(size=(N, C)), random.normal(size=(V, C)), targets


def _head_loss(
    framework, chunk: int, factor: float = 1.0, dtype="float64"
) -> dict[str, np.ndarray]:
    """``factor`` times ``chunked_loss``, or the loss taken at once for 0, and its gradients."""
    runtime = framework.runtime.configure(dtype, "cpu")
    x, weight, y = runtime.batch(*_head())

    def loss_of(x, weight):
        if chunk:
            return factor * framework.loss.chunked_loss(x, weight, y, chunk)
        return factor * framework.loss.cross_entropy(x @ weight.T, y)

    if framework.name == "torch":
        import torch

        with torch.no_grad():
            value = loss_of(x, weight)
        loss = loss_of(x.requires_grad_(), weight.requires_grad_())
        gradients = torch.autograd.grad(loss, (x, weight))
    else:
        import jax

        value = loss_of(x, weight)
        loss, gradients = jax.value_and_grad(loss_of, argnums=(0, 1))(x, weight)
    made = (value, loss, *gradients)
    names = ("value", "loss", "x", "weight")
    return {name: framework.params.to_numpy(a) for name, a in zip(names, made, strict=True)}


@pytest.mark.slow("jax-*")
@pytest.mark.parametrize("chunk", [1, 7, pytest.param(13, marks=slow), N, 1000])
def test_the_chunked_loss_equals_the_whole_loss_and_gradients(framework, chunk):
    """Whether or not the chunks come out even, and also where nothing is differentiated."""
    _assert_close(_head_loss(framework, chunk), _head_loss(framework, 0))


@pytest.mark.slow("jax--3.0")
@pytest.mark.parametrize("factor", [-3.0, 1 / 37])
def test_a_multiple_of_the_chunked_loss_multiplies_gradients(framework, factor):
    whole = _head_loss(framework, 7)
    expected = {name: factor * value for name, value in whole.items()}
    _assert_close(_head_loss(framework, 7, factor), expected)


@pytest.mark.slow("jax")
def test_the_factor_of_chunked_gradients_keeps_its_digits(framework):
    """1 / 67, which bfloat16 rounds up by 0.19 %, would make every gradient so much larger."""
    one, scaled = (_head_loss(framework, 7, factor, "bfloat16") for factor in (1.0, 1 / 67))
    for name in ("x", "weight"):
        made = 67 * (one[name] * scaled[name]).sum() / np.square(one[name]).sum()
        assert made == pytest.approx(1.0, abs=2**-10), name


@pytest.mark.slow("jax")
def test_the_one_at_the_target_rounds_nothing_away_in_chunks(framework):
    """In one product with softmax minus one, it outweighs the rest of a sum over the vocabulary."""
    exact = numerical_traps.features_gradient(framework, "float64", 0)
    whole, ours = (
        numerical_traps.relative_error(
            numerical_traps.features_gradient(framework, "float32", chunk), exact
        )
        for chunk in (0, 64)
    )
    assert ours < UNIT_ROUNDOFF["float32"] < whole / 2


def test_ignored_targets_have_no_gradient_in_chunks(framework):
    gradient = _head_loss(framework, 7)["x"]
    assert ((gradient == 0).all(axis=1) == (_head()[2] == IGNORED)).all()


def test_gradients_in_chunks_are_given_once_and_not_wrong_twice(framework):
    """PyTorch's are multiplied where they lie, so a second backward pass must be refused."""
    if framework.name == "jax":
        pytest.skip("values have no second time")
    import torch

    x, weight, y = _head()
    x, weight = (torch.tensor(a, requires_grad=True) for a in (x, weight))
    loss = framework.loss.chunked_loss(x, weight, torch.tensor(y), 7) / 3
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.slow("jax")
def test_barriers_between_blocks_outlive_the_compiler(framework):
    """Else XLA computes each later block's gradient again in every earlier one, on a CPU."""
    if framework.name == "torch":
        pytest.skip("PyTorch fuses nothing unasked")
    trainer = _trainer(framework, _config(dtype="float32"), TWO_LAYERS)
    batch = trainer._batch(*_batch(0))
    text = trainer._step.lower(trainer.leaves, batch).compile().as_text()
    assert text.count(" opt-barrier(") >= 2 * TWO_LAYERS.n_layers - 1


@pytest.mark.slow("jax-*")
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_chunks_change_no_gradient_of_the_model(framework, tied):
    model = replace(NO_DROPOUT, tie_embeddings=tied)
    whole, chunked = (
        _gradients(framework, _trainer(framework, _config(loss_chunk=chunk), model), *_batch(0))
        for chunk in (0, 7)
    )
    assert ("lm_head.weight" in whole[1]) is not tied
    assert chunked[0] == pytest.approx(whole[0], rel=1e-12, abs=0)
    _assert_close(chunked[1], whole[1])


@pytest.mark.slow("jax")
def test_gradients_are_those_of_the_step_and_move_nothing(framework):
    config = _config(loss_chunk=20, micro_batches=2)
    trainer, batch = _trainer(framework, config), _batch(0, 2)
    before = trainer.export()
    loss, gradients = _gradients(framework, trainer, *batch)
    again = _gradients(framework, trainer, *batch)
    after = trainer.export()
    assert after.step == before.step
    verdicts.assert_states_equal(after, before, 0)
    assert again[0] == loss
    assert all((again[1][name] == gradients[name]).all() for name in gradients)

    made = trainer.step(*batch)
    norm = np.sqrt(sum(np.square(value).sum() for value in gradients.values()))
    assert (made.loss, made.grad_norm) == pytest.approx((loss, norm), rel=1e-12, abs=0)
    share = (1 - config.optimizer.beta1) * min(1.0, config.optimizer.max_grad_norm / norm)
    expected = {name: share * value for name, value in gradients.items()}
    _assert_close(trainer.export().first_moment, expected)


@pytest.mark.slow("jax")
def test_one_micro_batch_equals_a_loop_over_it(framework):
    """The loop is over it and a second one, in which no target counts."""
    inputs, targets = _batch(0)
    padded = (np.concatenate([inputs, inputs]), np.concatenate([targets, 0 * targets + IGNORED]))
    one, loop = (
        _gradients(framework, _trainer(framework, _config(micro_batches=len(batch[0]))), *batch)
        for batch in ((inputs, targets), padded)
    )
    assert one[0] == pytest.approx(loop[0], rel=1e-12, abs=0)
    _assert_close(one[1], loop[1])


@pytest.mark.slow("jax")
def test_recomputing_draws_the_same_dropout_again(framework):
    expected = _train(_trainer(framework, _config()), 0, 4)
    made = _train(_trainer(framework, _config(recompute=True)), 0, 4)
    assert made == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.slow("jax")
def test_ignored_targets_count_neither_in_loss_nor_mean(framework):
    trainer = _trainer(framework, _config(), NO_DROPOUT)
    inputs, targets = _batch(0)
    counted = targets[0] != IGNORED
    each = [
        float(trainer.evaluate(inputs[0], np.where(counted & (np.arange(T) == t), targets[0], -1)))
        for t in range(T)
    ]
    assert trainer.step(inputs, targets).loss == pytest.approx(sum(each) / counted.sum(), rel=1e-12)


@pytest.mark.slow("jax")
def test_a_target_that_is_ignored_may_be_anything(framework):
    """Its logits get no gradient: the same step is taken whatever the input before it led to."""
    inputs, targets = _batch(0)
    other = inputs.copy()
    other[:, :, -1] = (other[:, :, -1] + 1) % MODEL.vocab_size
    targets[:, :, -1] = IGNORED
    made = [_trainer(framework, _config(), NO_DROPOUT).step(x, targets) for x in (inputs, other)]
    assert made[0] == made[1]


@pytest.mark.slow("jax-*")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_and_moments_are_kept_in_float32(framework, dtype):
    trainer = _trainer(framework, _config(dtype=dtype))
    _train(trainer, 0, 2)
    state = trainer.export()
    for part in (state.params, state.first_moment, state.second_moment):
        assert {value.dtype.name for value in part.values()} == {"float32"}


@pytest.mark.slow("jax")
def test_in_bfloat16_steps_smaller_than_its_grid_still_add_up(framework):
    """Master parameters: what is too small to move a bfloat16 number moves what it is made from."""
    optimizer = AdamWConfig(
        learning_rate=1e-5, min_learning_rate=1e-5, warmup_steps=0, total_steps=20
    )
    config = _config(dtype="bfloat16", optimizer=optimizer)
    trainer = _trainer(framework, config, NO_DROPOUT)
    before = trainer.export().params["ln_f.weight"]
    _train(trainer, 0, 10)
    moved = np.abs(trainer.export().params["ln_f.weight"] - before)
    assert moved.max() < 2**-9, "this is no step that bfloat16 would have lost"
    assert (moved > 1e-6).mean() > 0.9


@pytest.mark.slow("jax")
def test_bfloat16_computes_what_float64_does_but_for_rounding(framework, plain):
    rounded = _train(_trainer(framework, _config(dtype="bfloat16"), NO_DROPOUT), 0, 4)
    assert rounded[:, 0] == pytest.approx(plain[:, 0], rel=2**-8)
    assert (rounded != plain).all(), "it was not computed in bfloat16"


@pytest.mark.slow("jax")
def test_dropout_is_active_in_training_and_off_in_evaluation(framework):
    inputs, targets = _batch(0)
    with_it, without = (_trainer(framework, _config(), model) for model in (MODEL, NO_DROPOUT))
    sums = [float(t.evaluate(inputs[0], targets[0])) for t in (with_it, without)]
    assert sums[0] == sums[1]
    assert with_it.step(inputs, targets) != without.step(inputs, targets)


@pytest.mark.slow("jax")
def test_native_dropout_differs_from_step_to_step(framework):
    config = _config(dropout="native")
    frozen = replace(config.optimizer, learning_rate=0.0, min_learning_rate=0.0)
    trainer = _trainer(framework, replace(config, optimizer=frozen))
    losses = {trainer.step(*_batch(0)).loss for _ in range(4)}
    assert len(losses) == 4


@pytest.mark.slow("jax")
def test_nothing_moves_where_the_gradients_are_not_finite(framework):
    huge = params.init_gpt2(MODEL)
    huge["ln_f.weight"] *= np.float32(1e38)
    trainer = _trainer(framework, _config(dtype="float32"), start=huge)
    before, made = trainer.export(), trainer.step(*_batch(0))
    assert not np.isfinite([made.loss, made.grad_norm]).all()
    verdicts.assert_states_equal(trainer.export(), before, 0)


@pytest.mark.slow
def test_nothing_moves_where_the_loss_alone_is_not_finite(framework, monkeypatch):
    trainer = _trainer(framework, _config(dtype="float32"))
    _train(trainer, 0, 2)
    before = trainer.export()
    name = {"torch": "gradients", "jax": "_differentiated"}[framework.name]
    computed = getattr(trainer, name)

    def spoilt(*batch):
        found = computed(*batch)
        return found + np.inf if framework.name == "torch" else (found[0] + np.inf, found[1])

    monkeypatch.setattr(trainer, name, spoilt)
    if framework.name == "jax":  # traced before the loss was spoilt
        import jax

        monkeypatch.setattr(trainer, "_step", jax.jit(lambda *given: trainer._updated(*given)))
    made = trainer.step(*_batch(2))
    assert np.isinf(made.loss)
    assert np.isfinite(made.grad_norm)
    verdicts.assert_states_equal(trainer.export(), before, 0)


@pytest.mark.slow("jax")
def test_evaluation_leaves_training_as_it_was(framework):
    config = _config()
    expected = _train(_trainer(framework, config), 0, 3)
    trainer = _trainer(framework, config)
    made = []
    for step in range(3):
        trainer.evaluate(*(x[0] for x in _batch(50)))
        made.append(_train(trainer, step, step + 1)[0])
    assert (np.array(made) == expected).all()


def _largest_tensor(framework, config: TrainConfig) -> int:
    """Elements of the largest floating-point tensor that one training step makes."""
    model = replace(NO_DROPOUT, vocab_size=5000)
    trainer = _trainer(framework, config, model)
    inputs, targets = _batch(0)
    sizes = [0]
    if framework.name == "torch":
        from torch import Tensor
        from torch.utils._python_dispatch import TorchDispatchMode

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                made = function(*args, **(kwargs or {}))
                sizes.extend(x.numel() for x in [made] if isinstance(x, Tensor))
                return made

        with Watch():
            trainer.step(inputs, targets)
    else:
        import jax.extend

        keys = np.zeros((1, trainer.sites, 2), np.uint32)
        batch = (*trainer.runtime.batch(inputs, targets), keys)
        todo = [jax.make_jaxpr(trainer._updated)(trainer.leaves, batch).jaxpr]
        while todo:
            for equation in todo.pop().eqns:
                sizes.extend(v.aval.size for v in equation.outvars)
                inner = jax.extend.core.jaxprs_in_params(equation.params)
                todo.extend(inner)
    return max(sizes)


@pytest.mark.slow("jax")
def test_the_logits_never_exist_at_full_size(framework):
    whole = 6 * T * 5000
    assert _largest_tensor(framework, _config()) >= whole
    assert _largest_tensor(framework, _config(loss_chunk=13)) <= 5000 * max(13, MODEL.emb_dim)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("default")  # some of the compiler's own
@pytest.mark.parametrize(("chunk", "model"), [(0, MODEL), (13, replace(TWO_LAYERS, drop_rate=0.0))])
def test_a_compiled_trainer_takes_the_same_steps(frameworks, chunk, model):
    """Compiled as a whole, or block by block around a loss in chunks."""
    import torch

    torch_side = frameworks[0]
    expected = _train(_trainer(torch_side, _config(), model), 0, 3)
    compiled = _config(compile=True, loss_chunk=chunk)
    try:
        made = _train(_trainer(torch_side, compiled, model), 0, 3)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"torch.compile finds no compiler here: {error}")
    assert made == pytest.approx(expected, rel=1e-12, abs=0)
