"""The calls that PyTorch's ceilings are measured by."""

import math
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from bench.speed.ceiling_calls import DROP_RATE, Call, TimedPart, sizes
from bench.speed.foreign import TensorFn
from bench.speed.messages import MeasureCeilings
from shared.config import GPTConfig
from torch_impl import dropout, gpt2, loss, runtime


class TorchCalls:
    """Products, copies and other parts of a step, each waited for."""

    def __init__(self, request: MeasureCeilings):
        self.runtime = runtime.configure(request.dtype, request.device)
        torch.use_deterministic_algorithms(False)
        torch.manual_seed(0)
        if request.fast:
            runtime.tune(request.device, request.dtype, request.config.emb_dim)

    def product(self, rows: int, inner: int, columns: int) -> Call:
        a, b = (
            torch.randn(shape, dtype=self.runtime.dtype, device=self.runtime.device)
            for shape in ((rows, inner), (inner, columns))
        )
        out = a @ b
        return self._waiting(lambda: torch.mm(a, b, out=out))

    def copy(self, count: int) -> Call:
        a = torch.ones(count, device=self.runtime.device)
        out = torch.empty_like(a)
        return self._waiting(lambda: out.copy_(a))

    def parts(self, config: GPTConfig, batch_size: int, length: int) -> Iterator[TimedPart]:
        size = sizes(config, batch_size, length)
        targets = torch.zeros(size.logits[0], dtype=torch.int64, device=self.runtime.device)
        for name, attention in (
            ("attention", gpt2.reference_attention),
            ("fused attention", gpt2.fused_attention),
        ):
            call = partial(attention, dropout=nn.Dropout(0.0))
            yield TimedPart(name, size.weights, self._passes(call, *[size.heads] * 3))
        for name, layer in (
            ("matched dropout", dropout.MatchedDropout(DROP_RATE)),
            ("native dropout", nn.Dropout(DROP_RATE)),
        ):
            yield TimedPart(name, math.prod(size.stream), self._passes(layer, size.stream))
        gelu = self._passes(partial(F.gelu, approximate="tanh"), size.wide)
        yield TimedPart("GELU", math.prod(size.wide), gelu)
        mean = self._passes(lambda x: loss.cross_entropy(x, targets), size.logits)
        yield TimedPart("loss", math.prod(size.logits), mean)

    def _passes(self, function: TensorFn, *shapes: tuple[int, ...]) -> Call:
        """Forward and backward of ``function`` of tensors of these shapes."""
        dtype, device = self.runtime.dtype, self.runtime.device
        inputs = [
            torch.full(shape, 0.5, dtype=dtype, device=device, requires_grad=True)
            for shape in shapes
        ]

        def passes() -> object:
            out = function(*inputs)
            return torch.autograd.grad(out, inputs, torch.ones_like(out))

        return self._waiting(passes)

    def _waiting(self, call: Call) -> Call:
        """``call``, and a wait until the device is done."""

        def waiting() -> None:
            call()
            if self.runtime.device.type == "cuda":
                torch.cuda.synchronize()

        return waiting
