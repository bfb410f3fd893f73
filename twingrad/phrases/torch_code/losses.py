"""Losses and their reductions, in PyTorch."""

import torch
from torch.nn import functional as F


def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels)


def ignore_some_targets(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=-100)


def smooth_labels(logits, labels):
    return F.cross_entropy(logits, labels, label_smoothing=0.1)


def weights_of_classes(logits, labels, weights):
    return F.cross_entropy(logits, labels, weight=weights)


def sequence_loss(logits, tokens):
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
    )


def binary(logits, labels):
    return F.binary_cross_entropy_with_logits(logits, labels)


def squares(x, y):
    return F.mse_loss(x, y)


def huber(x, y):
    return F.huber_loss(x, y, delta=0.5)


def smooth_l1(x, y):
    return F.smooth_l1_loss(x, y, beta=0.5)


def divergence(logits, target_logits):
    return F.kl_div(
        logits.log_softmax(-1),
        target_logits.log_softmax(-1),
        log_target=True,
        reduction="batchmean",
    )


def similarity(x, y):
    return F.cosine_similarity(x, y, dim=-1, eps=1e-8)


def contrastive(x, y):
    x, y = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
    logits = x @ y.T / 0.1
    labels = torch.arange(len(x))
    return (
        F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)
    ) / 2


def log_of_a_sum(x):
    return torch.logsumexp(x, dim=-1)


def hinge(scores, labels):
    return F.relu(1 - scores * (2 * labels - 1)).mean()
