"""Notes on losses and their reductions."""

from twingrad.phrases.phrase import Family, Phrase, given, integers, normal, positive

_REDUCED = (
    "A loss of PyTorch is a mean unless `reduction` says otherwise; one of optax is a number "
    "for each example, which you average yourself"
)


FAMILY = Family(
    name="losses",
    title="Losses and their reductions",
    phrases=(
        Phrase(
            name="cross_entropy",
            title="Cross-entropy",
            words="cross_entropy softmax_cross_entropy nll logits labels reduction mean",
            inputs={"logits": normal(5, 4), "labels": integers(5, below=4)},
            gradient=("logits",),
            differs=_REDUCED
            + ". Both take logits, no probabilities. Classes are on the second axis in PyTorch, "
            "and on the last in optax.",
            costs="Log-softmax and one element of each row; PyTorch keeps the log-probabilities.",
        ),
        Phrase(
            name="ignore_some_targets",
            title="Leave targets out of the loss",
            words="ignore_index -100 padding mask where",
            inputs={"logits": normal(5, 4), "labels": given(1, -100, 3, 0, -100)},
            gradient=("logits",),
            differs="optax knows no `ignore_index`: mask, and divide by the number that counts. A "
            "label of -100 as an index would give NaN or another class's loss. If all are ignored "
            "both are NaN.",
            costs="The loss of what is ignored is computed in JAX.",
        ),
        Phrase(
            name="smooth_labels",
            title="Label smoothing",
            words="label_smoothing smooth one-hot",
            inputs={"logits": normal(5, 4), "labels": integers(5, below=4)},
            gradient=("logits",),
            differs="An argument, against labels that are smoothed first. Both give the share of "
            "alpha to all classes, the right one among them.",
            costs="A row of classes for each label in optax.",
        ),
        Phrase(
            name="weights_of_classes",
            title="Weights of classes",
            words="weight class imbalance weighted average",
            inputs={
                "logits": normal(5, 4),
                "labels": integers(5, below=4),
                "weights": positive(4),
            },
            gradient=("logits",),
            differs="With weights PyTorch's mean divides by the sum of the weights of the labels, "
            "not by their number. `jnp.average` does the same.",
            costs="The same.",
        ),
        Phrase(
            name="sequence_loss",
            title="The loss of a language model",
            words="next token shift targets flatten sequence",
            inputs={"logits": normal(2, 4, 5), "tokens": integers(2, 4, below=5)},
            gradient=("logits",),
            differs="PyTorch wants classes second, so that batch and time are flattened; optax "
            "takes any axes before the last.",
            costs="Logits of a whole vocabulary in float32 are often the largest tensor of a "
            "training step.",
        ),
        Phrase(
            name="binary",
            title="Binary cross-entropy",
            words="bce sigmoid binary_cross_entropy_with_logits",
            inputs={"logits": normal(5), "labels": given(0.0, 1.0, 1.0, 0.0, 1.0)},
            gradient=("logits",),
            differs=_REDUCED
            + ". From probabilities PyTorch stops the logarithm at -100, with a gradient of 0; JAX "
            "gives inf and NaN. Logits avoid both.",
            costs="The same.",
        ),
        Phrase(
            name="squares",
            title="Mean squared error",
            words="mse l2_loss squared_error regression",
            inputs={"x": normal(4, 3), "y": normal(4, 3)},
            gradient=("x", "y"),
            differs="A false friend: `optax.l2_loss` has a factor of one half. Predictions of (B, "
            "1) against targets of (B,) are broadcast to (B, B) in PyTorch, with a warning; optax "
            "refuses them.",
            costs="The same.",
        ),
        Phrase(
            name="huber",
            title="The Huber loss",
            words="huber robust delta l1",
            inputs={"x": normal(4, 3), "y": normal(4, 3)},
            gradient=("x", "y"),
            differs=_REDUCED + ".",
            costs="The same.",
        ),
        Phrase(
            name="smooth_l1",
            title="Smooth L1",
            words="smooth_l1_loss beta huber detection",
            inputs={"x": normal(4, 3), "y": normal(4, 3)},
            gradient=("x", "y"),
            differs="The Huber loss divided by its delta; optax has no name for it.",
            costs="The same.",
        ),
        Phrase(
            name="divergence",
            title="The Kullback-Leibler divergence",
            words="kl_div kl_divergence distillation log_target batchmean",
            inputs={"logits": normal(4, 3), "target_logits": normal(4, 3)},
            gradient=("logits", "target_logits"),
            differs="Both take the log-probabilities of the prediction first, though the formula "
            "reads KL(target || prediction). The default mean of `kl_div` divides by the number "
            "of elements: say `batchmean`.",
            costs="The same.",
        ),
        Phrase(
            name="similarity",
            title="Cosine similarity",
            words="cosine_similarity angle normalize epsilon",
            inputs={"x": normal(4, 3), "y": normal(4, 3)},
            gradient=("x", "y"),
            differs="Both bound each norm from below: PyTorch by `eps`, 1e-8 if left out; optax "
            "by `epsilon`, 0 if left out, so that a vector of zeros gives NaN.",
            costs="The same.",
        ),
        Phrase(
            name="contrastive",
            title="A contrastive loss",
            words="infonce clip simclr temperature normalize pairs",
            inputs={"x": normal(4, 3), "y": normal(4, 3)},
            gradient=("x", "y"),
            differs="`F.normalize` bounds the norm by 1e-12; JAX has no function for it.",
            costs="The square of the batch. Over several devices, vectors have to be gathered "
            "first.",
        ),
        Phrase(
            name="log_of_a_sum",
            title="The logarithm of a sum of exponentials",
            words="logsumexp stable overflow softmax normaliser",
            inputs={"x": normal(4, 3)},
            gradient=("x",),
            differs="The same. `jax.nn.logsumexp` also takes factors `b` and a mask `where`.",
            costs="Two passes.",
        ),
        Phrase(
            name="hinge",
            title="The hinge loss",
            words="hinge svm margin relu",
            inputs={"scores": normal(5), "labels": given(0, 1, 1, 0, 1)},
            gradient=("scores",),
            differs="PyTorch has `hinge_embedding_loss` and margins, but not the plain one. "
            "Labels are -1 and 1 in optax.",
            costs="The same.",
        ),
    ),
)
