"""transformers' GPT-2, in the loop of the tutorials."""

import numpy as np
import torch
from torch import Tensor

from bench.speed.backends.backend import Job
from bench.speed.backends.torch_loop import TorchLoop, fill, prepare
from bench.speed.foreign import Array, Model, Native
from shared.config import LAYER_NORM_EPSILON
from shared.params import Params


class Backend(TorchLoop):
    """``GPT2LMHeadModel`` with our parameters; a query bias that the configuration lacks is 0."""

    prefix = "transformer."

    def __init__(self, job: Job, params: Params):
        from transformers import GPT2Config, GPT2LMHeadModel

        prepare(job)
        config = job.config
        sizes = GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.context_length,
            n_embd=config.emb_dim,
            n_head=config.n_heads,
            n_layer=config.n_layers,
            activation_function="gelu_new",
            layer_norm_epsilon=LAYER_NORM_EPSILON,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            tie_word_embeddings=config.tie_embeddings,
            bos_token_id=None,
            eos_token_id=None,
        )
        model: Model = GPT2LMHeadModel(sizes)
        model.to(job.device)
        fill(model, params, self.prefix)
        if not config.qkv_bias:
            for block in model.transformer.h:
                block.attn.c_attn.bias.detach().zero_()
                block.attn.c_attn.bias.requires_grad_(False)
        super().__init__(job, model)

    def logits_of(self, inputs: Tensor) -> Native:
        """The logits of its head; training keeps no cache."""
        return self.model(inputs, use_cache=False).logits

    @torch.no_grad()
    def decode(self, prompts: Array, new_tokens: int) -> Array:
        """By its own ``generate``, with its cache."""
        model = self.model.eval()
        ids = torch.from_numpy(prompts.astype(np.int64)).to(self.device)
        with self._precision:
            tokens = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                do_sample=False,
                use_cache=True,
                pad_token_id=0,
            )
        following: Array = tokens[:, ids.shape[1] :].cpu().numpy()
        return following
