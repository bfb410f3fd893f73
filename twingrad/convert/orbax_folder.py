"""Orbax checkpoints, written and read a tensor at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from twingrad.convert.dtypes import NAMES
from twingrad.convert.source import Source, Stored
from twingrad.convert.torch_source import SafetensorsFile
from twingrad.convert.writer import Output, write_safetensors
from twingrad.foreign import Array, Tree, Untyped
from twingrad.jax_models.model import keys

Place = tuple[str, ...]  # the keys that lead to a tensor
# The file that Orbax writes into the folder of every tree of tensors.
MARK = "_METADATA"
# Flax's State has a tensor's numbers under this key.
_VALUE = "value"
_Handler: Untyped = ocp.type_handlers.TypeHandler


class _Later:
    """A tensor that is made when Orbax writes it."""

    def __init__(self, make: Callable[[], Array]):
        self.make = make


class _OneByOne(_Handler):
    """Writes tensors as NumPy's are written, each made, written and forgotten before the next."""

    def __init__(self) -> None:
        self.numpy: Untyped = ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)

    def typestr(self) -> str:
        """The kind that is noted in the checkpoint: it is read as NumPy arrays are."""
        return str(self.numpy.typestr())

    async def metadata(self, infos: Tree) -> Tree:
        """What is known of tensors without reading them."""
        return await self.numpy.metadata(infos)

    async def serialize(
        self, values: Sequence[_Later], infos: Sequence[Tree], args: Sequence[Tree] | None = None
    ) -> Tree:
        """Write the tensors."""
        args = args or [ocp.SaveArgs()] * len(values)
        for value, info, arg in zip(values, infos, args, strict=True):
            for written in await self.numpy.serialize([value.make()], [info], [arg]):
                written.result()  # Orbax writes in a thread of its own
        return []

    async def deserialize(self, infos: Tree, args: Tree = None) -> Tree:
        """Read the tensors."""
        return await self.numpy.deserialize(infos, args)

    def memory_size(self, values: Sequence[_Later]) -> list[tuple[int, int]]:
        """How many bytes are held at once, for Orbax to wait for: none of note."""
        return [(0, 0)] * len(values)


def write_orbax(path: Path, tree: Tree, source: Source) -> None:
    """Write the tensors of ``source`` that the leaves of ``tree`` name, one at a time."""
    # Without a handler of JAX's own arrays Orbax warns, though there are none.
    registry = ocp.type_handlers.create_type_handler_registry(
        (_Later, _OneByOne()), (jax.Array, ocp.type_handlers.ArrayHandler())
    )
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
    with ocp.Checkpointer(handler) as checkpointer:
        later = jax.tree_util.tree_map(lambda name: _Later(partial(source.read, name)), tree)
        checkpointer.save(path.absolute(), later)


class OrbaxFolder(Source):
    """An Orbax checkpoint of one tree of tensors; ``names`` are the tensors' by place in the tree.

    A tensor at another place has its keys, with dots between them, for a name. Raises
    ``ValueError`` for a folder of another kind.
    """

    def __init__(self, path: Path, names: Mapping[Place, str]):
        self.path = path
        try:
            with _checkpointer() as checkpointer:
                tree: Tree = checkpointer.metadata(path.absolute()).item_metadata.tree
        except Exception as error:  # of Orbax, of TensorStore, of JSON
            raise ValueError(
                f"{path} is no Orbax checkpoint of one tree ({_line(error)}): give the folder "
                f"that has the file {MARK}"
            ) from None
        flat, self.form = jax.tree_util.tree_flatten_with_path(tree)
        self._copy: Source | None = None
        self.places: dict[str, int] = {}
        self.stored: dict[str, Stored] = {}
        for number, (path_of, found) in enumerate(flat):
            place = keys(path_of)
            inner = place[:-1] if place[-1:] == (_VALUE,) else place
            name = names.get(place) or names.get(inner) or ".".join(place)
            self.places[name] = number
            self.stored[name] = _stored(self.path, name, found)

    def read(self, name: str) -> Array:
        """The tensor ``name``."""
        if self._copy is not None:
            return self._copy.read(name)
        number, count = self.places[name], len(self.places)
        wanted: list[Tree] = [ocp.PLACEHOLDER] * count
        wanted[number] = 0
        as_numpy = [ocp.RestoreArgs(restore_type=np.ndarray)] * count
        restored = ocp.args.PyTreeRestore(
            item=jax.tree_util.tree_unflatten(self.form, wanted),
            restore_args=jax.tree_util.tree_unflatten(self.form, as_numpy),
        )
        try:
            with _checkpointer() as checkpointer:
                tree: Tree = checkpointer.restore(self.path.absolute(), args=restored)
        except Exception as error:  # of Orbax, of TensorStore
            raise ValueError(
                f"{self.path}: {name} cannot be read ({_line(error)}): save the checkpoint again"
            ) from None
        return np.asarray(jax.tree_util.tree_leaves(tree)[number])

    @contextmanager
    def copied(self, path: Path) -> Iterator[None]:
        """Within, tensors are read from a safetensors file at ``path``, which is then deleted.

        A part of a tensor can be read from there, and not from what Orbax has compressed.
        """
        outputs = [
            Output(name=name, shape=s.shape, dtype=s.dtype, make=partial(self.read, name))
            for name, s in self.stored.items()
        ]
        try:
            write_safetensors(path, outputs)
            self._copy = SafetensorsFile(path)
            yield
        finally:
            self._copy = None
            path.unlink(missing_ok=True)


def _line(error: Exception) -> str:
    """The first line of its message, cut where it is long."""
    return f"{(str(error).splitlines() or [type(error).__name__])[0]:.200}"


def _checkpointer() -> Untyped:
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())


def _stored(path: Path, name: str, found: Tree) -> Stored:
    dtype = np.dtype(getattr(found, "dtype", None) or object)
    if dtype not in NAMES:
        raise ValueError(f"{path}: {name} is no array of numbers of a known dtype: leave it out")
    return Stored(tuple(found.shape), dtype)
