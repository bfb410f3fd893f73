"""transformers' ViT classifier and a port to Equinox: an image at a time, mapped over the batch."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from transformers import ViTConfig, ViTForImageClassification

from twingrad import Pair

CONFIG = ViTConfig(
    image_size=12,
    patch_size=4,
    num_channels=3,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
    hidden_act="gelu_new",
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    num_labels=5,
    layer_norm_eps=1e-6,
)


def make_torch():
    torch.manual_seed(1)
    model = ViTForImageClassification(CONFIG)
    for name, p in model.named_parameters():
        mean = 1.0 if "layernorm" in name and name.endswith("weight") else 0.0
        torch.nn.init.normal_(p, mean=mean, std=0.2)
    return model


class Attention(eqx.Module):
    query: eqx.nn.Linear
    key: eqx.nn.Linear
    value: eqx.nn.Linear
    out: eqx.nn.Linear
    heads: int = eqx.field(static=True)

    def __init__(self, config, key):
        C = config.hidden_size
        self.query, self.key, self.value, self.out = (
            eqx.nn.Linear(C, C, key=k) for k in jax.random.split(key, 4)
        )
        self.heads = config.num_attention_heads

    def __call__(self, x):
        T, C = x.shape
        q, k, v = (jax.vmap(f)(x).reshape(T, self.heads, -1) for f in self.parts())
        scores = jnp.einsum("thd,shd->hts", q, k) / jnp.sqrt(C // self.heads)
        y = jnp.einsum("hts,shd->thd", jax.nn.softmax(scores, axis=-1), v)
        return jax.vmap(self.out)(y.reshape(T, C))

    def parts(self):
        return self.query, self.key, self.value


class Block(eqx.Module):
    norm1: eqx.nn.LayerNorm
    attention: Attention
    norm2: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, config, key):
        C, F, epsilon = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        a, b, c = jax.random.split(key, 3)
        self.norm1 = eqx.nn.LayerNorm(C, eps=epsilon)
        self.norm2 = eqx.nn.LayerNorm(C, eps=epsilon)
        self.attention = Attention(config, a)
        self.up, self.down = eqx.nn.Linear(C, F, key=b), eqx.nn.Linear(F, C, key=c)

    def __call__(self, x):
        x = x + self.attention(jax.vmap(self.norm1)(x))
        h = jax.nn.gelu(jax.vmap(self.up)(jax.vmap(self.norm2)(x)), approximate=True)
        return x + jax.vmap(self.down)(h)


class ViT(eqx.Module):
    patches: eqx.nn.Conv2d
    class_token: jax.Array
    positions: jax.Array
    blocks: list
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, config, key):
        C, P = config.hidden_size, config.patch_size
        a, b, *keys = jax.random.split(key, 2 + config.num_hidden_layers)
        self.patches = eqx.nn.Conv2d(config.num_channels, C, P, stride=P, key=a)
        count = (config.image_size // P) ** 2
        self.class_token = jnp.zeros((1, C))
        self.positions = jnp.zeros((count + 1, C))
        self.blocks = [Block(config, k) for k in keys]
        self.norm = eqx.nn.LayerNorm(C, eps=config.layer_norm_eps)
        self.head = eqx.nn.Linear(C, config.num_labels, key=b)

    def __call__(self, image):
        x = self.patches(image)
        x = x.reshape(x.shape[0], -1).T
        x = jnp.concatenate([self.class_token, x]) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[0]))


def torch_loss(model, images, labels):
    return model(pixel_values=images, labels=labels).loss


def jax_loss(model, images, labels):
    logits = jax.vmap(model)(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


random = np.random.default_rng(1)
LAYER, OURS = r"re:vit\.layers\.(\d+)\.", r"blocks.\1."
pair = Pair(
    torch=make_torch,
    jax=lambda: ViT(CONFIG, jax.random.key(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(random.normal(size=(4, 3, 12, 12)), np.array([1, 4, 0, 2])),
    names={
        "vit.embeddings.cls_token": "class_token",
        "vit.embeddings.position_embeddings": "positions",
        r"re:vit\.embeddings\.patch_embeddings\.projection\.(\w+)": r"patches.\1",
        LAYER + r"attention\.q_proj\.(\w+)": OURS + r"attention.query.\2",
        LAYER + r"attention\.k_proj\.(\w+)": OURS + r"attention.key.\2",
        LAYER + r"attention\.v_proj\.(\w+)": OURS + r"attention.value.\2",
        LAYER + r"attention\.o_proj\.(\w+)": OURS + r"attention.out.\2",
        LAYER + r"layernorm_before\.(\w+)": OURS + r"norm1.\2",
        LAYER + r"layernorm_after\.(\w+)": OURS + r"norm2.\2",
        LAYER + r"mlp\.fc1\.(\w+)": OURS + r"up.\2",
        LAYER + r"mlp\.fc2\.(\w+)": OURS + r"down.\2",
        r"re:vit\.layernorm\.(\w+)": r"norm.\1",
        r"re:classifier\.(\w+)": r"head.\1",
    },
    name="transformers ViT in Equinox",
)
