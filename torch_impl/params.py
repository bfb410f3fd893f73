"""The canonical parameter dictionary to and from a live PyTorch model."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from shared.params import Params
from torch_impl.distributed import shard_like, whole
from torch_impl.runtime import Runtime

Model = TypeVar("Model", bound=nn.Module)


def build(make: Callable[[], Model], params: Params, runtime: Runtime) -> Model:
    """The model that ``make`` describes, holding ``params`` in the runtime's dtype.

    On the meta device a module costs no memory and draws no random numbers until it is filled.
    """
    with torch.device("meta"):
        model = make()
    model.load_state_dict(import_tensors(model, params, runtime), strict=True, assign=True)
    return model.requires_grad_()


def import_tensors(
    model: nn.Module, params: Mapping[str, np.ndarray], runtime: Runtime
) -> dict[str, Tensor]:
    """``params``, or gradients under the same names, as copies in the model's tensor layout.

    Where the model is sharded, each process keeps its shards, tensor by tensor.
    """
    linear, own = _transposed(model), dict(model.named_parameters())

    def read(name: str) -> Tensor:
        tensor = torch.tensor(params[name]).to(runtime.device, runtime.dtype)
        return shard_like(tensor.T.contiguous() if name in linear else tensor, own[name])

    return {name: read(name) for name in params}


def export_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> Params:
    """Tensors named as the model names its parameters, in NumPy under canonical names.

    float64 and float32 keep their dtype and, on a CPU, share the tensor's memory; bfloat16, which
    NumPy lacks, is widened to float32.
    """
    return dict(export_each(model, tensors))


def export_each(
    model: nn.Module, tensors: Mapping[str, Tensor]
) -> Iterator[tuple[str, np.ndarray]]:
    """The same one after the other: shards are put together tensor by tensor."""
    linear = _transposed(model)
    for name, tensor in tensors.items():
        yield name, to_numpy(tensor).T if name in linear else to_numpy(tensor)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """All of ``tensor`` in NumPy, without a copy where possible; bfloat16 becomes float32."""
    tensor = whole(tensor).detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _transposed(model: nn.Module) -> set[str]:
    """Weights to transpose: ``nn.Linear`` keeps (out, in), the canonical layout is (in, out).

    ``lm_head`` is the exception: it is (out, in) there too, like the embedding.
    """
    linear = {
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }
    return linear - {"lm_head.weight"}
