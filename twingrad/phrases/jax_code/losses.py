"""Losses and their reductions, in JAX with optax."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(
        logits, labels
    ).mean()


def ignore_some_targets(logits, labels):
    counted = labels != -100
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.where(counted, labels, 0)
    )
    return losses.mean(where=counted)


def smooth_labels(logits, labels):
    targets = optax.smooth_labels(
        jax.nn.one_hot(labels, 4, dtype=logits.dtype), alpha=0.1
    )
    return optax.softmax_cross_entropy(logits, targets).mean()


def weights_of_classes(logits, labels, weights):
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.average(losses, weights=weights[labels])


def sequence_loss(logits, tokens):
    return optax.softmax_cross_entropy_with_integer_labels(
        logits[:, :-1], tokens[:, 1:]
    ).mean()


def binary(logits, labels):
    return optax.sigmoid_binary_cross_entropy(logits, labels).mean()


def squares(x, y):
    return optax.squared_error(x, y).mean()  # optax.l2_loss is half of it


def huber(x, y):
    return optax.huber_loss(x, y, delta=0.5).mean()


def smooth_l1(x, y):
    return optax.huber_loss(x, y, delta=0.5).mean() / 0.5


def divergence(logits, target_logits):
    return optax.losses.kl_divergence_with_log_targets(
        jax.nn.log_softmax(logits), jax.nn.log_softmax(target_logits)
    ).mean()


def similarity(x, y):
    return optax.cosine_similarity(x, y, epsilon=1e-8)


def contrastive(x, y):
    x = x / jnp.linalg.vector_norm(x, axis=-1, keepdims=True)
    y = y / jnp.linalg.vector_norm(y, axis=-1, keepdims=True)
    logits = x @ y.T / 0.1
    labels = jnp.arange(len(x))
    loss = optax.softmax_cross_entropy_with_integer_labels
    return (loss(logits, labels).mean() + loss(logits.T, labels).mean()) / 2


def log_of_a_sum(x):
    return jax.nn.logsumexp(x, axis=-1)


def hinge(scores, labels):
    return optax.hinge_loss(scores, 2 * labels - 1).mean()
