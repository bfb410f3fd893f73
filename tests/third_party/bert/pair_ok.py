"""transformers' BERT for masked words and a port to Flax NNX with nnx.MultiHeadAttention."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from transformers import BertConfig, BertForMaskedLM

from twingrad import Pair

CONFIG = BertConfig(
    vocab_size=61,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=20,
    type_vocab_size=2,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
IGNORED = -100


def make_torch():
    torch.manual_seed(0)
    model = BertForMaskedLM(CONFIG)
    for name, p in model.named_parameters():
        mean = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        torch.nn.init.normal_(p, mean=mean, std=0.2)
    return model


def layer_norm(config, rngs):
    return nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, rngs=rngs)


class Embeddings(nnx.Module):
    def __init__(self, config, rngs):
        C = config.hidden_size
        self.word = nnx.Embed(config.vocab_size, C, rngs=rngs)
        self.position = nnx.Embed(config.max_position_embeddings, C, rngs=rngs)
        self.token_type = nnx.Embed(config.type_vocab_size, C, rngs=rngs)
        self.norm = layer_norm(config, rngs)

    def __call__(self, ids, types):
        x = self.word(ids) + self.token_type(types)
        x = x + self.position(jnp.arange(ids.shape[1]))
        return self.norm(x)


class EncoderLayer(nnx.Module):
    def __init__(self, config, rngs):
        C, F = config.hidden_size, config.intermediate_size
        self.attention = nnx.MultiHeadAttention(
            num_heads=config.num_attention_heads, in_features=C, decode=False, rngs=rngs
        )
        self.attention_norm = layer_norm(config, rngs)
        self.wi = nnx.Linear(C, F, rngs=rngs)
        self.wo = nnx.Linear(F, C, rngs=rngs)
        self.output_norm = layer_norm(config, rngs)

    def __call__(self, x, mask):
        x = self.attention_norm(x + self.attention(x, mask=mask))
        h = jax.nn.gelu(self.wi(x), approximate=False)
        return self.output_norm(x + self.wo(h))


class BertMLM(nnx.Module):
    def __init__(self, config, rngs):
        C = config.hidden_size
        self.embeddings = Embeddings(config, rngs)
        self.layers = nnx.List(
            [EncoderLayer(config, rngs) for _ in range(config.num_hidden_layers)]
        )
        self.transform = nnx.Linear(C, C, rngs=rngs)
        self.transform_norm = layer_norm(config, rngs)
        self.bias = nnx.Param(jnp.zeros(config.vocab_size))

    def __call__(self, ids, types, attention_mask):
        mask = nnx.make_attention_mask(jnp.ones_like(ids), attention_mask)
        x = self.embeddings(ids, types)
        for layer in self.layers:
            x = layer(x, mask)
        x = jax.nn.gelu(self.transform(x), approximate=False)
        return self.embeddings.word.attend(self.transform_norm(x)) + self.bias


def torch_loss(model, ids, types, attention_mask, labels):
    output = model(
        input_ids=ids, token_type_ids=types, attention_mask=attention_mask, labels=labels
    )
    return output.loss


def jax_loss(model, ids, types, attention_mask, labels):
    logits = model(ids, types, attention_mask)
    counted = labels != IGNORED
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels * counted)
    return (losses * counted).sum() / counted.sum()


random = np.random.default_rng(0)
attention_mask = (np.arange(9) < np.array([9, 7, 8, 6])[:, None]).astype(np.int64)
# The embedding of the padding token has no gradient in PyTorch: no word is that token.
ids = random.integers(1, CONFIG.vocab_size, (4, 9)) * attention_mask
types = (np.arange(9) >= np.array([4, 5, 3, 6])[:, None]).astype(np.int64)
labels = np.where((random.random((4, 9)) < 0.4) & (attention_mask == 1), ids, IGNORED)
LAYER, OURS = r"re:bert\.encoder\.layer\.(\d+)\.", r"layers.\1."
pair = Pair(
    torch=make_torch,
    jax=lambda: BertMLM(CONFIG, nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(ids, types, attention_mask, labels),
    names={
        r"re:bert\.embeddings\.(\w+)_embeddings\.weight": r"embeddings.\1.embedding",
        r"bert.embeddings.LayerNorm.weight": "embeddings.norm.scale",
        r"bert.embeddings.LayerNorm.bias": "embeddings.norm.bias",
        LAYER + r"attention\.self\.(query|key|value)\.weight": OURS + r"attention.\2.kernel",
        LAYER + r"attention\.self\.(query|key|value)\.bias": OURS + r"attention.\2.bias",
        LAYER + r"attention\.output\.dense\.weight": OURS + "attention.out.kernel",
        LAYER + r"attention\.output\.dense\.bias": OURS + "attention.out.bias",
        LAYER + r"attention\.output\.LayerNorm\.weight": OURS + "attention_norm.scale",
        LAYER + r"attention\.output\.LayerNorm\.bias": OURS + "attention_norm.bias",
        LAYER + r"intermediate\.dense\.weight": OURS + "wi.kernel",
        LAYER + r"intermediate\.dense\.bias": OURS + "wi.bias",
        LAYER + r"output\.dense\.weight": OURS + "wo.kernel",
        LAYER + r"output\.dense\.bias": OURS + "wo.bias",
        LAYER + r"output\.LayerNorm\.weight": OURS + "output_norm.scale",
        LAYER + r"output\.LayerNorm\.bias": OURS + "output_norm.bias",
        "cls.predictions.bias": "bias",
        "cls.predictions.transform.dense.weight": "transform.kernel",
        "cls.predictions.transform.dense.bias": "transform.bias",
        "cls.predictions.transform.LayerNorm.weight": "transform_norm.scale",
        "cls.predictions.transform.LayerNorm.bias": "transform_norm.bias",
    },
    name="transformers BERT",
)
