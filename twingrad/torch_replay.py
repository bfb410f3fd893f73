"""One module of a PyTorch model, or its loss, run again with one of its operations changed.

The module gets the inputs that it had in the pass, and the modules that it calls are not run: they
give the outputs that they gave. What is computed is the module's own, operation by operation, and
each operation can be replaced. So an explanation is tried out: what would PyTorch's numbers be, if
this one operation were another?
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from twingrad import torch_probe
from twingrad.calls import LOSS, Call, Key, Site, only_loss
from twingrad.foreign import Array, Loss, ModuleCall, Tree
from twingrad.torch_arrays import array, copied

# Operators by the name of the function that they are.
_SAME = {
    "__matmul__": "matmul", "bmm": "matmul", "mm": "matmul", "__add__": "add", "__radd__": "add",
    "__iadd__": "add", "__sub__": "sub", "subtract": "sub", "__isub__": "sub", "__rsub__": "rsub",
    "__mul__": "mul", "multiply": "mul", "__rmul__": "mul", "__imul__": "mul", "__div__": "div",
    "__truediv__": "div", "true_divide": "div", "divide": "div", "__itruediv__": "div",
    "__idiv__": "div", "__rtruediv__": "rdiv", "__rdiv__": "rdiv", "__pow__": "pow",
    "__rpow__": "rpow", "absolute": "abs", "__abs__": "abs", "__neg__": "neg", "negative": "neg",
    "view": "reshape", "concat": "cat", "concatenate": "cat", "swapaxes": "transpose",
    "clip": "clamp", "special_expit": "sigmoid", "__getitem__": "getitem",
}  # fmt: skip
# What computes nothing.
_UNSEEN = ("__get__", "__set__", "size", "dim", "numel", "stride", "is_contiguous", "__len__",
           "is_floating_point", "is_complex", "_set_grad_enabled")  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One call of a PyTorch function: its place in the order, its name, and what it was given.

    ``within`` is the submodule in whose lines it stands, and empty for the module's own.
    """

    number: int
    name: str
    function: ModuleCall
    args: tuple[Tree, ...]
    kwargs: Mapping[str, Tree]
    within: str = ""
    result: Tree = None

    def argument(self, name: str, position: int, default: Tree = None) -> Tree:
        """An argument, whether it was given by position or by name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def again(self, **changed: Tree) -> Tree:
        """The result with some arguments changed, each named ``name_position``."""
        args, kwargs = list(self.args), dict(self.kwargs)
        for key, value in changed.items():
            name, _, position = key.rpartition("_")
            if int(position) < len(args):
                args[int(position)] = value
            else:
                kwargs[name] = value
        return self.function(*args, **kwargs)

    def named(self, **changed: Tree) -> Tree:
        """The result with some settings changed that are given by name alone."""
        return self.function(*self.args, **{**self.kwargs, **changed})

    def plain(self) -> Tree:
        """The result as PyTorch has it."""
        return self.function(*self.args, **self.kwargs)


Compute = Callable[[Operation], Tree]


@dataclass(frozen=True)
class Change:
    """Operations by number, and what is computed in their place."""

    at: frozenset[int]
    compute: Compute


class _Watch(TorchFunctionMode):
    """Every operation in turn: recorded, or replaced."""

    def __init__(self, change: Change | None, within: Callable[[], str]):
        super().__init__()
        self.change, self.within = change, within
        self.paused = False
        self.count = 0
        self.operations: list[Operation] = []

    def __torch_function__(
        self,
        func: ModuleCall,
        types: Iterable[type],
        args: tuple[Tree, ...] = (),
        kwargs: Mapping[str, Tree] | None = None,
    ) -> Tree:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self.paused or name in _UNSEEN:
            return func(*args, **kwargs)
        in_place = name.endswith("_") and not name.endswith("__")
        name = _SAME.get(name, name).removesuffix("_") if in_place else _SAME.get(name, name)
        operation = Operation(self.count, name, func, args, kwargs, self.within())
        self.count += 1
        if self.change is None:
            result = func(*args, **kwargs)
            self.operations.append(
                Operation(operation.number, name, func, args, kwargs, operation.within, result)
            )
            return result
        if operation.number not in self.change.at:
            return func(*args, **kwargs)
        if not in_place:
            return self.change.compute(operation)
        kept = args[0].clone()
        changed = self.change.compute(
            Operation(operation.number, name, func, (kept, *args[1:]), kwargs)
        )
        return args[0].copy_(changed)


@dataclass(kw_only=True)
class Rerun:
    """One module, or the loss, and the tensors of the pass that it is run on.

    ``given`` are the calls in it that are not run, in their order, each with what it returned.
    """

    model: nn.Module
    loss: Loss
    batch: Sequence[Array]
    dtype: str
    owner: Key
    calls: Mapping[Key, Call]
    given: Sequence[Key]
    _args: tuple[Tree, Mapping[str, Tree]] | None = None
    _returned: dict[Key, Tree] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)

    def prepare(self) -> None:
        """Run the whole model once more, and keep what the module and its calls were given."""
        counts: Counter[str] = Counter()
        returned: dict[str, int] = Counter()

        def entered(path: str) -> ModuleCall:
            def keep(module: nn.Module, args: Tree, kwargs: Tree) -> None:
                if Key(path, counts[path]) == self.owner:
                    self._args = _copied((args, kwargs))
                counts[path] += 1

            return keep

        def left(path: str) -> ModuleCall:
            def keep(module: nn.Module, args: Tree, output: Tree) -> None:
                key = Key(path, returned[path])
                returned[path] += 1
                if key in self.given:
                    self._returned[key] = _copied(output)

            return keep

        handles = []
        if self.owner != LOSS:
            module = self.model.get_submodule(self.owner.path)
            pre_hook = entered(self.owner.path)
            handles.append(module.register_forward_pre_hook(pre_hook, with_kwargs=True))
        for path in {key.path for key in self.given}:
            module = self.model.get_submodule(path)
            handles.append(module.register_forward_hook(left(path)))
        try:
            with torch.no_grad(), self._state_kept():
                self.loss(self.model, *torch_probe.batch_of(self.batch, self.dtype))
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _state_kept(self) -> Iterator[None]:
        before = torch_probe.statistics(self.model)
        try:
            yield
        finally:
            with torch.no_grad():
                torch_probe.restore(self.model, before)

    def run(self, change: Change | None = None, backward: bool = False) -> dict[Site, Array]:
        """Values at every site, or gradients there; without a change operations are recorded."""
        stack: list[str] = []
        watch = _Watch(change, lambda: stack[-1] if stack else "")
        run = _Run(self, watch)
        with ExitStack() as cleanup:
            cleanup.enter_context(self._state_kept())
            cleanup.enter_context(torch.enable_grad() if backward else torch.no_grad())
            cleanup.callback(run.restore)
            run.replace(cleanup)
            self._follow(stack, cleanup)
            values, inputs = run.call()
            if not change:
                self.operations = watch.operations
            return run.gradients(values, inputs) if backward else _arrays(values)

    def _follow(self, stack: list[str], cleanup: ExitStack) -> None:
        """Keep ``stack`` at the submodule that is running."""
        owner = "" if self.owner == LOSS else self.owner.path
        for name, module in self.model.get_submodule(owner).named_modules():
            if not name or any(f"{owner}.{name}".strip(".") == key.path for key in self.given):
                continue

            def enter(_: nn.Module, args: Tree, name: str = name) -> None:
                stack.append(name)

            def leave(_: nn.Module, args: Tree, output: Tree) -> None:
                stack.pop()

            cleanup.callback(module.register_forward_pre_hook(enter).remove)
            cleanup.callback(module.register_forward_hook(leave).remove)


class _Run:
    """One run: the modules that are replaced in it, and the tensors that pass through them."""

    def __init__(self, rerun: Rerun, watch: _Watch):
        self.rerun, self.watch = rerun, watch
        self.values: dict[Site, Tensor] = {}
        self.outputs: dict[Site, Tensor] = {}
        self.replaced: list[nn.Module] = []

    def replace(self, cleanup: ExitStack) -> None:
        """Let every given module return what it returned in the pass."""
        for path in {key.path for key in self.rerun.given}:
            keys = iter([key for key in self.rerun.given if key.path == path])
            module = self.rerun.model.get_submodule(path)
            module.forward = self._stand_in(keys)
            self.replaced.append(module)

    def restore(self) -> None:
        """Give every module its own computation back."""
        for module in self.replaced:
            del module.forward

    def _stand_in(self, keys: Iterator[Key]) -> ModuleCall:
        def forward(*args: Tree, **kwargs: Tree) -> Tree:
            self.watch.paused = True
            try:
                return returned(args, kwargs)
            finally:
                self.watch.paused = False

        def returned(args: Tree, kwargs: Tree) -> Tree:
            key = next(keys)
            floats = [x for x in pytree.tree_leaves((args, kwargs)) if _is_float(x)]
            self.values |= {("in", key, n): x for n, x in enumerate(floats)}
            flat, form = pytree.tree_flatten(_copied(self.rerun._returned[key]))
            fresh = [x.requires_grad_() if _is_float(x) else x for x in flat]
            outputs = [x for x in fresh if _is_float(x)]
            self.outputs |= {("out", key, n): x for n, x in enumerate(outputs)}
            return pytree.tree_unflatten(fresh, form)

        return forward

    def call(self) -> tuple[dict[Site, Tensor], dict[Site, Tensor]]:
        """Values at the sites of one run, and the module's own inputs."""
        rerun = self.rerun
        if rerun.owner == LOSS:
            batch = torch_probe.batch_of(rerun.batch, rerun.dtype)
            with self.watch:
                loss = only_loss(rerun.loss(rerun.model, *batch))
            self.values["out", LOSS, 0] = loss
            return self.values, {}
        if rerun._args is None:
            raise ValueError(f"{rerun.owner} was not called")
        flat, form = pytree.tree_flatten(_copied(rerun._args))
        leaves = [x.requires_grad_() if _is_float(x) else x for x in flat]
        args, kwargs = pytree.tree_unflatten(
            [x.clone() if isinstance(x, Tensor) else x for x in leaves], form
        )
        with self.watch:
            output = rerun.model.get_submodule(rerun.owner.path)(*args, **kwargs)
        floats = [x for x in pytree.tree_leaves(output) if _is_float(x)]
        self.values |= {("out", rerun.owner, n): x for n, x in enumerate(floats)}
        inputs = [x for x in leaves if _is_float(x)]
        return self.values, {("in", rerun.owner, n): x for n, x in enumerate(inputs)}

    def gradients(
        self, values: Mapping[Site, Tensor], inputs: Mapping[Site, Tensor]
    ) -> dict[Site, Array]:
        """Gradients at the module's inputs, at what its calls returned, and of parameters."""
        terms = []
        for (way, key, number), x in values.items():
            if key == LOSS:
                terms.append(x)
                continue
            call = self.rerun.calls[key]
            weights = call.input_gradients if way == "in" else call.output_gradients
            if isinstance(number, int) and number < len(weights) and x.requires_grad:
                terms.append((x * torch.from_numpy(weights[number]).to(x)).sum())
        parameters = {
            ("parameter", self.rerun.owner, name): p
            for name, p in self.rerun.model.named_parameters()
        }
        leaves: dict[Site, Tensor] = {**inputs, **self.outputs, **parameters}  # type: ignore[dict-item]
        gradients = torch.autograd.grad(
            torch.stack(terms).sum(), list(leaves.values()), allow_unused=True
        )
        return {
            site: np.zeros(tuple(leaves[site].shape)) if g is None else array(g)
            for site, g in zip(leaves, gradients, strict=True)
        }


def _is_float(x: Tree) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def _copied(tree: Tree) -> Tree:
    """The tree with its tensors copied, and out of any graph."""
    return pytree.tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, tree)


def _arrays(values: Mapping[Site, Tensor]) -> dict[Site, Array]:
    return {site: copied(x) for site, x in values.items()}
