"""Configurations of runs: defaults, settings that are given, and differences between two."""

from dataclasses import fields, replace

import pytest

from bench.cli import main
from bench.training.config import Difference, RunSettings, changed, differences, resolve
from shared.config import AdamWConfig, GPTConfig, TrainConfig

TINY = GPTConfig(vocab_size=13, context_length=7, emb_dim=8, n_heads=2, n_layers=2, qkv_bias=True)
TRAIN = TrainConfig(optimizer=AdamWConfig(learning_rate=1e-3, total_steps=300), seed=5)


def test_differing_fields_are_named_with_both_values():
    assert differences(TINY, TINY) == []
    asked = replace(TINY, n_layers=4, drop_rate=0.2)
    assert [str(difference) for difference in differences(TINY, asked)] == [
        "n_layers 2, asked 4",
        "drop_rate 0.1, asked 0.2",
    ]
    slower = replace(TRAIN.optimizer, learning_rate=0.5)
    asked_train = replace(TRAIN, optimizer=slower, batch_size=16)
    assert differences(TRAIN, asked_train) == [
        Difference("learning_rate", 0.001, 0.5),
        Difference("batch_size", 8, 16),
    ]


def test_settings_that_change_no_number_are_no_difference():
    config = resolve(RunSettings())
    for settings in (RunSettings(keep=9), RunSettings(sharded=2), RunSettings(compile=True)):
        assert differences(config, changed(config, settings)) == []


def test_only_settings_that_are_given_change_a_configuration():
    config = resolve(RunSettings(steps=9, batch_size=4, data="markov"))
    assert changed(config, RunSettings()) == config
    # As the default, which is not the run's own value.
    assert changed(config, RunSettings(batch_size=8)).train.batch_size == 8


@pytest.mark.parametrize("name", [field.name for field in fields(RunSettings)])
def test_every_setting_is_an_option_of_the_help(capsys, name):
    with pytest.raises(SystemExit):
        main.main(["train", "--help"])
    assert f"--{name.replace('_', '-')}" in capsys.readouterr().out


def test_the_help_says_the_defaults_that_a_run_has(capsys):
    with pytest.raises(SystemExit):
        main.main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    config = resolve(RunSettings())
    for meaning, value in (
        ("length of the whole run", config.steps),
        ("sequences a step", config.train.batch_size),
        ("decay of matrices; vectors have none", config.train.optimizer.weight_decay),
        ("checkpoints kept", config.keep),
    ):
        assert f"{meaning}; default {value}" in text
