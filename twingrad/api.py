"""The functions for anybody's own tests, notebooks and programs.

Both frameworks are loaded when one of them is called, not when this module is imported.
"""

import shlex
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from twingrad import devices
from twingrad.decode import Decode
from twingrad.environment import require_frameworks
from twingrad.foreign import Array, Loss, Model, Optimizer, OptimizerOf
from twingrad.outcome import diagnose_hint
from twingrad.pair import Pair, importing_beside, load
from twingrad.result import Comparison, Findings, NotEqual
from twingrad.stated import Names

DTYPES = ("float64", "float32")


def compare(
    pair: Pair | str | Path,
    *,
    dtypes: Sequence[str] = DTYPES,
    causes: bool = True,
    against: str | Path | None = None,
    device: str = "cpu",
) -> Comparison:
    """Judge every module's output, the loss and every gradient of ``pair``, or of a pair file.

    The result has ``ok``, ``table()``, and an outcome for each of ``dtypes``, float64 first, until
    one fails. An outcome's gates hold a verdict for every tensor, whose errors and limits are in
    units of u, one unit of rounding error of the dtype: 2^-53 for float64, 2^-24 for float32. Where
    a gate fails, the result's ``findings`` are those of ``diagnose``, unless ``causes`` is off.
    ``against`` is a record of one side, made by ``twingrad record``, which the other is judged by.
    Both run on ``device``, "cpu" or "cuda".
    Raises ``ValueError`` for a pair that cannot be judged, and where a framework is missing or does
    not see the device.

    Example::

        result = twingrad.compare(pair)
        print(result.ok, len(result.outcomes))
        print(result.table())
    """
    with _beside(pair), _on(device, against):
        return _compared(_loaded(pair, against), _hint(pair), dtypes, causes)


def diagnose(
    pair: Pair | str | Path,
    *,
    every: bool = False,
    until: str | None = None,
    only: str | None = None,
    against: str | Path | None = None,
    device: str = "cpu",
) -> Findings:
    """Find where the two models of ``pair``, or of a pair file, first differ; empty if nowhere.

    Models are run in float64, then in float32. With ``every``, all places are returned and not the
    first alone. ``until`` names a module, in either framework: what is computed up to the end of
    its first call is looked at alone. ``only`` is a regular expression: modules in whose name, in
    either framework, it is found are looked at alone. No divergence in a part says that its modules
    compute the same from the same inputs, forward and backward, and nothing of the rest.
    ``against`` is a record of one side, made by ``twingrad record``, which the other is judged by.
    Both run on ``device``, "cpu" or "cuda".
    Raises ``ValueError`` for a pair that cannot be judged, for a name that is nowhere, and where a
    framework that is needed is missing.

    Example::

        findings = twingrad.diagnose(pair)
        print(findings.ok, len(findings))
        for finding in findings:
            print(finding.stage, finding.where, finding.cause)
    """
    with _beside(pair), _on(device, against):
        return _diagnosed(_loaded(pair, against), every, until, only)


def assert_equal(
    pair: Pair | str | Path, *, against: str | Path | None = None, device: str = "cpu"
) -> None:
    """Claim that the two models of ``pair``, or of a pair file, are one.

    The limits are ``numerics.OWN_RELATIVE``, relative, for each place by itself, in float64 and in
    float32. ``against`` is a record of one side, which the other is judged by. Both run on
    ``device``, "cpu" or "cuda". Raises ``NotEqual``, an ``AssertionError`` that names the first
    place that differs with its cause, and holds what ``compare`` returns; ``ValueError`` for a pair
    that cannot be judged, and where a framework that is needed is missing or does not see the
    device.

    Example::

        def test_my_port():
            twingrad.assert_equal(pair)
    """
    __tracebackhide__ = True  # pytest then shows the test's line, and not these
    with _beside(pair), _on(device, against):
        loaded = _loaded(pair, against)
        findings = _diagnosed(loaded, every=False)
        if findings:
            compared = _compared(loaded, _hint(pair), DTYPES, causes=False)
            raise NotEqual(replace(compared, findings=findings))


def assert_equal_models(
    torch: Model,
    jax: Model,
    *,
    batch: Sequence[Array],
    torch_loss: Loss | None = None,
    jax_loss: Loss | None = None,
    jax_batch: Sequence[Array] | None = None,
    names: Names | None = None,
    copy: bool = True,
    train: bool = False,
    torch_optimizer: OptimizerOf | None = None,
    jax_optimizer: Optimizer = None,
    torch_decode: Decode | None = None,
    jax_decode: Decode | None = None,
    tokens: Array | None = None,
    precision: str = "float64",
    name: str = "pair",
) -> None:
    """Claim that two models are one: loss, every module's own output and gradient, every parameter.

    Arguments are those of ``Pair``, and what it claims and raises is that of ``assert_equal``.

    Example::

        def test_my_port():
            twingrad.assert_equal_models(make_torch, make_jax, batch=[x])
    """
    __tracebackhide__ = True
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
        torch_decode=torch_decode,
        jax_decode=jax_decode,
        tokens=tokens,
        precision=precision,
        name=name,
    )
    assert_equal(pair)


def _compared(pair: Pair, hint: str | None, dtypes: Sequence[str], causes: bool) -> Comparison:
    from twingrad import judged

    started = time.perf_counter()
    outcomes, notes = judged.compare(pair, dtypes)
    seconds = time.perf_counter() - started
    equal = all(outcome.ok for outcome in outcomes)
    findings = _diagnosed(pair, every=False) if causes and not equal else Findings(name=pair.name)
    return Comparison(
        name=pair.name,
        outcomes=outcomes,
        findings=findings,
        notes=notes,
        seconds=seconds,
        hint=hint,
    )


def _diagnosed(
    pair: Pair, every: bool, until: str | None = None, only: str | None = None
) -> Findings:
    from twingrad import judged

    return judged.diagnose(pair, every=every, until=until, only=only)


def _hint(pair: Pair | str | Path) -> str | None:
    return None if isinstance(pair, Pair) else diagnose_hint(shlex.quote(str(pair)))


def _beside(pair: Pair | str | Path) -> AbstractContextManager[None]:
    return nullcontext() if isinstance(pair, Pair) else importing_beside(Path(pair))


def _on(device: str, against: str | Path | None) -> AbstractContextManager[None]:
    """Both sides on a device; the one that is not recorded, where one is."""
    if device == "cpu":
        return devices.using(device)
    if against is None:
        require_frameworks()
        return devices.using(device)
    from twingrad.record.against import other_side, recorded

    return devices.using(device, other_side(recorded(Path(against)).framework))


def _loaded(pair: Pair | str | Path, against: str | Path | None) -> Pair:
    """The pair, one side of it the record ``against`` if there is one."""
    if against is None:
        require_frameworks()
        return pair if isinstance(pair, Pair) else load(Path(pair))
    from twingrad.record.against import against as put_together
    from twingrad.record.against import other_side, recorded

    record = recorded(Path(against))
    require_frameworks(other_side(record.framework))
    loaded = pair if isinstance(pair, Pair) else load(Path(pair))
    return put_together(loaded, record, Path(against))
