"""A live PyTorch model in one dtype, as values and a way to run it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from torch import nn

from twingrad import torch_probe
from twingrad.calls import Pass
from twingrad.decoding.decoded import DecodingRecord
from twingrad.diagnosis.hypotheses import rules
from twingrad.diagnosis.hypotheses.rules import Rule
from twingrad.diagnosis.hypotheses.sketches import Scene
from twingrad.foreign import Array, Loss, OptimizerOf, Tree
from twingrad.partners import Leaf


class Subject:
    """A PyTorch model that is here: ``model`` is the module itself."""

    recorded = False

    def __init__(self, model: nn.Module, dtype: str):
        self.model, self.dtype = model, dtype

    @property
    def trained(self) -> Collection[str]:
        """Names of parameters."""
        return dict(self.model.named_parameters()).keys()

    def leaves(self) -> list[Leaf]:
        """Parameters, and buffers of numbers, in the order of their declaration."""
        return torch_probe.leaves(self.model)

    def views(self) -> dict[str, Array]:
        """The same as numbers, in the model's own memory."""
        return torch_probe.views(self.model)

    def give(self, values: Mapping[str, Array]) -> None:
        """Replace the numbers of those parameters and buffers that ``values`` has, of any dtype."""
        torch_probe.load(self.model, values)

    def mean_square(self, *arguments: Tree) -> Tree:
        """The loss of a pair without one: the mean squares of all outputs, added up."""
        return torch_probe.mean_square(*arguments)

    def observe(self, loss_fn: Loss, batch: Sequence[Array], only: str | None = None) -> Pass:
        """One pass; its running statistics are then put back as they were.

        With ``only``, a regular expression, tensors are kept of the modules whose paths it finds,
        and of the model.
        """
        before = torch_probe.statistics(self.model)
        observed = torch_probe.observe(self.model, loss_fn, batch, self.dtype, only)
        torch_probe.restore(self.model, before)
        return observed

    def states(self, loss_fn: Loss, batches: Sequence[Sequence[Array]]) -> list[dict[str, Array]]:
        """Buffers of numbers before the first of ``batches``, and after each of them in a row."""
        before = torch_probe.statistics(self.model)
        return [before, *torch_probe.states(self.model, loss_fn, batches, self.dtype)]

    def momentum(self, path: str) -> float | None:
        """The share of the new in the running statistics of the module at ``path``, if it is one's.

        Raises ``AttributeError`` for a path without a module.
        """
        return torch_probe.momentum(self.model, path)

    def momenta(self) -> dict[str, float]:
        """The same of every module that has it, by path."""
        found = ((path, self.momentum(path)) for path, _ in self.model.named_modules())
        return {path: share for path, share in found if share is not None}

    def stepped(
        self, optimizer_of: OptimizerOf | None, gradients: Sequence[Mapping[str, Array]]
    ) -> tuple[list[dict[str, Array]], Rule | None]:
        """All parameters after each step of the optimizer, one a gradient, and its rule if known.

        The model's own are then as they were.
        """
        assert optimizer_of is not None
        trained = dict(self.model.named_parameters())
        optimizer = optimizer_of(trained.values())
        before, steps, rates = torch_probe.copies(trained), [], []
        for step in gradients:
            torch_probe.set_gradients(trained, step)
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            steps.append(torch_probe.copies(trained))
        torch_probe.write(trained, before)
        names = {id(p): name for name, p in trained.items()}
        return steps, rules.read(optimizer, rates, names)

    def dropouts(self) -> dict[str, tuple[float, Array]]:
        """Rate and key of every layer at work whose mask is a function of a key."""
        return torch_probe.dropouts(self.model)

    def scenes(self) -> list[Scene]:
        """None: its modules can be run again themselves."""
        return []

    def applied(self, path: str) -> Callable[[Array], Array] | None:
        """The module at ``path`` as a function of one tensor."""
        return partial(torch_probe.applied, self.model, path)

    def decoding(self) -> DecodingRecord | None:
        """Nothing: it can be run itself."""
        return None
