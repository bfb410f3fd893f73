"""transformers' ResNet in NNX, with channels last."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from transformers import ResNetConfig, ResNetForImageClassification

from twingrad import Pair

CONFIG = ResNetConfig(
    embedding_size=8, hidden_sizes=[8, 12], depths=[1, 2], layer_type="basic", num_labels=5
)


class ConvLayer(nnx.Module):
    """A convolution and a batch norm, with ReLU or without."""

    def __init__(self, inputs, outputs, rngs, *, size=3, stride=1, relu=True):
        pad = size // 2
        self.convolution = nnx.Conv(
            inputs,
            outputs,
            (size, size),
            strides=stride,
            padding=((pad, pad), (pad, pad)),
            use_bias=False,
            rngs=rngs,
        )
        self.normalization = nnx.BatchNorm(
            outputs, momentum=0.9, epsilon=1e-5, use_fast_variance=False, rngs=rngs
        )
        self.relu = relu

    def __call__(self, x):
        x = self.normalization(self.convolution(x))
        return nnx.relu(x) if self.relu else x


class BasicLayer(nnx.Module):
    """Two convolutions beside a residual, which is convolved where its shape changes."""

    def __init__(self, inputs, outputs, stride, rngs):
        changes = inputs != outputs or stride != 1
        self.shortcut = (
            ConvLayer(inputs, outputs, rngs, size=1, stride=stride, relu=False) if changes else None
        )
        self.layer = nnx.List(
            [
                ConvLayer(inputs, outputs, rngs, stride=stride),
                ConvLayer(outputs, outputs, rngs, relu=False),
            ]
        )

    def __call__(self, x):
        y = self.layer[1](self.layer[0](x))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Stage(nnx.Module):
    """Layers of one width, the first of which may halve the image."""

    def __init__(self, inputs, outputs, depth, stride, rngs):
        first = BasicLayer(inputs, outputs, stride, rngs)
        rest = [BasicLayer(outputs, outputs, 1, rngs) for _ in range(depth - 1)]
        self.layers = nnx.List([first, *rest])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class ResNet(nnx.Module):
    """ResNet with a linear classifier."""

    def __init__(self, config, rngs):
        self.embedder = ConvLayer(3, config.embedding_size, rngs, size=7, stride=2)
        widths = [config.embedding_size, *config.hidden_sizes]
        self.stages = nnx.List(
            [
                Stage(widths[i], widths[i + 1], depth, 2 if i else 1, rngs)
                for i, depth in enumerate(config.depths)
            ]
        )
        self.classifier = nnx.Linear(widths[-1], config.num_labels, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(self.embedder(x), (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage in self.stages:
            x = stage(x)
        return self.classifier(x.mean((1, 2)))


def torch_loss(model, images, labels):
    return torch.nn.functional.cross_entropy(model(images).logits, labels)


def jax_loss(model, images, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(model(images)), labels[:, None], axis=-1).mean()


images, labels = np.random.default_rng(0).normal(size=(4, 3, 24, 24)), np.arange(4) % 5
pair = Pair(
    torch=lambda: ResNetForImageClassification(CONFIG),
    jax=lambda: ResNet(CONFIG, nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(images, labels),
    jax_batch=(images.transpose(0, 2, 3, 1), labels),
    name="ResNet",
)
