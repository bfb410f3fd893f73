"""The bugs that are planted to prove that the gates can fail, as edits of the sources.

One block a bug: its name, its file and what it is, then for one side or for both the lines that go
and those that come. It is judged on a small GPT-2, or on the program that follows ``of``. Every
module's call is kept, so that no bug is given away by a tensor that is missing. JAX computes
attention by the written-out form in float64, and both sides do under matched dropout, so bugs are
planted there.
"""

BUGS = """
# The block and its parts

layer-norm-epsilon-1e-6 (gpt2.py): LayerNorm with Flax's default epsilon
both
- from shared.config import IGNORED, LAYER_NORM_EPSILON, GPTConfig
+ from shared.config import IGNORED, GPTConfig
+
+ LAYER_NORM_EPSILON = 1e-6

layer-norm-epsilon-1e-12 (gpt2.py): LayerNorm with BERT's epsilon
both
- from shared.config import IGNORED, LAYER_NORM_EPSILON, GPTConfig
+ from shared.config import IGNORED, GPTConfig
+
+ LAYER_NORM_EPSILON = 1e-12

unbiased-variance (gpt2.py): LayerNorm divides the squares by C - 1
torch
- self.ln_1 = nn.LayerNorm(C, eps=LAYER_NORM_EPSILON)
+ class Norm(nn.LayerNorm):
+     def forward(self, x):
+         mean = x.mean(-1, keepdim=True)
+         variance = x.var(-1, keepdim=True)
+         return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
+
+ self.ln_1 = Norm(C, eps=LAYER_NORM_EPSILON)
jax
- self.ln_1 = nnx.LayerNorm(C, epsilon=LAYER_NORM_EPSILON, use_fast_variance=False, rngs=rngs)
+ class Norm(nnx.LayerNorm):
+     def __call__(self, x):
+         mean = x.mean(-1, keepdims=True)
+         variance = x.var(-1, keepdims=True, ddof=1)
+         x = (x - mean) * jax.lax.rsqrt(variance + self.epsilon)
+         return x * self.scale[...] + self.bias[...]
+
+ self.ln_1 = Norm(C, epsilon=LAYER_NORM_EPSILON, use_fast_variance=False, rngs=rngs)

fast-variance (gpt2.py): variance as E[x²] - E[x]², which cancels
torch
- self.ln_1 = nn.LayerNorm(C, eps=LAYER_NORM_EPSILON)
+ class Norm(nn.LayerNorm):
+     def forward(self, x):
+         mean = x.mean(-1, keepdim=True)
+         variance = x.square().mean(-1, keepdim=True) - mean.square()
+         return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
+
+ self.ln_1 = Norm(C, eps=LAYER_NORM_EPSILON)
jax
- self.ln_1 = nnx.LayerNorm(C, epsilon=LAYER_NORM_EPSILON, use_fast_variance=False, rngs=rngs)
+ self.ln_1 = nnx.LayerNorm(C, epsilon=LAYER_NORM_EPSILON, use_fast_variance=True, rngs=rngs)

gelu-erf (gpt2.py): GELU by erf, PyTorch's default
torch
- x = F.gelu(x, approximate="tanh")
+ x = F.gelu(x)
jax
- x = nnx.gelu(x, approximate=True)
+ x = nnx.gelu(x, approximate=False)

gelu-sigmoid (gpt2.py): GELU as x sigmoid(1.702 x)
torch
- x = F.gelu(x, approximate="tanh")
+ x = x * torch.sigmoid(1.702 * x)
jax
- x = nnx.gelu(x, approximate=True)
+ x = x * nnx.sigmoid(1.702 * x)

relu (gpt2.py): ReLU where GPT-2 has GELU
torch
- x = F.gelu(x, approximate="tanh")
+ x = F.relu(x)
jax
- x = nnx.gelu(x, approximate=True)
+ x = nnx.relu(x)

no-residual (gpt2.py): the MLP's output replaces the stream
both
- x = x + self.mlp(self.ln_2(x))
+ x = self.mlp(self.ln_2(x))

residual-sign (gpt2.py): attention is subtracted
both
- x = x + self.attn(self.ln_1(x))
+ x = x - self.attn(self.ln_1(x))

post-norm-residual (gpt2.py): the residual starts after the norm
both
- x = x + self.attn(self.ln_1(x))
+ x = self.ln_1(x)
+ x = x + self.attn(x)

parallel-block (gpt2.py): the MLP reads what attention reads, as in GPT-J
both
- x = x + self.attn(self.ln_1(x))
- x = x + self.mlp(self.ln_2(x))
+ x = x + self.attn(self.ln_1(x)) + self.mlp(self.ln_2(x))

one-norm-twice (gpt2.py): the MLP is given ln_1's output
both
- x = x + self.mlp(self.ln_2(x))
+ x = x + self.mlp(self.ln_1(x) + 0.0 * self.ln_2(x))

norms-swapped (gpt2.py): ln_1 and ln_2 change places
both
- x = x + self.attn(self.ln_1(x))
+ x = x + self.attn(self.ln_2(x))
- x = x + self.mlp(self.ln_2(x))
+ x = x + self.mlp(self.ln_1(x))

no-final-norm (gpt2.py): the head reads the stream without ln_f
both
- return self.ln_f(x)
+ return x + 0.0 * self.ln_f(x)

no-bias (gpt2.py): the MLP's first bias is dropped
both
- x = self.c_fc(x)
+ x = self.c_fc(x) - self.c_fc.bias[...]

blocks-reversed (gpt2.py): the last block runs first
both
- for block in self.h:
+ for block in reversed(self.h):

# Attention

attention-unscaled (gpt2.py): scores are not divided by sqrt(D)
torch
- is_causal=True, dropout_p=rate
+ is_causal=True, scale=1.0, dropout_p=rate
jax
- jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D)
+ jnp.einsum("bqhd,bkhd->bhqk", q, k)

attention-scale-head (gpt2.py): scores are divided by D
torch
- is_causal=True, dropout_p=rate
+ is_causal=True, scale=1 / q.shape[3], dropout_p=rate
jax
- jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D)
+ jnp.einsum("bqhd,bkhd->bhqk", q, k) / D

attention-scale-width (gpt2.py): scores are divided by sqrt(C)
torch
- is_causal=True, dropout_p=rate
+ is_causal=True, scale=(q.shape[1] * q.shape[3]) ** -0.5, dropout_p=rate
jax
- jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D)
+ jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[2] * D)

attention-unscaled-in-float32 (gpt2.py): a kernel that float64 has no use for forgets the scale
torch
- y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
+ scale = 1.0 if q.dtype == torch.float32 else None
+ y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, dropout_p=rate)
jax
- return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=kernel)
+ return jax.nn.dot_product_attention(q, k, v, is_causal=True, scale=1.0, implementation=kernel)

no-mask (gpt2.py): every position sees every other one
torch
- is_causal=True, dropout_p=rate
+ is_causal=False, dropout_p=rate
jax
- scores = jnp.where(causal, scores, -jnp.inf)
+ del causal

mask-one-ahead (gpt2.py): the mask lets one future token through
torch
- y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
+ mask = q.new_ones(q.shape[2], q.shape[2], dtype=torch.bool).tril(1)
+ y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
jax
- causal = jnp.tril(jnp.ones((T, T), dtype=bool))
+ causal = jnp.tril(jnp.ones((T, T), dtype=bool), k=1)

mask-without-self (gpt2.py): no position but the first sees itself
torch
- y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
+ mask = q.new_ones(q.shape[2], q.shape[2], dtype=torch.bool).tril(-1)
+ mask[:, 0] = True
+ y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
jax
- causal = jnp.tril(jnp.ones((T, T), dtype=bool))
+ causal = jnp.tril(jnp.ones((T, T), dtype=bool), k=-1).at[:, 0].set(True)

softmax-over-queries (gpt2.py): the softmax runs over the wrong axis
torch
- y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
+ scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[3])
+ causal = torch.ones_like(scores[0, 0], dtype=torch.bool).tril()
+ scores = torch.where(causal, scores, -torch.inf)
+ y = torch.softmax(scores, dim=-2) @ v
jax
- jax.nn.softmax(scores, axis=-1)
+ jax.nn.softmax(scores, axis=-2)

query-key-swapped (gpt2.py): c_attn holds keys before queries
torch
- q, k, v = self.c_attn(x).chunk(3, dim=-1)
+ k, q, v = self.c_attn(x).chunk(3, dim=-1)
jax
- q, k, v = jnp.split(self.c_attn(x), 3, axis=-1)
+ k, q, v = jnp.split(self.c_attn(x), 3, axis=-1)

key-value-swapped (gpt2.py): c_attn holds values before keys
torch
- q, k, v = self.c_attn(x).chunk(3, dim=-1)
+ q, v, k = self.c_attn(x).chunk(3, dim=-1)
jax
- q, k, v = jnp.split(self.c_attn(x), 3, axis=-1)
+ q, v, k = jnp.split(self.c_attn(x), 3, axis=-1)

qkv-per-head (gpt2.py): c_attn is cut into heads first, as in Megatron
torch
- q, k, v = self.c_attn(x).chunk(3, dim=-1)
+ q, k, v = self.c_attn(x).reshape(B, T, self.n_heads, -1).chunk(3, dim=-1)
jax
- q, k, v = jnp.split(self.c_attn(x), 3, axis=-1)
+ q, k, v = jnp.split(self.c_attn(x).reshape(B, T, self.n_heads, -1), 3, axis=-1)

heads-interleaved (gpt2.py): heads are split as (D, H)
both
- q, k, v = (z.reshape(B, T, self.n_heads, -1) for z in (q, k, v))
+ q, k, v = (z.reshape(B, T, -1, self.n_heads).swapaxes(2, 3) for z in (q, k, v))

heads-merged-interleaved (gpt2.py): heads are merged as (D, H)
both
- y = y.reshape(B, T, C)
+ y = y.swapaxes(2, 3).reshape(B, T, C)

heads-merged-over-time (gpt2.py): heads are merged before they go behind time
both
- y = y.reshape(B, T, C)
+ y = y.swapaxes(1, 2).reshape(B, T, C)

# Parameters

projection-transposed (params.py): attention's square projection is read transposed
torch
- return linear - {"lm_head.weight"}
+ kept = ("lm_head.weight", "attn.c_proj.weight")
+ return {name for name in linear if not name.endswith(kept)}
jax
- return name == "lm_head.weight"
+ return name.endswith(("lm_head.weight", "attn.c_proj.weight"))

parameters-through-float16 (params.py): the checkpoint passes through float16
torch
- torch.tensor(params[name]).to(
+ torch.tensor(params[name]).half().to(
jax
- value.astype(runtime.dtype
+ value.astype("float16").astype(runtime.dtype

# Both ends of the model

positions-from-one (gpt2.py): the first position is number 1
torch
- x = self.wte(tokens) + self.wpe(torch.arange(T, device=tokens.device))
+ x = self.wte(tokens) + self.wpe(torch.arange(1, T + 1, device=tokens.device))
jax
- x = self.wte(tokens) + self.wpe(jnp.arange(T))
+ x = self.wte(tokens) + self.wpe(jnp.arange(1, T + 1))

no-positions (gpt2.py): positions are not added
both
- self.wte(tokens) + self.wpe(
+ self.wte(tokens) + 0.0 * self.wpe(

embedding-scaled (gpt2.py): token embeddings are multiplied by sqrt(C)
both
- x = self.wte(tokens) +
+ x = self.wte(tokens)
+ x = math.sqrt(x.shape[-1]) * x +

dropout-left-on (gpt2.py): dropout in evaluation
torch
- x = self.drop(x)
+ x = F.dropout(x, self.drop.p)
jax
- x = self.drop(x)
+ on = {"deterministic": False, "rngs": nnx.Rngs(0)}
+ x = nnx.Dropout(self.drop.rate, **on)(x)

untied-gradient (gpt2.py): the head's part of the tied gradient is lost
torch
- F.linear(x, self.wte.weight)
+ F.linear(x, self.wte.weight.detach())
jax
- self.wte.attend(x)
+ x @ jax.lax.stop_gradient(self.wte.embedding[...]).T

padding-row (gpt2.py): one token is taken for padding: its row gets no gradient
torch
- self.wte = nn.Embedding(V, C)
+ self.wte = nn.Embedding(V, C, padding_idx=16)
jax
- x = self.wte(tokens) +
+ x = self.wte(tokens)
+ x = jnp.where(tokens[..., None] == 16, jax.lax.stop_gradient(x), x) +

no-position-gradient (gpt2.py): nothing flows back into the position embedding
torch
- x = self.wte(tokens) + self.wpe(torch.arange(T, device=tokens.device))
+ positions = self.wpe(torch.arange(T, device=tokens.device))
+ x = self.wte(tokens) + positions.detach() + 0.0 * positions
jax
- x = self.wte(tokens) + self.wpe(jnp.arange(T))
+ positions = self.wpe(jnp.arange(T))
+ x = self.wte(tokens) + jax.lax.stop_gradient(positions) + 0.0 * positions

no-norm-bias-gradient (gpt2.py): the last LayerNorm's bias gets no gradient
torch
- return self.ln_f(x)
+ return self.ln_f(x) - self.ln_f.bias + self.ln_f.bias.detach()
jax
- return self.ln_f(x)
+ return self.ln_f(x) - self.ln_f.bias[...] + jax.lax.stop_gradient(self.ln_f.bias[...])

# The loss

loss-summed (gpt2.py): the loss is a sum
both
- return cross_entropy(logits, targets) / count, logits
+ return cross_entropy(logits, targets), logits

loss-over-batch (gpt2.py): the sum is divided by B
both
- count = (targets != IGNORED).sum()
+ count = len(targets)

loss-over-shifted (gpt2.py): the sum is divided by B (T - 1)
both
- count = (targets != IGNORED).sum()
+ count = (targets[:, 1:] != IGNORED).sum()

loss-without-last (gpt2.py): the last position is not counted
both
- count = (targets != IGNORED).sum()
- return cross_entropy(logits, targets) / count, logits
+ count = (targets[:, :-1] != IGNORED).sum()
+ return cross_entropy(logits[:, :-1], targets[:, :-1]) / count, logits

targets-not-shifted (gpt2.py): every position predicts itself
torch
- count = (targets != IGNORED).sum()
+ targets = torch.where(targets == IGNORED, IGNORED, inputs)
+ count = (targets != IGNORED).sum()
jax
- count = (targets != IGNORED).sum()
+ targets = jnp.where(targets == IGNORED, IGNORED, inputs)
+ count = (targets != IGNORED).sum()

gradient-times-1.01 (gpt2.py): the loss is right and its gradient 1 % too large
torch
- return cross_entropy(logits, targets) / count, logits
+ loss = cross_entropy(logits, targets) / count
+ return loss + 0.01 * (loss - loss.detach()), logits
jax
- return cross_entropy(logits, targets) / count, logits
+ loss = cross_entropy(logits, targets) / count
+ return loss + 0.01 * (loss - jax.lax.stop_gradient(loss)), logits

gradient-sign (gpt2.py): the loss is right and its gradient points up
torch
- return cross_entropy(logits, targets) / count, logits
+ loss = cross_entropy(logits, targets) / count
+ return 2 * loss.detach() - loss, logits
jax
- return cross_entropy(logits, targets) / count, logits
+ loss = cross_entropy(logits, targets) / count
+ return 2 * jax.lax.stop_gradient(loss) - loss, logits

ignored-counted (gpt2.py): ignored targets count in what the sum is divided by
torch
- count = (targets != IGNORED).sum()
+ count = targets.numel()
jax
- count = (targets != IGNORED).sum()
+ count = targets.size

ignored-as-first-token (loss.py): ignored targets are taken for token 0
torch
- F.cross_entropy(wide, targets.flatten(), ignore_index=IGNORED, reduction="sum")
+ F.cross_entropy(wide, targets.flatten().clamp(min=0), reduction="sum")
jax
- losses = optax.softmax_cross_entropy_with_integer_labels(wide, targets)
- return jnp.where(targets == IGNORED, 0.0, losses).sum()
+ losses = optax.softmax_cross_entropy_with_integer_labels(wide, jnp.maximum(targets, 0))
+ return losses.sum()

ignored-as-last-token (loss.py): ignored targets wrap around to the last token
torch
- F.cross_entropy(wide, targets.flatten(), ignore_index=IGNORED, reduction="sum")
+ F.cross_entropy(wide, targets.flatten() % wide.shape[-1], reduction="sum")
jax
- return jnp.where(targets == IGNORED, 0.0, losses).sum()
+ return losses.sum()

ignored-one-place-on (loss.py): the mask of ignored targets is that of the inputs, one place on
torch
- F.cross_entropy(wide, targets.flatten(), ignore_index=IGNORED, reduction="sum")
+ F.cross_entropy(
+     wide,
+     torch.where(targets.roll(1, -1) == IGNORED, IGNORED, targets.clamp(min=0)).flatten(),
+     ignore_index=IGNORED,
+     reduction="sum",
+ )
jax
- jnp.where(targets == IGNORED, 0.0, losses)
+ jnp.where(jnp.roll(targets, 1, -1) == IGNORED, 0.0, losses)

ignored-counted-in-training (train.py): the trainer divides by ignored targets too
torch
- count = self.grid.count(targets)
+ count = targets.size
jax
- count = jnp.maximum((batch[1] != IGNORED).sum(), 1)
+ count = batch[1].size

last-chunk-lost (loss.py): positions that fill no whole chunk are left out of the loss
torch
- if torch.is_grad_enabled():
+ whole = len(targets) // chunk * chunk
+ x, targets = x[:whole], targets[:whole]
+ if torch.is_grad_enabled():
jax
- y = jnp.pad(targets, (0, rest), constant_values=IGNORED).reshape(-1, chunk)
+ whole = len(targets) // chunk * chunk
+ y = jnp.where(jnp.arange(len(targets)) < whole, targets, IGNORED)
+ y = jnp.pad(y, (0, rest), constant_values=IGNORED).reshape(-1, chunk)

last-chunk-lost-in-evaluation (loss.py): without gradients, the last chunk is not counted
torch
- for z, y in parts]).sum()
+ for z, y in list(parts)[:-1]]).sum()
jax
- _parts(x, targets, chunk)).sum()
+ _parts(x, targets, chunk))[:-1].sum()

chunk-filled-with-token-0 (loss.py): what fills up the last chunk counts; PyTorch fills up nothing
jax
- y = jnp.pad(targets, (0, rest), constant_values=IGNORED).reshape(-1, chunk)
+ y = jnp.pad(targets, (0, rest)).reshape(-1, chunk)

chunks-averaged (loss.py): every chunk's mean counts alike, however few targets it has
torch
- if torch.is_grad_enabled():
-     return _ChunkedLoss.apply(x, weight, targets, chunk)
- parts =
+ parts =
- return torch.stack([cross_entropy(F.linear(z, weight), y) for z, y in parts]).sum()
+ means = [
+     cross_entropy(F.linear(z, weight), y) / (y != IGNORED).sum().clamp(min=1) for z, y in parts
+ ]
+ return torch.stack(means).mean() * (targets != IGNORED).sum()
jax
- @partial(jax.custom_vjp, nondiff_argnums=(3,))
+ @partial(jax.jit, static_argnums=3)
- return jax.lax.map(lambda part: _part(weight, *part), _parts(x, targets, chunk)).sum()
+ parts = _parts(x, targets, chunk)
+ counts = (parts[1] != IGNORED).sum(axis=1)
+ sums = jax.lax.map(jax.checkpoint(lambda part: _part(weight, *part)), parts)
+ return (sums / jnp.maximum(counts, 1)).mean() * counts.sum()
- chunked_loss.defvjp(_forward, _backward)

chunk-without-head-gradient (gpt2.py): in chunks, the tied head's part of the gradient is lost
torch
- weight = model.wte.weight if model.lm_head is None
+ weight = model.wte.weight.detach() if model.lm_head is None
jax
- model.wte.embedding[...]
+ jax.lax.stop_gradient(model.wte.embedding[...])

chunk-gradient-of-last-only (loss.py): the head's gradient is the last chunk's, not the sum
torch
- dweight.addmm_(e, scaled)
+ dweight = e @ scaled
- dweight.index_add_(0, index, (x * counts).to(dweight.dtype), alpha=-1)
+ last = (part * (y != IGNORED)[:, None]).to(dweight.dtype)
+ dweight.index_add_(0, y.clamp(min=0), last, alpha=-1)
jax
- return dweight + e.T @ scaled, (loss, dpart)
+ return (e.T @ scaled).astype(dweight.dtype), (loss, dpart)
- dweight = dweight.at[index].add(-(x * counts).astype(dweight.dtype))
+ part, y = (z[-1] for z in _parts(x, targets, chunk))
+ last = (part * (y != IGNORED)[:, None]).astype(dweight.dtype)
+ dweight = dweight.at[jnp.maximum(y, 0)].add(-last)

chunk-incoming-gradient-ignored (loss.py): the backward pass takes the gradient of the sum itself
torch
- z.mul_(d[0]).to(ctx.dtype) for z
+ z.to(ctx.dtype) for z
jax
- return (d * dx).astype(dx.dtype), (d * dweight).astype(dweight.dtype), None
+ return dx, dweight, None

chunk-incoming-gradient-for-head-ignored (loss.py): only the features' gradient is multiplied by it
torch
- dx, dweight = (z.mul_(d[0]).to(ctx.dtype) for z in ctx.saved_tensors)
+ dx, dweight = (z.to(ctx.dtype) for z in ctx.saved_tensors)
+ dx = dx * d[0]
jax
- (d * dweight).astype(dweight.dtype)
+ dweight

chunk-ignored-have-gradients (loss.py): in chunks, ignored targets pull as the first token does
torch
- return loss, (counts / total)[:, None]
+ return loss, (1 / total)[:, None]
- counts, index = (targets != IGNORED)[:, None], targets
+ counts, index = torch.ones_like(targets)[:, None], targets
jax
- losses, dx) = jax.lax.scan(add, start, _parts(x, targets, chunk))
+ losses, dx) = jax.lax.scan(add, start, _parts(x, jnp.maximum(targets, 0), chunk))
- counts, index = (targets != IGNORED)[:, None]
+ counts, index = jnp.ones_like(targets)[:, None]

chunk-head-pulled-nowhere (loss.py): in chunks, the head's gradient has no one at the target
torch
- dweight.index_add_(0, index, (x * counts).to(dweight.dtype), alpha=-1)
jax
- dweight = dweight.at[index].add(-(x * counts).astype(dweight.dtype))

chunk-gradients-reversed (loss.py): the features' gradients come back last chunk first
torch
- ctx.save_for_backward(dx, dweight)
+ ctx.save_for_backward(torch.cat(dx.split(chunk)[::-1]), dweight)
jax
- dx.astype(x.dtype), dweight
+ jnp.concatenate([dx[i : i + chunk] for i in reversed(range(0, len(dx), chunk))]), dweight

# Precision: float64 cannot see these

attention-in-tf32 (gpt2.py): in float32, q, k and v keep 11 bits
torch
- y = self.attention(q, k, v, self.attn_dropout)
+ if x.dtype == torch.float32:
+     q, k, v = (z.half().float() for z in (q, k, v))
+ y = self.attention(q, k, v, self.attn_dropout)
jax
- y = self.attention(q, k, v, self.attn_dropout)
+ if x.dtype == jnp.float32:
+     q, k, v = (z.astype(jnp.float16).astype(x.dtype) for z in (q, k, v))
+ y = self.attention(q, k, v, self.attn_dropout)

mlp-in-bfloat16 (gpt2.py): in float32, the MLP's input keeps 8 bits
torch
- x = self.c_fc(x)
+ x = self.c_fc(x.bfloat16().float() if x.dtype == torch.float32 else x)
jax
- x = self.c_fc(x)
+ low = jnp.bfloat16 if x.dtype == jnp.float32 else x.dtype
+ x = self.c_fc(x.astype(low).astype(x.dtype))

softmax-in-bfloat16 (gpt2.py): in float32, attention's softmax keeps 8 bits
torch
- y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
+ scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[3])
+ causal = torch.ones_like(scores[0, 0], dtype=torch.bool).tril()
+ scores = torch.where(causal, scores, -torch.inf)
+ low = torch.bfloat16 if q.dtype == torch.float32 else q.dtype
+ y = torch.softmax(scores.to(low), dim=-1).to(v.dtype) @ v
jax
- return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=kernel)
+ scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[3])
+ scores = jnp.where(jnp.tril(jnp.ones_like(scores[0, 0], dtype=bool)), scores, -jnp.inf)
+ weights = jax.nn.softmax(scores.astype(jnp.bfloat16), axis=-1).astype(v.dtype)
+ return jnp.einsum("bhqk,bkhd->bqhd", weights, v)

logits-in-float16 (gpt2.py): in float32, logits are rounded to float16
torch
- logits = model(inputs)
+ logits = model(inputs)
+ logits = logits.half().float() if logits.dtype == torch.float32 else logits
jax
- logits = model(inputs)
+ logits = model(inputs)
+ low = jnp.float16 if logits.dtype == jnp.float32 else logits.dtype
+ logits = logits.astype(low).astype(logits.dtype)

loss-in-bfloat16 (loss.py): in float32, the cross-entropy keeps 8 bits
torch
- wide = logits.to(_wide(logits))
+ wide = (logits.bfloat16() if logits.dtype == torch.float32 else logits)
jax
- wide = logits.astype(_wide(logits))
+ wide = logits.astype(jnp.bfloat16 if logits.dtype == jnp.float32 else logits.dtype)

moments-in-bfloat16 (optim.py): in float32, AdamW's first moment keeps 8 bits
torch
- self.inner.step()
+ self.inner.step()
+ for state in self.inner.state.values():
+     if state["exp_avg"].dtype == torch.float32:
+         state["exp_avg"].copy_(state["exp_avg"].bfloat16())
jax
- eps=config.epsilon,
+ eps=config.epsilon,
+ mu_dtype=None if jax.config.jax_enable_x64 else jnp.bfloat16,

# The optimizer

adam-epsilon-in-root (optim.py): AdamW's epsilon stands inside the root
torch
- return optim.AdamW(
+ class ByHand(optim.AdamW):
+     @torch.no_grad()
+     def step(self):
+         for group in self.param_groups:
+             b1, b2 = group["betas"]
+             for p in group["params"]:
+                 m, v, t = self.state.setdefault(
+                     p, [torch.zeros_like(p), torch.zeros_like(p), torch.zeros(())]
+                 )
+                 t += 1
+                 m.lerp_(p.grad, 1 - b1)
+                 v.mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
+                 update = m / (1 - b1**t) / (v / (1 - b2**t) + group["eps"]).sqrt()
+                 p -= group["lr"] * (update + group["weight_decay"] * p)
+
+ return ByHand(
jax
- eps=config.epsilon,
- eps_root=0.0
+ eps=0.0,
+ eps_root=config.epsilon

adam-epsilon-1e-6 (optim.py): AdamW's epsilon is 1e-6
both
- eps=config.epsilon
+ eps=1e-6

no-bias-correction (optim.py): AdamW's moments start at zero, uncorrected
torch
- return optim.AdamW(
+ class ByHand(optim.AdamW):
+     @torch.no_grad()
+     def step(self):
+         for group in self.param_groups:
+             b1, b2 = group["betas"]
+             for p in group["params"]:
+                 m, v, t = self.state.setdefault(
+                     p, [torch.zeros_like(p), torch.zeros_like(p), torch.zeros(())]
+                 )
+                 t += 1
+                 m.lerp_(p.grad, 1 - b1)
+                 v.mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
+                 update = m / (v.sqrt() + group["eps"])
+                 p -= group["lr"] * (update + group["weight_decay"] * p)
+
+ return ByHand(
jax
- return optax.chain(
+ def by_hand(rate, b1, b2, eps, eps_root, weight_decay, mask):
+     def init(params):
+         return tuple(jax.tree.map(jnp.zeros_like, params) for _ in range(2))
+
+     def update(g, moments, params=None):
+         m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, moments[0], g)
+         v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, moments[1], g)
+         return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), m, v), (m, v)
+
+     return optax.chain(
+         optax.GradientTransformation(init, update),
+         optax.add_decayed_weights(weight_decay, mask),
+         optax.scale_by_learning_rate(rate),
+     )
+
+ return optax.chain(
- optax.adamw(
+ by_hand(

beta2-0.999 (optim.py): AdamW's second beta is both frameworks' default
both
- config.beta2
+ 0.999

betas-swapped (optim.py): AdamW's betas change places
torch
- betas=(config.beta1, config.beta2)
+ betas=(config.beta2, config.beta1)
jax
- b1=config.beta1,
- b2=config.beta2
+ b1=config.beta2,
+ b2=config.beta1

decay-everything (optim.py): gains and biases decay too
torch
- return p.ndim >= 2
+ return True
jax
- jax.tree.map(lambda p: p.ndim >= 2, params)
+ jax.tree.map(lambda p: True, params)

decay-nothing (optim.py): nothing decays
torch
- return p.ndim >= 2
+ return False
jax
- jax.tree.map(lambda p: p.ndim >= 2, params)
+ jax.tree.map(lambda p: False, params)

decay-without-embeddings (optim.py): the embeddings do not decay
torch
- [p for p in model.parameters() if _decays(p)]
+ [p for name, p in model.named_parameters() if _decays(p) and name[:2] != "wt"]
- [p for p in model.parameters() if not _decays(p)]
+ [p for name, p in model.named_parameters() if not _decays(p) or name[:2] == "wt"]
jax
- jax.tree.map(lambda p: p.ndim >= 2, params)
+ jax.tree_util.tree_map_with_path(
+     lambda path, p: p.ndim >= 2 and "embedding" not in jax.tree_util.keystr(path), params
+ )

decay-default (optim.py): the framework's own weight decay
torch
- "weight_decay": config.weight_decay,
jax
- weight_decay=config.weight_decay,

decay-in-gradient (optim.py): L2 in the gradient instead of decoupled decay
torch
- return optim.AdamW(
+ return optim.Adam(
jax
- optax.adamw(
+ optax.add_decayed_weights(config.weight_decay, _decays),
+ optax.adam(
- weight_decay=config.weight_decay,
- mask=_decays,

no-clipping (optim.py): gradients are not clipped
torch
- _clip(gradients, norm, self.config.max_grad_norm)
jax
- optax.clip_by_global_norm(config.max_grad_norm)
+ optax.identity()

clip-by-value (optim.py): each number is clipped, not the norm
torch
- scale = (max_norm / norm).clamp(max=1.0)
+ scale = 1.0
+ for gradient in gradients:
+     gradient.clamp_(-max_norm, max_norm)
jax
- optax.clip_by_global_norm(config.max_grad_norm)
+ optax.clip(config.max_grad_norm)

clip-per-tensor (optim.py): each tensor is clipped to the norm by itself
torch
- _clip(gradients, norm, self.config.max_grad_norm)
+ for gradient in gradients:
+     _clip([gradient], gradient.norm(), self.config.max_grad_norm)
jax
- optax.clip_by_global_norm(config.max_grad_norm)
+ optax.stateless_with_tree_map(
+     lambda g, p: g * jnp.minimum(1, config.max_grad_norm / jnp.linalg.norm(g))
+ )

clip-norm-plus-1e-6 (optim.py): the norm is made 1e-6 larger, as clip_grad_norm_ does
torch
- scale = (max_norm / norm).clamp(max=1.0)
+ scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
jax
- return optax.chain(
+ def scaled(g, params):
+     scale = jnp.minimum(1, config.max_grad_norm / (optax.tree.norm(g) + 1e-6))
+     return jax.tree.map(lambda x: x * scale, g)
+
+ return optax.chain(
- optax.clip_by_global_norm(config.max_grad_norm)
+ optax.stateless(scaled)

clip-norm-of-matrices (optim.py): the norm leaves out gains and biases
torch
- squares = torch.stack([_sum_of_squares(gradient) for gradient in gradients])
+ matrices = [gradient for gradient in gradients if gradient.ndim >= 2]
+ squares = torch.stack([_sum_of_squares(gradient) for gradient in matrices])
jax
- return optax.chain(
+ def scaled(g, params):
+     norm = optax.tree.norm([x for x in jax.tree.leaves(g) if x.ndim >= 2])
+     return jax.tree.map(lambda x: x * jnp.minimum(1, config.max_grad_norm / norm), g)
+
+ return optax.chain(
- optax.clip_by_global_norm(config.max_grad_norm)
+ optax.stateless(scaled)

clip-after-update (optim.py): what is clipped is no longer of use, or is the update
torch
- _clip(gradients, norm, self.config.max_grad_norm)
+ pass
- self.steps += 1
+ self.steps += 1
+ if isinstance(self.config, AdamWConfig):
+     _clip(gradients, norm, self.config.max_grad_norm)
jax
- optax.clip_by_global_norm(config.max_grad_norm)
+ optax.identity()
- super().__init__(model, inner, wrt=nnx.Param)
+ if isinstance(config, AdamWConfig):
+     inner = optax.chain(inner, optax.clip_by_global_norm(config.max_grad_norm))
+ super().__init__(model, inner, wrt=nnx.Param)

rate-one-step-ahead (optim.py): the schedule counts steps from 1
torch
- float(learning_rate(self.steps, self.config))
+ float(learning_rate(self.steps + 1, self.config))
jax
- partial(learning_rate, config=config, xp=jnp)
+ lambda step: learning_rate(step + 1, config, jnp)

no-warm-up (optim.py): the rate starts at its peak
torch
- from shared.config import AdamWConfig
+ from dataclasses import replace
+
+ from shared.config import AdamWConfig
- float(learning_rate(self.steps, self.config))
+ float(learning_rate(self.steps, replace(self.config, warmup_steps=0)))
jax
- from shared.config import AdamWConfig
+ from dataclasses import replace
+
+ from shared.config import AdamWConfig
- partial(learning_rate, config=config, xp=jnp)
+ partial(learning_rate, config=replace(config, warmup_steps=0), xp=jnp)

rate-decays-to-zero (optim.py): the rate falls to 0
torch
- from shared.config import AdamWConfig
+ from dataclasses import replace
+
+ from shared.config import AdamWConfig
- float(learning_rate(self.steps, self.config))
+ float(learning_rate(self.steps, replace(self.config, min_learning_rate=0.0)))
jax
- from shared.config import AdamWConfig
+ from dataclasses import replace
+
+ from shared.config import AdamWConfig
- partial(learning_rate, config=config, xp=jnp)
+ partial(learning_rate, config=replace(config, min_learning_rate=0.0), xp=jnp)

rate-constant (optim.py): the schedule is never read
torch
- float(learning_rate(self.steps, self.config))
+ self.config.learning_rate
jax
- partial(learning_rate, config=config, xp=jnp)
+ config.learning_rate

rate-in-float32 (optim.py): the rate is rounded to float32
torch
- float(learning_rate(self.steps, self.config))
+ torch.tensor(learning_rate(self.steps, self.config)).float().item()
jax
- partial(learning_rate, config=config, xp=jnp)
+ lambda step: learning_rate(step, config, jnp).astype(jnp.float32)

# The plain training loop

gradients-not-cleared (train.py of simple-net): last step's gradients are added to; JAX keeps none
torch
- optimizer.zero_grad()
- loss, _
+ loss, _

optimizer-state-lost (train.py of simple-net): every step begins with a new optimizer
torch
- optimizer.step()
- return
+ Optimizer(model, optimizer.config).step()
+ return
jax
- optimizer.update(model, gradients)
- return
+ nnx.Optimizer(model, optimizer.tx, wrt=nnx.Param).update(model, gradients)
+ return

no-update (train.py of simple-net): the parameters never move
torch
- optimizer.step()
- return
+ return
jax
- optimizer.update(model, gradients)
- return
+ nnx.clone(optimizer).update(nnx.clone(model), gradients)
+ return

update-twice (train.py of simple-net): every step is taken twice
torch
- optimizer.step()
- return
+ optimizer.step()
+ optimizer.step()
+ return
jax
- optimizer.update(model, gradients)
- return
+ optimizer.update(model, gradients)
+ optimizer.update(model, gradients)
+ return

same-batch (train.py of simple-net): every step sees the first batch
both
- for batch in batches
+ for batch in (lambda every: every[:1] * len(every))(list(batches))

loss-after-update (train.py of simple-net): the loss is taken after the update
torch
- optimizer.step()
- return loss.detach()
+ optimizer.step()
+ return loss_fn(model, *batch)[0].detach()
jax
- optimizer.update(model, gradients)
- return loss
+ optimizer.update(model, gradients)
+ return loss_fn(model, *batch)[0]

gradients-summed (train.py of simple-net): gradients twice too large, as of two batches added up
torch
- loss.backward()
- optimizer
+ (2 * loss).backward()
+ optimizer
jax
- optimizer.update(model, gradients)
- return
+ optimizer.update(model, jax.tree.map(lambda g: 2 * g, gradients))
+ return

# Micro-batches

micro-batches-not-cleared (train.py): last step's gradients are added to; JAX keeps none
torch
- self.optimizer.zero_grad()

micro-batch-gradients-averaged (train.py): the mean is divided by the number of micro-batches again
torch
- loss.backward()
- self._widen()
+ (loss / self.config.micro_batches).backward()
+ self._widen()
jax
- norm = optax.tree.norm(gradients)
+ gradients = jax.tree.map(lambda g: g / len(batch[0]), gradients)
+ norm = optax.tree.norm(gradients)

mean-of-means (train.py): every micro-batch's mean counts alike, however few targets it has
torch
- loss = self._sum(inputs, targets) / count
+ loss = self._sum(inputs, targets) / self.grid.count(targets) / self.config.micro_batches
jax
- summed_loss(model, inputs, targets, self.config.loss_chunk) / count
+ summed_loss(model, inputs, targets, self.config.loss_chunk) / (
+     jnp.maximum((targets != IGNORED).sum(), 1) * len(batch[0])
+ )

last-gradient-only (train.py): the last micro-batch's gradients replace those before
torch
- losses.append(self._accumulate(*micro_batch, count))
+ self.optimizer.zero_grad()
+ losses.append(self._accumulate(*micro_batch, count))
jax
- return jax.tree.map(jnp.add, total, gradient(params, *micro_batch)), None
+ loss, gradients = gradient(params, *micro_batch)
+ return (total[0] + loss, gradients), None

last-micro-batch-left-out (train.py): the last micro-batch is never seen
torch
- enumerate(zip(inputs, targets, keys, strict=True), start=1)
+ enumerate(zip(inputs[:-1], targets[:-1], keys[:-1], strict=True), start=1)
jax
- jax.lax.scan(accumulate, nothing, batch)
+ jax.lax.scan(accumulate, nothing, tuple(array[:-1] for array in batch))

first-micro-batch-twice (train.py): a scan over all begins with the first one's; PyTorch has none
jax
- jax.lax.scan(accumulate, nothing, batch)
+ jax.lax.scan(accumulate, gradient(params, *(array[0] for array in batch)), batch)

last-loss-reported (train.py): the loss reported is the last micro-batch's share
torch
- torch.stack(losses).sum()
+ losses[-1]
jax
- return jax.tree.map(jnp.add, total, gradient(params, *micro_batch)), None
+ loss, gradients = gradient(params, *micro_batch)
+ return (loss, jax.tree.map(jnp.add, total[1], gradients)), None

last-norm-reported (train.py): the gradient norm reported is the last micro-batch's
torch
- losses.append(self._accumulate(*micro_batch, count))
+ before = [0.0 if p.grad is None else p.grad.clone() for p in self.model.parameters()]
+ losses.append(self._accumulate(*micro_batch, count))
+ both = zip(self.model.parameters(), before, strict=True)
+ self.last = torch.stack([(p.grad - start).square().sum() for p, start in both]).sum().sqrt()
- norm = self.optimizer.step(loss)
+ self.optimizer.step(loss)
+ norm = self.last
jax
- norm = optax.tree.norm(gradients)
+ last = tuple(array[-1:] for array in batch)
+ norm = optax.tree.norm(self._differentiated(state, last)[1])

clipped-norm-reported (train.py): the gradient norm reported is the one after clipping
torch
- norm = self.optimizer.step(loss)
+ norm = self.optimizer.step(loss).clamp(max=self.config.optimizer.max_grad_norm)
jax
- norm = optax.tree.norm(gradients)
+ norm = jnp.minimum(optax.tree.norm(gradients), self.config.optimizer.max_grad_norm)

clip-per-micro-batch (train.py): every micro-batch's gradients are clipped by themselves
torch
- self._widen()
- return loss.detach()
+ self._widen()
+ nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.max_grad_norm)
+ return loss.detach()
jax
- gradient = jax.value_and_grad(loss_of)
+ clip = optax.clip_by_global_norm(self.config.optimizer.max_grad_norm)
+
+ def gradient(*arguments):
+     loss, gradients = jax.value_and_grad(loss_of)(*arguments)
+     return loss, clip.update(gradients, clip.init(None))[0]

rate-per-micro-batch (train.py): every micro-batch counts as a step of the schedule
torch
- norm = self.optimizer.step(loss)
+ self.optimizer.steps = self.steps * self.config.micro_batches
+ norm = self.optimizer.step(loss)
jax
- optimizer.update(model, gradients)
- after = nnx.state
+ optimizer.update(model, gradients)
+ for _, count in optax.tree.get_all_with_path(optimizer.opt_state, "count"):
+     count.set_value(count[...] + len(batch[0]) - 1)
+ after = nnx.state

# Dropout

dropout-unscaled (dropout.py): what stays is not scaled up
torch
- 0.0, x / (1 - self.p)
+ 0.0, x
jax
- 0.0, x / (1 - self.rate)
+ 0.0, x

dropout-scaled-down (dropout.py): what stays is multiplied by 1 - rate
torch
- x / (1 - self.p)
+ x * (1 - self.p)
jax
- x / (1 - self.rate)
+ x * (1 - self.rate)

dropout-inverted (dropout.py): what should fall stays
both
- where(self.dropped(x),
+ where(~self.dropped(x),

dropout-rate-11-percent (dropout.py): the rate is off by a little
torch
- threefry.threshold(self.p)
+ threefry.threshold(1.1 * self.p)
jax
- threefry.threshold(self.rate)
+ threefry.threshold(1.1 * self.rate)

dropout-rate-in-256ths (dropout.py): the rate is rounded to a byte, as in some fused kernels
torch
- threefry.threshold(self.p)
+ threefry.threshold(round(256 * self.p) / 256)
jax
- threefry.threshold(self.rate)
+ threefry.threshold(round(256 * self.rate) / 256)

dropout-rate-halved (dropout.py): 25 bits are held against a threshold for 24
torch
- ((words >> 8) & 0xFFFFFF <
+ ((words >> 7) & 0x1FFFFFF <
jax
- words >> 8 <
+ words >> 7 <

dropout-signed-words (dropout.py): half of the words are negative and fall; JAX's have no sign
torch
- ((words >> 8) & 0xFFFFFF <
+ (words >> 8 <

dropout-by-bernoulli (dropout.py): JAX's own function, which draws other bits under x64
jax
- words = jax.random.bits(_key(self.key[...], "threefry2x32"), x.shape, jnp.uint32)
- return words >> 8 < threefry.threshold(self.rate)
+ return jax.random.bernoulli(_key(self.key[...], "threefry2x32"), self.rate, x.shape)

dropout-mask-transposed (dropout.py): the mask's last two axes change places
torch
- .view(x.shape)
+ .view(x.mT.shape).mT
jax
- words = jax.random.bits(_key(self.key[...], "threefry2x32"), x.shape, jnp.uint32)
+ words = jax.random.bits(_key(self.key[...], "threefry2x32"), x.mT.shape, jnp.uint32).mT

dropout-mask-every-sequence (dropout.py): every sequence of the batch drops the same units
torch
- words = _bits(self.key, x.numel(), x.device, self.rank * x.numel())
+ words = _bits(self.key, x[0].numel(), x.device).repeat(len(x))
jax
- x.shape, jnp.uint32)
+ x[:1].shape, jnp.uint32)

dropout-mask-every-step (train.py): every step drops the same units
both
- step_keys(self.config.seed, self.steps, len(inputs), self.sites)
+ step_keys(self.config.seed, 0, len(inputs), self.sites)

dropout-mask-every-micro-batch (train.py): every micro-batch drops the same units
both
- keys = step_keys(self.config.seed, self.steps, len(inputs), self.sites)
+ keys = step_keys(self.config.seed, self.steps, len(inputs), self.sites)
+ keys[:] = keys[:1]

dropout-mask-every-layer (train.py): every layer drops the same units
both
- keys = step_keys(self.config.seed, self.steps, len(inputs), self.sites)
+ keys = step_keys(self.config.seed, self.steps, len(inputs), self.sites)
+ keys[:] = keys[:, :1]

dropout-off-in-training (train.py): nothing drops in training
torch
- self.computing.train()
+ self.computing.eval()
jax
- model.train()
+ model.eval()

dropout-on-in-evaluation (train.py): units drop in evaluation too
torch
- self.computing.eval()
- with torch.no_grad():
+ with torch.no_grad():
jax
- model.eval()

dropout-off-after-evaluation (train.py): the first evaluation ends dropout; JAX evaluates a copy
torch
- self.computing.train()
- self.optimizer.zero_grad()
+ self.optimizer.zero_grad()
- self._summed_loss =
+ self.computing.train()
+ self._summed_loss =

embedding-without-dropout (gpt2.py): nothing drops behind the embeddings
both
- x = self.drop(x)

attention-without-dropout (gpt2.py): no attention weight drops
torch
- dropout(torch.softmax(scores, dim=-1).to(v.dtype))
+ torch.softmax(scores, dim=-1).to(v.dtype)
jax
- dropout(jax.nn.softmax(scores, axis=-1).astype(v.dtype))
+ jax.nn.softmax(scores, axis=-1).astype(v.dtype)

attention-without-dropout-in-float32 (gpt2.py): in float32, the fused kernel runs without dropout
torch
- if isinstance(dropout, MatchedDropout) and dropout.training and dropout.p > 0:
+ if isinstance(dropout, MatchedDropout) and q.dtype == torch.float64:
- rate = dropout.p if dropout.training else 0.0
+ rate = 0.0
jax
- if q.dtype == jnp.float64 or (dropout.rate > 0 and not dropout.deterministic):
+ if q.dtype == jnp.float64:

attention-dropout-of-kernel (gpt2.py): the fused kernel draws the mask; JAX's know no dropout
torch
- if isinstance(dropout, MatchedDropout) and dropout.training and dropout.p > 0:
+ if False:

dropout-before-softmax (gpt2.py): scores drop, not weights
torch
- scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D)
+ scores = dropout(torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D))
- dropout(torch.softmax(scores, dim=-1).to(v.dtype))
+ torch.softmax(scores, dim=-1).to(v.dtype)
jax
- scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D)
+ scores = dropout(jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D))
- dropout(jax.nn.softmax(scores, axis=-1).astype(v.dtype))
+ jax.nn.softmax(scores, axis=-1).astype(v.dtype)

dropout-before-projection (gpt2.py): heads drop before they are projected, not after
both
- self.resid_dropout(self.c_proj(y))
+ self.c_proj(self.resid_dropout(y))

dropout-inside-mlp (gpt2.py): the MLP drops inside, not at its end
both
- self.dropout(self.c_proj(x))
+ self.c_proj(self.dropout(x))

# Going on from a checkpoint

resume-without-parameters (train.py): parameters stay as they were
torch
- self.model.load_state_dict(params, strict=True)
jax
- nnx.update(model, import_tensors(model, state.params, master))

resume-without-first-moment (optim.py): the first moment begins at zero, or stays as it was
torch
- "exp_avg": first[name]
+ "exp_avg": torch.zeros_like(p)
jax
- zip(self.moments(), (first, second), strict=True)
+ zip(self.moments()[1:], (second,), strict=True)

resume-without-second-moment (optim.py): the second moment begins at zero, or stays as it was
torch
- "exp_avg_sq": second[name]
+ "exp_avg_sq": torch.zeros_like(p)
jax
- zip(self.moments(), (first, second), strict=True)
+ zip(self.moments()[:1], (first,), strict=True)

resume-moments-swapped (optim.py): the moments change places
torch
- "exp_avg": first[name], "exp_avg_sq": second[name]
+ "exp_avg": second[name], "exp_avg_sq": first[name]
jax
- zip(self.moments(), (first, second), strict=True)
+ zip(self.moments(), (second, first), strict=True)

resume-without-bias-correction (optim.py): Adam's own count of the steps begins at zero, or stays
torch
- torch.tensor(float(steps), device=p.device)
+ torch.tensor(0.0, device=p.device)
jax
- for count in (self.step, *counts):
+ for count in (self.step, counts[1]):

resume-without-schedule (optim.py): the schedule's count of the steps stays as it was
torch
- self.steps = steps
jax
- for count in (self.step, *counts):
+ for count in (self.step, counts[0]):

resume-one-step-behind (train.py): the optimizer takes the last step's rate and correction again
both
- optimizer.restore(first, second, state.step)
+ optimizer.restore(first, second, state.step - 1)

resume-without-dropout (train.py): the step that dropout's masks are drawn for stays as it was
both
- self.steps, master = state.step, self.runtime.master
+ master = self.runtime.master

resume-in-float16 (train.py): the checkpoint keeps 11 bits of the parameters
both
- copies[part][name] = value.copy()
+ copies[part][name] = value.astype("float16")

checkpoint-not-copied (train.py): what is exported is still the trainer's memory
torch
- copies[part][name] = value.copy()
+ copies[part][name] = value
"""
