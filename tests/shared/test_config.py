"""Configurations: the sizes people know, and a refusal for everything else."""

import dataclasses

import pytest

from shared.config import (
    PRESETS,
    AdamWConfig,
    GPTConfig,
    SGDConfig,
    TrainConfig,
    preset,
)
from shared.params import count, gpt2_shapes


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (GPTConfig(), 124_412_160),
        (GPTConfig(tie_embeddings=False), 163_009_536),
        (preset("124m"), 124_412_160),
        (preset("gpt2"), 124_439_808),
        (preset("gpt2-medium"), 354_823_168),
        (preset("gpt2-large"), 774_030_080),
        (preset("gpt2-xl"), 1_557_611_200),
    ],
)
def test_parameter_counts_are_the_published_ones(config, parameters):
    assert count(gpt2_shapes(config)) == parameters


def test_the_defaults_are_gpt_config_124m():
    assert dataclasses.asdict(GPTConfig()) == {
        "vocab_size": 50257,
        "context_length": 1024,
        "emb_dim": 768,
        "n_heads": 12,
        "n_layers": 12,
        "drop_rate": 0.1,
        "qkv_bias": False,
        "tie_embeddings": True,
    }


def test_head_dim_times_heads_is_the_width():
    for name, config in PRESETS.items():
        assert config.head_dim * config.n_heads == config.emb_dim, name


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown preset 'gpt3'.*tiny, writer, small, 124m, gpt2"):
        preset("gpt3")


SIZES = ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers")
REFUSED = [
    *((GPTConfig, name, value) for name in SIZES for value in (0, -1, 1.5, "12", True, None)),
    *((GPTConfig, "drop_rate", value) for value in (-0.1, 1, 1.5, float("nan"), "0.1", None)),
    *((GPTConfig, "qkv_bias", value) for value in (0, "yes", None)),
    *((GPTConfig, "tie_embeddings", value) for value in (1, "no", None)),
    *((GPTConfig, name, 1 << 31) for name in SIZES if name != "n_layers"),
    (GPTConfig, "n_layers", 10_001),
    *((SGDConfig, "learning_rate", value) for value in (0, -1e-3, float("nan"), "fast")),
    *((AdamWConfig, "learning_rate", value) for value in (float("inf"), 10**400, "1e-3", None)),
    *((AdamWConfig, "total_steps", value) for value in (100.0, "100", 1 << 48)),
    *((AdamWConfig, "min_learning_rate", value) for value in (-1e-9, 1.0, float("nan"))),
    *((AdamWConfig, "warmup_steps", value) for value in (-1, 100)),
    *((AdamWConfig, name, value) for name in ("beta1", "beta2") for value in (-0.1, 1.0)),
    *((AdamWConfig, name, value) for name in ("epsilon", "max_grad_norm") for value in (0, -1)),
    (AdamWConfig, "weight_decay", -0.1),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("make", "field", "value"), REFUSED)
def test_a_refusal_names_field_value_and_expectation(make, field, value):
    with pytest.raises(ValueError, match="expected") as refusal:
        make(**{field: value})
    assert str(refusal.value).startswith(f"{field} is {value!r}: expected ")


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="emb_dim 65 is not divisible by n_heads 4"):
        GPTConfig(emb_dim=65, n_heads=4)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("field", ["data_parallel", "sharded"])
@pytest.mark.parametrize("value", [0, -2, 1.0, "2", True])
def test_a_number_of_processes_that_is_none_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value!r}: expected a whole number from 1"):
        TrainConfig(optimizer=AdamWConfig(), **{field: value})


def test_a_batch_that_the_processes_cannot_share_evenly_is_refused():
    layout = {"micro_batches": 2, "data_parallel": 2, "sharded": 3}
    assert TrainConfig(optimizer=AdamWConfig(), batch_size=24, **layout).processes == 6
    expected = "16 is not divisible by .* data_parallel 2 times sharded 3: choose a multiple of 12"
    with pytest.raises(ValueError, match=expected):
        TrainConfig(optimizer=AdamWConfig(), batch_size=16, **layout)


@pytest.mark.parametrize("make", [GPTConfig, SGDConfig, AdamWConfig])
def test_configurations_are_frozen_and_take_keywords_only(make):
    config = make()
    field = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, field, getattr(config, field))
    with pytest.raises(TypeError):
        make(getattr(config, field))


@pytest.mark.parametrize("field", ["learning_rate", "weight_decay", "epsilon", "max_grad_norm"])
def test_a_setting_that_float32_cannot_hold_is_refused(field):
    with pytest.raises(ValueError, match=rf"{field} is 1e\+300: expected 1e\+30 at most"):
        AdamWConfig(**{field: 1e300})
