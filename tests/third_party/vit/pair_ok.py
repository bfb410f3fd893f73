"""transformers' ViT classifier and a port to Flax NNX: fused projection, channels last."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from transformers import ViTConfig, ViTForImageClassification

from twingrad import Pair, To

CONFIG = ViTConfig(
    image_size=12,
    patch_size=4,
    num_channels=3,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    num_labels=5,
)


def make_torch():
    torch.manual_seed(0)
    model = ViTForImageClassification(CONFIG)
    for name, p in model.named_parameters():
        mean = 1.0 if "layernorm" in name and name.endswith("weight") else 0.0
        torch.nn.init.normal_(p, mean=mean, std=0.2)
    return model


def layer_norm(config, rngs):
    return nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, rngs=rngs)


class PatchEmbedding(nnx.Module):
    def __init__(self, config, rngs):
        P, C = config.patch_size, config.hidden_size
        self.conv = nnx.Conv(
            config.num_channels, C, (P, P), strides=(P, P), padding="VALID", rngs=rngs
        )
        count = (config.image_size // P) ** 2
        self.cls = nnx.Param(jnp.zeros((1, 1, C)))
        self.positions = nnx.Param(jnp.zeros((1, count + 1, C)))

    def __call__(self, images):
        x = self.conv(images)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        cls = jnp.broadcast_to(self.cls[...], (x.shape[0], 1, x.shape[-1]))
        return jnp.concatenate([cls, x], axis=1) + self.positions[...]


class Attention(nnx.Module):
    def __init__(self, config, rngs):
        C = config.hidden_size
        self.heads = config.num_attention_heads
        self.qkv = nnx.Linear(C, 3 * C, rngs=rngs)
        self.proj = nnx.Linear(C, C, rngs=rngs)

    def __call__(self, x):
        B, T, C = x.shape
        qkv = self.qkv(x).reshape(B, T, 3, self.heads, -1)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), axis=-1)
        return self.proj((weights @ v).swapaxes(1, 2).reshape(B, T, C))


class Block(nnx.Module):
    def __init__(self, config, rngs):
        C, F = config.hidden_size, config.intermediate_size
        self.norm1, self.norm2 = layer_norm(config, rngs), layer_norm(config, rngs)
        self.attn = Attention(config, rngs)
        self.fc1, self.fc2 = nnx.Linear(C, F, rngs=rngs), nnx.Linear(F, C, rngs=rngs)

    def __call__(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(jax.nn.gelu(self.fc1(self.norm2(x)), approximate=False))


class ViT(nnx.Module):
    def __init__(self, config, rngs):
        self.patches = PatchEmbedding(config, rngs)
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.num_hidden_layers)])
        self.norm = layer_norm(config, rngs)
        self.head = nnx.Linear(config.hidden_size, config.num_labels, rngs=rngs)

    def __call__(self, images):
        x = self.patches(images)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def torch_loss(model, images, labels):
    return model(pixel_values=images, labels=labels).loss


def jax_loss(model, images, labels):
    logits = model(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


random = np.random.default_rng(0)
images, labels = random.normal(size=(4, 3, 12, 12)), np.array([1, 4, 0, 2])
LAYER, OURS = r"re:vit\.layers\.(\d+)\.", r"blocks.\1."
pair = Pair(
    torch=make_torch,
    jax=lambda: ViT(CONFIG, nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(images, labels),
    jax_batch=(images.transpose(0, 2, 3, 1), labels),
    names={
        "vit.embeddings.cls_token": "patches.cls",
        "vit.embeddings.position_embeddings": "patches.positions",
        "vit.embeddings.patch_embeddings.projection.weight": "patches.conv.kernel",
        "vit.embeddings.patch_embeddings.projection.bias": "patches.conv.bias",
        **{
            tuple(f"vit.layers.{n}.attention.{part}_proj.{kind}" for part in "qkv"): To(
                f"blocks.{n}.attn.qkv.{ours}"
            ).concatenate(axis=-1)
            for n in range(CONFIG.num_hidden_layers)
            for kind, ours in (("weight", "kernel"), ("bias", "bias"))
        },
        LAYER + r"attention\.o_proj\.weight": OURS + "attn.proj.kernel",
        LAYER + r"attention\.o_proj\.bias": OURS + "attn.proj.bias",
        LAYER + r"layernorm_before\.weight": OURS + "norm1.scale",
        LAYER + r"layernorm_before\.bias": OURS + "norm1.bias",
        LAYER + r"layernorm_after\.weight": OURS + "norm2.scale",
        LAYER + r"layernorm_after\.bias": OURS + "norm2.bias",
        LAYER + r"mlp\.(fc\d)\.weight": OURS + r"\2.kernel",
        LAYER + r"mlp\.(fc\d)\.bias": OURS + r"\2.bias",
        "vit.layernorm.weight": "norm.scale",
        "vit.layernorm.bias": "norm.bias",
        "classifier.weight": "head.kernel",
        "classifier.bias": "head.bias",
    },
    name="transformers ViT",
)
