"""A checkout of nanoGPT, driven as its own ``train.py`` drives it."""

import contextlib
import io
import sys

import numpy as np
import torch
from torch import Tensor, nn

from bench.speed.backends.backend import Job
from bench.speed.backends.torch_loop import TorchLoop, fill, prepare
from bench.speed.foreign import Array, Loss, Model
from shared.params import Params


class Backend(TorchLoop):
    """Its ``GPT`` with our parameters, its optimizer, and ``torch.compile``, which it defaults to.

    Two things are set as in GPT-2: GELU in its tanh form, and, where the configuration has none, no
    bias on the query, key and value projection.
    """

    prefix = "transformer."

    def __init__(self, job: Job, params: Params):
        prepare(job)
        sys.path.insert(0, str(job.contestant.path))
        import model as nanogpt  # the checkout's own

        config = job.config
        sizes = nanogpt.GPTConfig(
            block_size=config.context_length,
            vocab_size=config.vocab_size,
            n_layer=config.n_layers,
            n_head=config.n_heads,
            n_embd=config.emb_dim,
            dropout=0.0,
            bias=True,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            gpt: Model = nanogpt.GPT(sizes).to(job.device)
        for block in gpt.transformer.h:
            block.mlp.gelu = nn.GELU(approximate="tanh")
            if not config.qkv_bias:
                block.attn.c_attn.bias = None
        fill(gpt, params, self.prefix)
        super().__init__(job, gpt)
        if self.settings.optimizer == "foreach":  # at its own settings
            wanted = job.adamw
            with contextlib.redirect_stdout(io.StringIO()):
                self.optimizer = gpt.configure_optimizers(
                    wanted.weight_decay,
                    wanted.learning_rate,
                    (wanted.beta1, wanted.beta2),
                    job.device,
                )

    def loss_of(self, inputs: Tensor, targets: Tensor) -> Loss:
        """Its own loss."""
        return self.model(inputs, targets)[1]

    @torch.no_grad()
    def decode(self, prompts: Array, new_tokens: int) -> Array:
        """By its own ``generate``, which has no cache; top 1 is greedy."""
        model = self.model.eval()
        ids = torch.from_numpy(prompts.astype(np.int64)).to(self.device)
        with self._precision:
            tokens = model.generate(ids, new_tokens, top_k=1)
        following: Array = tokens[:, ids.shape[1] :].cpu().numpy()
        return following
