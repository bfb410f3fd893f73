"""Optimizers, schedules, clipping and averages, in JAX with optax."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx


def training_step(x, y, weight):
    model = nnx.Linear(3, 1, use_bias=False, rngs=nnx.Rngs(0))
    model.kernel = nnx.Param(weight.T)
    optimizer = nnx.Optimizer(
        model, optax.adamw(0.1, weight_decay=0.01), wrt=nnx.Param
    )
    for _ in range(3):
        loss, gradients = nnx.value_and_grad(
            lambda m: jnp.square(m(x) - y).mean()
        )(model)
        optimizer.update(model, gradients)
    return loss, model.kernel[...].T


def _three_steps(optimizer, parameter, gradient):
    state = optimizer.init(parameter)
    for _ in range(3):
        updates, state = optimizer.update(gradient, state, parameter)
        parameter = optax.apply_updates(parameter, updates)
    return parameter


def momentum(parameter, gradient):
    return _three_steps(
        optax.sgd(0.1, momentum=0.9, nesterov=True), parameter, gradient
    )


def adam(parameter, gradient):
    return _three_steps(optax.adam(0.1), parameter, gradient)


def decay_as_l2(parameter, gradient):
    optimizer = optax.chain(optax.add_decayed_weights(0.01), optax.adam(0.1))
    return _three_steps(optimizer, parameter, gradient)


def no_decay_of_biases(weight, bias):
    parameters = {"weight": weight, "bias": bias}
    optimizer = optax.adamw(
        0.1,
        weight_decay=0.1,
        mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p),
    )
    gradients = jax.tree.map(jnp.ones_like, parameters)
    updates, _ = optimizer.update(
        gradients, optimizer.init(parameters), parameters
    )
    parameters = optax.apply_updates(parameters, updates)
    return parameters["weight"], parameters["bias"]


def parameter_groups(body, head):
    parameters = {"body": body, "head": head}
    optimizer = optax.partition(
        {
            "slow": optax.sgd(0.01, momentum=0.9),
            "fast": optax.sgd(0.1, momentum=0.9),
        },
        {"body": "slow", "head": "fast"},
    )
    gradients = jax.tree.map(jnp.ones_like, parameters)
    updates, _ = optimizer.update(
        gradients, optimizer.init(parameters), parameters
    )
    parameters = optax.apply_updates(parameters, updates)
    return parameters["body"], parameters["head"]


def warmup_and_cosine(parameter):
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0, peak_value=1.0, warmup_steps=4, decay_steps=12
    )
    return jnp.stack([schedule(step) for step in range(12)]).astype(
        parameter.dtype
    )


def change_the_rate(parameter, gradient):
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    state = optimizer.init(parameter)
    for rate in (0.1, 0.02):
        state.hyperparams["learning_rate"] = jnp.asarray(rate)
        updates, state = optimizer.update(gradient, state)
        parameter = optax.apply_updates(parameter, updates)
    return parameter


def clip_by_norm(weight, bias):
    gradients = {"weight": weight * 10, "bias": bias * 10}
    clip = optax.clip_by_global_norm(1.0)
    clipped, _ = clip.update(gradients, clip.init(gradients))
    return clipped["weight"], clipped["bias"], optax.tree.norm(gradients)


def clip_by_value(weight):
    clip = optax.clip(0.5)
    clipped, _ = clip.update(weight * 10, clip.init(weight))
    return clipped


def accumulate(x, y, weight):
    optimizer = optax.MultiSteps(optax.sgd(0.1), every_k_schedule=3)
    state = optimizer.init(weight)
    for inputs, targets in zip(jnp.split(x, 3), jnp.split(y, 3), strict=True):
        gradient = jax.grad(lambda w, x, y: jnp.square(x @ w - y).mean())(
            weight, inputs, targets
        )
        updates, state = optimizer.update(gradient, state, weight)
        weight = optax.apply_updates(
            weight, updates
        )  # zeros but for every third
    return weight


def moving_average(weight, newer):
    average = weight
    return optax.incremental_update(newer, average, step_size=0.1)


def look_at_the_moments(parameter, gradient):
    optimizer = optax.adam(0.1)
    _, state = optimizer.update(gradient, optimizer.init(parameter))
    return optax.tree.get(state, "mu"), optax.tree.get(state, "nu")


def skip_bad_steps(parameter, gradient):
    optimizer = optax.apply_if_finite(optax.sgd(0.1), max_consecutive_errors=5)
    state = optimizer.init(parameter)
    for scale in (1.0, jnp.inf, 1.0):
        updates, state = optimizer.update(gradient * scale, state, parameter)
        parameter = optax.apply_updates(parameter, updates)
    return parameter
