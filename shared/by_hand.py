"""The chain rule written out in NumPy, and central differences: references that use no autograd.

NumPy makes a scalar of every result without axes; ``np.asarray`` makes it an array again.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Float

from shared.config import AdamWConfig, OptimizerConfig
from shared.params import Params
from shared.schedule import learning_rate


def sigmoid(z: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-z)), by the branch whose exponential cannot overflow."""
    e = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1, e) / (1 + e))


def bce_with_logits(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Binary cross-entropy of label ``y`` from the logit ``z``: softplus(z) - y z, for any z.

    Written as ``(1 - y) z + softplus(-z)`` with softplus(-z) = max(-z, 0) + log1p(exp(-|z|)).
    """
    return np.asarray((1 - y) * z + np.maximum(-z, 0) + np.log1p(np.exp(-np.abs(z))))


def neuron(params: Params, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, Params]:
    """Loss in nats, activation a and gradients of z = wx + b, a = sigmoid(z), L = BCE(a, y).

    Chain rule: dL/dw = dL/da da/dz dz/dw. The first two factors collapse to a - y, which is how
    the product stays finite where da/dz underflows and dL/da overflows.
    """
    z = np.asarray(params["w"] * x + params["b"])
    a = sigmoid(z)
    dz = np.asarray(a - y)  # dL/da da/dz = (a - y)/(a (1 - a)) * a (1 - a)
    return bce_with_logits(z, y), a, {"w": np.asarray(dz * x), "b": dz}


def simple_net(
    params: Params, x: Float[np.ndarray, "B 10"], y: Float[np.ndarray, "B 1"]
) -> tuple[np.ndarray, Float[np.ndarray, "B 1"], Params]:
    """Mean loss in nats, probabilities and gradients of the 10-5-1 net, from output to input."""
    z1 = x @ params["fc1.weight"] + params["fc1.bias"]  # (B, 5)
    a1 = np.maximum(z1, 0)
    z2 = a1 @ params["fc2.weight"] + params["fc2.bias"]  # (B, 1)
    loss = np.asarray(bce_with_logits(z2, y).mean())
    dz2 = (sigmoid(z2) - y) / len(x)  # (B, 1)
    da1 = dz2 @ params["fc2.weight"].T  # (B, 5)
    dz1 = da1 * (z1 > 0)  # ReLU passes the gradient where it passed the input
    gradients = {
        "fc1.weight": x.T @ dz1,
        "fc1.bias": dz1.sum(axis=0),
        "fc2.weight": a1.T @ dz2,
        "fc2.bias": dz2.sum(axis=0),
    }
    return loss, sigmoid(z2), gradients


def optimizer_steps(
    start: np.ndarray, gradients: list[np.ndarray], norms: list[float], config: OptimizerConfig
) -> Iterator[np.ndarray]:
    """One parameter tensor, float64, after each step of SGD or AdamW on ``gradients``.

    ``norms[i]`` is the joint norm of all parameters' gradients at step i, by which AdamW's are
    clipped. AdamW: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2,
    with decay scaled by the learning rate as both frameworks have it.
    """
    p = start.astype(np.float64)
    m, v = np.zeros(p.shape), np.zeros(p.shape)
    for step, (gradient, norm) in enumerate(zip(gradients, norms, strict=True)):
        g = gradient.astype(np.float64)
        rate = float(learning_rate(step, config))
        if isinstance(config, AdamWConfig):
            g = g * min(1.0, config.max_grad_norm / norm)
            m = config.beta1 * m + (1 - config.beta1) * g
            v = config.beta2 * v + (1 - config.beta2) * g * g
            m_hat = m / (1 - config.beta1 ** (step + 1))
            v_hat = v / (1 - config.beta2 ** (step + 1))
            decay = config.weight_decay if p.ndim >= 2 else 0.0
            p = p - rate * (m_hat / (np.sqrt(v_hat) + config.epsilon) + decay * p)
        else:
            p = p - rate * g
        yield np.asarray(p)


def central_difference(
    loss: Callable[[Params], float], params: Mapping[str, np.ndarray], step: float = 1e-6
) -> Params:
    """Gradient of ``loss`` by (f(p + step) - f(p - step)) / (2 step), two calls a scalar."""
    gradients: Params = {}
    for name, value in params.items():
        gradient = np.empty(value.shape)
        for index in np.ndindex(value.shape):
            up, down = value.copy(), value.copy()
            up[index] += step
            down[index] -= step
            width = up[index] - down[index]  # distance of the two points after rounding
            change = loss({**params, name: up}) - loss({**params, name: down})
            gradient[index] = change / width
        gradients[name] = gradient
    return gradients
