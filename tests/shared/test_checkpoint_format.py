"""The fields of a checkpoint: plain JSON and a step."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.checkpoints import (
    make_checkpoint,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": -1}, "step is -1: expected a whole number"),
        ({"step": 1.5}, "step is 1.5: expected a whole number"),
        ({"step": True}, "step is True: expected a whole number"),
        ({"framework": ""}, "framework is '': expected torch or jax"),
        ({"data": [1]}, r"data is \[1\], which JSON does not give back"),
        ({"data": {"at": np.int64(1)}}, "data is .*int64.*, which JSON does not give back"),
        ({"tokenizer": {1: "a"}}, "tokenizer is {1: 'a'}, which JSON does not give back"),
        ({"random": {"key": (0, 1)}}, r"random is .*\(0, 1\)}, which JSON does not give back"),
        ({"extra": {"loss": float("nan")}}, "extra is {'loss': nan}, which JSON does not"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_json_would_change_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_checkpoint(**changes)
