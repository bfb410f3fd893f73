"""Checkpoints of PyTorch's: safetensors files, whole or in shards, and pickles of tensors alone."""

import json
import pickle
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from twingrad.convert.dtypes import BY_NAME, NAMES
from twingrad.convert.source import Parts, Source, Stored, listed
from twingrad.foreign import Array, DType, Tree, Untyped
from twingrad.suggestions import nearby_file

PICKLES = (".bin", ".pt", ".pth")
SAFETENSORS = ".safetensors"
INDEX = ".index.json"
# What a folder is looked through for, in this order.
WHOLE = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# Keys under which training programs save the tensors of a model beside other things.
_WITHIN = ("state_dict", "model_state_dict", "model")
# How files of torch.save begin today, and how they began before.
_ZIP = b"PK\x03\x04"
_BARE_PICKLE = b"\x80"
# A mapped pickle is opened anew after so many bytes: pages that were read take memory.
_MAPPED = 1 << 26


class _Mapped(Source):
    """A file that is mapped into memory, and opened anew after some of it was read.

    Pages that were read take memory until the mapping, and every view of it, is gone.
    """

    def __init__(self, path: Path):
        self.path = path
        self._get: Callable[[str], torch.Tensor] | None = None
        self._bytes = 0

    @abstractmethod
    def _open(self) -> Callable[[str], torch.Tensor]:
        """Map the file; a function that returns a tensor of it by name."""

    def read(self, name: str) -> Array:
        """The tensor ``name``, a view of the mapped file."""
        if self._get is None:
            self._get = self._open()
        tensor = self._get(name)
        self._bytes += tensor.nbytes
        if self._bytes > _MAPPED:
            self._get, self._bytes = None, 0
        return numpy_of(tensor)


class SafetensorsFile(_Mapped):
    """One safetensors file.

    Raises ``ValueError`` for a file that is absent, cut off or of another format, and for a dtype
    that NumPy cannot hold.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        self.stored = _guarded(path, self._header)

    def _header(self) -> dict[str, Stored]:
        stored = {}
        with safe_open(self.path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                kind = part.get_dtype()
                if kind not in BY_NAME:
                    raise ValueError(f"{self.path}: {name} is of dtype {kind}: save it as another")
                stored[name] = Stored(tuple(part.get_shape()), BY_NAME[kind])
        return stored

    def _open(self) -> Callable[[str], torch.Tensor]:
        file: Untyped = safe_open(self.path, framework="pt")
        get: Callable[[str], torch.Tensor] = file.get_tensor
        return get


class PickleFile(_Mapped):
    """One file of ``torch.save``, unpickled with ``weights_only=True``.

    Raises ``ValueError`` for a file that holds more than tensors by name, or none.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        tensors = _guarded(path, lambda: _unpickled(path))
        self.stored = {name: _stored(path, name, x) for name, x in tensors.items()}

    def _open(self) -> Callable[[str], torch.Tensor]:
        return _guarded(self.path, lambda: _unpickled(self.path)).__getitem__


def open_torch(path: Path) -> Source:
    """The checkpoint at ``path``: a file, an index of shards, or a folder that has one of them."""
    if path.is_dir():
        for name in (*WHOLE, *PICKLED):
            if (path / name).is_file():
                return open_torch(path / name)
        raise ValueError(
            f"{path} holds none of {', '.join((*WHOLE, *PICKLED))}: name the file, or its folder"
        )
    if not path.is_file():
        raise ValueError(
            f"there is no checkpoint {path}:{nearby_file(path)} give a file or a folder"
        )
    if path.name.endswith(INDEX):
        return Parts(path, [open_torch(path.parent / name) for name in _shards(path)])
    if path.suffix == SAFETENSORS:
        return SafetensorsFile(path)
    if path.suffix in PICKLES:
        return PickleFile(path)
    endings = ", ".join((SAFETENSORS, INDEX, *PICKLES))
    raise ValueError(f"{path} is no checkpoint by its name: one ends in {endings}")


def _shards(index: Path) -> list[str]:
    """The files that an index names, which lie beside it."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        files = list(dict.fromkeys(content["weight_map"].values()))
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise ValueError(
            f"{index} is no index of shards ({error}): save the checkpoint again"
        ) from None
    for name in files:
        if not isinstance(name, str) or Path(name).name != name or name.endswith(INDEX):
            raise ValueError(f"{index} names the shard {name!r}: a shard lies beside its index")
    return files


def _guarded(path: Path, read: Callable[[], "dict[str, Tree]"]) -> "dict[str, Tree]":
    """What ``read`` returns; ``ValueError`` in one sentence for a file that cannot be read."""
    try:
        return read()
    except (ValueError, MemoryError):
        raise
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds more than tensors, which is code to run and is not read: save "
            "model.state_dict() alone, as safetensors if you can"
        ) from None
    except Exception as error:  # what is damaged makes the readers raise whatever there is
        lines = str(error).splitlines() or [type(error).__name__]
        raise ValueError(
            f"{path} is no whole checkpoint ({lines[0]:.200}): save or download it again"
        ) from None


def _unpickled(path: Path) -> dict[str, torch.Tensor]:
    with path.open("rb") as file:
        start = file.read(len(_ZIP))
    if start.startswith(_BARE_PICKLE):
        raise ValueError(
            f"{path} has the format of PyTorch before 1.6, which cannot be read tensor by tensor: "
            "load it and torch.save it again"
        )
    if start != _ZIP:
        raise EOFError("it is no file of torch.save")
    content: Tree = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if isinstance(content, Mapping):
        inner = [content[key] for key in _WITHIN if isinstance(content.get(key), Mapping)]
        content = inner[0] if len(inner) == 1 else content
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds no tensors by name: save model.state_dict()")
    others = [str(name) for name, x in content.items() if not isinstance(x, torch.Tensor)]
    if others:
        raise ValueError(
            f"{path} holds {listed(others)}, no tensors: save model.state_dict() alone"
        )
    return {str(name): x.detach() for name, x in content.items()}


def _stored(path: Path, name: str, tensor: torch.Tensor) -> Stored:
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise ValueError(f"{path}: {name} is sparse or quantized: save it dense")
    dtype = numpy_dtype(tensor.dtype)
    if dtype is None:
        raise ValueError(f"{path}: {name} is of dtype {tensor.dtype}: save it as another")
    return Stored(tuple(tensor.shape), dtype)


def numpy_dtype(dtype: torch.dtype) -> DType | None:
    """NumPy's dtype of the same numbers; nothing where a safetensors file could not hold them."""
    name = str(dtype).removeprefix("torch.")
    return next((known for known in NAMES if known.name == name), None)


def numpy_of(tensor: torch.Tensor) -> Array:
    """The same bits in NumPy, in the tensor's own memory where they lie there as they are."""
    dtype = numpy_dtype(tensor.dtype)
    assert dtype is not None, tensor.dtype
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if dtype.isbuiltin == 1:
        return tensor.numpy()
    bits = {1: torch.uint8, 2: torch.int16}[dtype.itemsize]
    return np.asarray(tensor.view(bits).numpy()).view(dtype)
