"""transformers' BERT classifier and a port to Flax Linen with its attention over heads."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from transformers import BertConfig, BertForSequenceClassification

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
    num_labels=5,
)


def make_torch():
    torch.manual_seed(0)
    model = BertForSequenceClassification(CONFIG)
    for name, p in model.named_parameters():
        mean = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        torch.nn.init.normal_(p, mean=mean, std=0.2)
    return model


class Embeddings(nn.Module):
    config: BertConfig

    @nn.compact
    def __call__(self, ids, types):
        config = self.config
        C = config.hidden_size
        x = nn.Embed(config.vocab_size, C, name="word")(ids)
        positions = jnp.arange(ids.shape[1])[None]
        x = x + nn.Embed(config.max_position_embeddings, C, name="position")(positions)
        x = x + nn.Embed(config.type_vocab_size, C, name="token_type")(types)
        return nn.LayerNorm(epsilon=config.layer_norm_eps, name="norm")(x)


class Layer(nn.Module):
    config: BertConfig

    @nn.compact
    def __call__(self, x, mask):
        config = self.config
        attention = nn.MultiHeadDotProductAttention(config.num_attention_heads, name="attention")
        h = attention(x, x, mask=mask)
        x = nn.LayerNorm(epsilon=config.layer_norm_eps, name="attention_norm")(x + h)
        h = nn.Dense(config.intermediate_size, name="wi")(x)
        h = nn.gelu(h, approximate=False)
        h = nn.Dense(config.hidden_size, name="wo")(h)
        return nn.LayerNorm(epsilon=config.layer_norm_eps, name="output_norm")(x + h)


class Classifier(nn.Module):
    config: BertConfig

    @nn.compact
    def __call__(self, ids, types, attention_mask):
        mask = nn.make_attention_mask(jnp.ones_like(ids), attention_mask)
        x = Embeddings(self.config, name="embeddings")(ids, types)
        for n in range(self.config.num_hidden_layers):
            x = Layer(self.config, name=f"layer_{n}")(x, mask)
        pooled = jnp.tanh(nn.Dense(self.config.hidden_size, name="pooler")(x[:, 0]))
        return nn.Dense(self.config.num_labels, name="classifier")(pooled)


def make_jax():
    model = Classifier(CONFIG)
    return model, model.init(jax.random.key(0), ids, types, attention_mask)


def torch_loss(model, ids, types, attention_mask, labels):
    output = model(
        input_ids=ids, token_type_ids=types, attention_mask=attention_mask, labels=labels
    )
    return output.loss


def jax_loss(model, ids, types, attention_mask, labels):
    logits = model(ids, types, attention_mask)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


random = np.random.default_rng(0)
attention_mask = (np.arange(9) < np.array([9, 7, 8, 6])[:, None]).astype(np.int64)
# The embedding of the padding token has no gradient in PyTorch: no word is that token.
ids = random.integers(1, CONFIG.vocab_size, (4, 9)) * attention_mask
types = (np.arange(9) >= np.array([4, 5, 3, 6])[:, None]).astype(np.int64)
labels = np.array([3, 0, 4, 1])
LAYER, OURS = r"re:bert\.encoder\.layer\.(\d+)\.", r"layer_\1."
pair = Pair(
    torch=make_torch,
    jax=make_jax,
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
        "bert.pooler.dense.weight": "pooler.kernel",
        "bert.pooler.dense.bias": "pooler.bias",
        "classifier.weight": "classifier.kernel",
        "classifier.bias": "classifier.bias",
    },
    name="transformers BERT in Linen",
)
