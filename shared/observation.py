"""All tensors that one run of a program computes, by name: the unit of comparison."""

from dataclasses import dataclass

import numpy as np

from shared.params import Params


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One forward and backward pass in NumPy.

    ``activations`` holds every submodule's output by module path, in the order of computation;
    ``activation_gradients`` the gradient of the loss at those outputs; ``gradients`` the gradient
    of every parameter under its canonical name and layout. ``loss`` is in nats; ``dtype`` is the
    compute dtype.
    """

    dtype: str
    loss: np.ndarray
    output: np.ndarray
    activations: Params
    activation_gradients: Params
    gradients: Params
