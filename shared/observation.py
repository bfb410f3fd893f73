"""What one run of a program computed, by canonical name: the unit that the engine compares."""

from dataclasses import dataclass

import numpy as np

from shared.params import Params


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One forward and backward pass in NumPy.

    ``activations`` holds every submodule's output by module path, in the order they were computed;
    ``activation_gradients`` the loss's gradient at those outputs; ``gradients`` the gradient of
    every parameter under its canonical name and layout. ``dtype`` is the compute dtype.
    """

    dtype: str
    loss: np.ndarray
    output: np.ndarray
    activations: Params
    activation_gradients: Params
    gradients: Params
