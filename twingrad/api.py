"""The functions for anybody's own tests and programs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from twingrad import comparison
from twingrad.diagnosis import engine, finding
from twingrad.foreign import Array, Loss, Model, Optimizer, OptimizerOf
from twingrad.matching import Stated
from twingrad.outcome import Outcome
from twingrad.pair import Pair, importing_beside, load


def compare(pair: Pair | str | Path, *, dtypes: Sequence[str] = comparison.DTYPES) -> list[Outcome]:
    """Judge every module's output, the loss and every gradient of ``pair``, or of a pair file.

    Returns an outcome for each of ``dtypes``, float64 first, until one fails. An outcome's gates
    hold a verdict for every tensor, whose errors and limits are in units of u, one unit of rounding
    error of the dtype: 2^-53 for float64, 2^-24 for float32. Raises ``ValueError`` for a pair that
    cannot be judged.

    Example::

        for outcome in twingrad.compare(pair):
            print(outcome.dtype, outcome.ok, outcome.gates[0].worst)
    """
    with _beside(pair):
        return comparison.compare(_loaded(pair), dtypes)


def diagnose(pair: Pair | str | Path, *, every: bool = False) -> list[finding.Finding]:
    """Find where the two models of ``pair``, or of a pair file, first differ; empty if nowhere.

    Models are run in float64, then in float32. With ``every``, all places are returned and not the
    first alone. Raises ``ValueError`` for a pair that cannot be judged.

    Example::

        for finding in twingrad.diagnose("my_pair.py"):
            print(finding.stage, finding.where, finding.cause)
    """
    with _beside(pair):
        return engine.diagnose(_loaded(pair), every=every)


def _beside(pair: Pair | str | Path) -> AbstractContextManager[None]:
    return nullcontext() if isinstance(pair, Pair) else importing_beside(Path(pair))


def _loaded(pair: Pair | str | Path) -> Pair:
    return pair if isinstance(pair, Pair) else load(Path(pair))


def assert_equal_models(
    torch: Callable[[], Model],
    jax: Callable[[], Model],
    *,
    batch: Sequence[Array],
    torch_loss: Loss,
    jax_loss: Loss,
    jax_batch: Sequence[Array] | None = None,
    names: Mapping[str, Stated] | None = None,
    copy: bool = True,
    train: bool = False,
    torch_optimizer: OptimizerOf | None = None,
    jax_optimizer: Optimizer = None,
    name: str = "pair",
) -> None:
    """Claim that two models are one: loss, every module's own output and gradient, every parameter.

    Arguments are those of ``Pair``. The limits are ``numerics.OWN_RELATIVE``, relative, for each
    place by itself, in float64 and in float32. Raises ``AssertionError`` that names the first place
    that differs, and the cause where one is known; ``ValueError`` for a pair that cannot be judged.

    Example::

        def test_my_port():
            assert_equal_models(
                make_torch, make_jax, batch=[x, y], torch_loss=torch_loss, jax_loss=jax_loss
            )
    """
    pair = Pair(
        torch=torch,
        jax=jax,
        batch=batch,
        torch_loss=torch_loss,
        jax_loss=jax_loss,
        jax_batch=jax_batch,
        names=names or {},
        copy=copy,
        train=train,
        torch_optimizer=torch_optimizer,
        jax_optimizer=jax_optimizer,
        name=name,
    )
    findings = engine.diagnose(pair)
    if findings:
        raise AssertionError(f"{finding.located(findings)} ({findings[0].evidence})")
