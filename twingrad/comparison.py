"""Comparison of a pair of models: every module's output, the loss, every gradient, by gates."""

import time
from collections.abc import Iterator, Sequence

import numpy as np

from twingrad import devices, numerics
from twingrad.alignment import placed
from twingrad.arithmetic import arithmetic
from twingrad.calls import Pass, Plain
from twingrad.decoding import check
from twingrad.diagnosis import state, unaligned
from twingrad.diagnosis.engine import Scales
from twingrad.diagnosis.finding import Finding, Note
from twingrad.diagnosis.hypotheses import optimizer
from twingrad.diagnosis.places import beyond_limits, of_float64, rounded_too_much
from twingrad.exact import ExactRun, Say, silent
from twingrad.foreign import Array
from twingrad.live import LivePair
from twingrad.numerics import (
    Size,
    Verdict,
    gaps,
    judge_float64,
    judge_mutual,
    judge_rounded,
)
from twingrad.outcome import Gate, Outcome, first_divergence
from twingrad.pair import Pair

DTYPES = ("float64", "float32")  # float64 is what float32 is judged by
Values = dict[tuple[str, str], Array]  # (kind, name) -> a tensor


def compare(
    pair: Pair, dtypes: Sequence[str] = DTYPES, say: Say = silent
) -> tuple[list[Outcome], list[Note]]:
    """Judge ``pair`` in each of ``dtypes``, of which the first is float64; stop where one fails.

    In float64 the two results are compared with one another, in float32 each with the float64
    result. Casts to a lower precision are left out in float64 as far as that can be done. Output,
    loss and all gradients decide, on two batches, and then the state and the updates: where these
    agree, modules whose outputs differ divide the work otherwise, which is a note. ``say`` is given
    the name of each stage. Raises ``ValueError`` for a pair that cannot be judged.
    """
    if tuple(dtypes) not in (DTYPES, DTYPES[:1]):
        raise ValueError(f"dtypes {tuple(dtypes)}: a pair is compared in float64, then in float32")
    outcomes: list[Outcome] = []
    notes: list[Note] = []
    exact: ExactRun | None = None
    oracle: Values = {}
    for dtype in dtypes:
        started = time.perf_counter()
        with arithmetic(dtype):
            if exact is None:
                exact = ExactRun.of(pair, say)
                gates, more, oracle = _in_float64(exact, say)
            else:
                gates, more = _in_float32(exact, oracle, say)
            settings = devices.settings()
        notes += [note for note in more if note not in notes]
        forward, backward = first_divergence(next((g for g in gates if not g.ok), gates[0]))
        outcome = Outcome(
            program=pair.name, preset=None, dtype=dtype, device=devices.current(), gates=gates,
            first_forward=forward, first_backward=backward, seconds=time.perf_counter() - started,
            settings=settings,
        )  # fmt: skip
        outcomes.append(outcome)
        if not outcome.ok:
            notes += unaligned.notes(exact)
            break  # float64 is what the others are judged by
    return outcomes, notes


def _in_float64(run: ExactRun, say: Say) -> tuple[list[Gate], list[Note], Values]:
    """All gates in float64, notes, and PyTorch's values."""
    torch, jax = values(run)
    first, notes = _judged_exactly(run, verdicts(torch, jax, torch, "float64"), "float64", say)
    gates, notes = [first], [*run.notes, *notes, *nowhere_a_number(torch, jax)]
    if first.ok:
        second = run.second(say)
        if isinstance(second, Note):
            notes.append(second)
        else:
            other, its = values(second)
            tensors = whole(other, its, other, "float64")
            gates.append(_judged_exactly(second, tensors, "second batch", say)[0])
        stages = {"state": kept(run, second), "optimizer": updates(run, say)}
        for name, found in stages.items():
            results = list(found)
            notes += [result for result in results if isinstance(result, Note)]
            wrong = [failed(result) for result in results if isinstance(result, Finding)]
            if wrong:
                gates.append(Gate(name=name, tensors=wrong))
        decoded = check.decode(run.live, say)
        if decoded is not None:
            gates.append(Gate(name="decoding", tensors=decoded.verdicts))
    return gates, [*notes, *run.cast_notes()], torch


def _judged_exactly(
    run: ExactRun, judged: list[Verdict], name: str, say: Say
) -> tuple[Gate, list[Note]]:
    """The gate of float64, and notes; of models that hold no more, what float32 allows passes."""
    gate, notes = decided(name, judged)
    if gate.ok:
        return gate, notes
    near = as_near_as_float32(run, say)
    if not near:
        return gate, notes
    return Gate(name=name, tensors=near), [coarse(near)]


def as_near_as_float32(run: ExactRun, say: Say = silent) -> list[Verdict]:
    """Verdicts on models with numbers of float32 in them that are as near as these let them be.

    None of other models, nor where float64's results are farther apart than float32's rounding
    takes either model's own.
    """
    if not run.is_coarse:
        return []
    pair = run.live.pair
    say(f"{pair.name}, float32: how far rounding takes either side")
    torch, jax = values(run)
    try:
        with arithmetic("float32"):
            live = LivePair.build(pair, "float32", like=run.live)
            rounded = values(ExactRun.once(live))
    except ValueError:  # a record has no second batch in float32; what else is wrong is said later
        rounded = torch, jax
    verdicts = []
    for kind, name, scale in _scaled(torch):
        floors, apart, elements = _floors((torch, jax), rounded, (kind, name))
        verdicts.append(numerics.judge_coarse(name, kind, apart, floors, scale, elements))
    near = [v for v in verdicts if v.ok]
    return near if all(v.ok for v in verdicts if is_whole(v)) else []


def coarse(verdicts: Sequence[Verdict]) -> Note:
    """The note on models with numbers of float32 in them, by the verdicts on them."""
    farthest = max(v.mutual_error_u for v in verdicts) * numerics.UNIT_ROUNDOFF["float64"]
    return Note("model", COARSE.format(farthest=farthest))


COARSE = (
    "has numbers of float32 among its constants, which float64 cannot look behind: up to "
    "{farthest:.2g} apart, no farther than float32's rounding takes either model"
)


def _floors(
    exact: tuple[Values, Values], rounded: tuple[Values, Values], key: tuple[str, str]
) -> tuple[tuple[Size, Size], Size, int]:
    """How far rounding takes each model's tensor, how far the two are apart, and its elements."""
    torch, jax, torch32, jax32 = numerics.without_shared(
        *(side[key] for side in (*exact, *rounded))
    )
    floors = numerics.distance(torch32, torch), numerics.distance(jax32, jax)
    return floors, numerics.distance(torch, jax), torch.size


def _in_float32(exact: ExactRun, oracle: Values, say: Say) -> tuple[list[Gate], list[Note]]:
    """The gate of float32, judged by PyTorch's values in float64, and notes."""
    pair = exact.live.pair
    say(f"{pair.name}, float32: forward and backward on both sides")
    live = LivePair.build(pair, "float32", like=exact.live)
    run = ExactRun.once(live)
    torch, jax = values(run)
    judged = verdicts(torch, jax, oracle, "float32")
    gate, notes = decided("float32", judged)
    if gate.ok or _is_rounded_too_much(exact, run, say):
        return [gate], notes
    held = [v for v in judged if v.ok]
    over = [v for v in judged if not v.ok]
    return [Gate(name="float32", tensors=held)], rounding_alone(over)


def _is_rounded_too_much(exact: ExactRun, run: ExactRun, say: Say) -> bool:
    """Whether a module of its own is further from the other's than float32 makes it."""
    say(f"{exact.live.pair.name}, float32: every module from PyTorch's input")
    scales: Scales = {}
    with arithmetic("float64"):
        beyond_limits(exact, scales)  # a gradient that is zero but for rounding has its size here
    places = beyond_limits(run, scales)
    return bool(rounded_too_much(places, of_float64(exact, places)))


def rounding_alone(over: Sequence[Verdict], dtype: str = "float32") -> list[Note]:
    """A note on the tensors ``over`` their limit where all modules keep theirs: the worst.

    A deep model may have hundreds of them.
    """
    if not over:
        return []
    worst = max(over, key=lambda verdict: verdict.error_ratio)
    others = len(over) - 1
    more = f"; {others} more tensor{'s are' if others > 1 else ' is'} over the limit by less"
    return [
        Note(
            worst.name,
            f"rounded in {dtype} to {worst.error_ratio:.3g} times what the other framework's error "
            f"allows; every module, from the same inputs, is within {dtype}'s rounding"
            + (more if others else ""),
        )
    ]


def decided(name: str, verdicts: list[Verdict]) -> tuple[Gate, list[Note]]:
    """The gate by what decides: inner modules that differ are notes where the whole agrees."""
    inner = [v for v in verdicts if not v.ok and not is_whole(v)]
    if len(inner) < sum(not v.ok for v in verdicts):
        return Gate(name=name, tensors=verdicts), []
    held = [v for v in verdicts if v.ok]
    return Gate(name=name, tensors=held), [Note(v.name, divided(v.name, name)) for v in inner]


def divided(what: str, dtype: str) -> str:
    """The note about a module that differs in models that agree as a whole."""
    return (
        f"the work is divided otherwise ({what} differs in {dtype}), and the whole agrees: output, "
        "loss and all gradients"
    )


def failed(finding: Finding) -> Verdict:
    """A divergence in state or in updates as a verdict; its error is relative to its limit."""
    limit = numerics.OWN_RELATIVE[finding.dtype] / numerics.UNIT_ROUNDOFF[finding.dtype]
    error = min(finding.size * limit, numerics.BEYOND)
    return Verdict(
        name=finding.where, kind=finding.stage, torch_error_u=error, jax_error_u=error,
        mutual_error_u=error, peak_error_u=error, limit_u=limit, peak_limit_u=limit,
        error_ratio=max(finding.size, 1.0), ok=False,
    )  # fmt: skip


def nowhere_a_number(torch: Values, jax: Values) -> Iterator[Note]:
    """Notes on outputs and gradients that are NaN in both models, where nothing is compared."""
    for (kind, name), value in torch.items():
        other = jax[kind, name]
        whole = kind == "gradient" or name.partition("[")[0] == OUTPUT
        if not whole or other.shape != value.shape:
            continue
        both = np.isnan(value) & np.isnan(other)
        if both.any():
            place = ", ".join(str(int(n)) for n in np.argwhere(both)[0])
            yield Note(
                f"gradient of {name}" if kind == "gradient" else name,
                f"NaN in both models at {both.sum()} of {both.size} places, first at [{place}]: "
                "nothing is compared there",
            )


OUTPUT = "output"  # the name of what the model as a whole returns


def whole(torch: Values, jax: Values, oracle: Values, dtype: str) -> list[Verdict]:
    """Verdicts on output, loss and gradients, which decide; ``oracle`` is PyTorch in float64."""
    return [v for v in verdicts(torch, jax, oracle, dtype) if is_whole(v)]


def kept(run: ExactRun, second: ExactRun | Note | None) -> Iterator[Finding | Note]:
    """Where the state differs that both models keep, after both batches in a row.

    Without a second batch the first is given twice.
    """
    following = second if isinstance(second, ExactRun) else run
    both = [(each.live.pair.batch, each.live.jax_batch) for each in (run, following)]
    yield from state.compare(run.live, run.seen, both)


def updates(run: ExactRun, say: Say) -> Iterator[Finding | Note]:
    """Where the updates of the pair's optimizers differ, both given PyTorch's gradients.

    A note names what is not compared: parameters of which JAX has the sum alone.
    """
    pair = run.live.pair
    if run.live.has_optimizers:
        say(f"{pair.name}, float64: updates by the same gradients")
        yield from optimizer.compare(run.live, run.seen, run.live.jax_casts)
        sums = dict.fromkeys((p.torch, *p.added) for p in run.live.partners if p.added)
        for first, *others in sums:
            yield Note(
                f"updates of {first}",
                f"not compared: JAX has the sum of it and {' and '.join(others)} as one parameter, "
                "and in PyTorch each takes a step of its own",
            )


def is_whole(verdict: Verdict) -> bool:
    """Whether a verdict is on the output, the loss or a gradient, which decide."""
    return verdict.kind != "activation" or verdict.name.partition("[")[0] == OUTPUT


def values(run: ExactRun) -> tuple[Values, Values]:
    """Every tensor of both models in PyTorch's layout, in the order of computation."""
    live, torch_pass, jax_pass = run.live, run.seen, run.plain
    torch, jax = _outputs(live, torch_pass, jax_pass)
    torch["loss", "loss"], jax["loss", "loss"] = map(np.asarray, (torch_pass.loss, jax_pass.loss))
    gradients = live.torch_parts(torch_pass.gradients, gradients=True)
    jax_gradients = live.in_torch(jax_pass.gradients, gradients=True)
    for name, value in reversed(gradients.items()):  # the last parameter's comes first
        torch["gradient", name] = value
        jax["gradient", name] = jax_gradients.get(name, np.full(0, np.nan))
    return torch, jax


def _outputs(live: LivePair, torch_pass: Pass, jax_pass: Plain) -> tuple[Values, Values]:
    """Outputs of all modules that both models call, each with the one it fits; NaN for none."""
    torch: Values = {}
    jax: Values = {}
    channels_last = live.channels_last(torch_pass)
    jax_keys = {torch_key: jax_key for jax_key, torch_key in live.names(torch_pass).items()}
    for way, key in torch_pass.events:
        if way == "enter" or key not in jax_keys:
            continue
        outputs = torch_pass.calls[key].outputs
        jax_outputs = jax_pass.outputs.get(jax_keys[key], [])
        # What the model itself returns is not looked for in another layout: there it is for users.
        known = jax_outputs if key.path else None
        for number, value, other in fitting(outputs, jax_outputs, known, channels_last, live.dtype):
            name = str(key) if key.path else OUTPUT
            name += f"[{number}]" if number else ""
            torch["activation", name], jax["activation", name] = value, other
    return torch, jax


def fitting(
    torch: Sequence[Array],
    jax: Sequence[Array],
    known: Sequence[Array] | None,
    channels_last: bool,
    dtype: str,
) -> list[tuple[int, Array, Array]]:
    """Each of JAX's tensors with the one of PyTorch's that it is, laid out as JAX has it.

    What one model alone returns, such as a cache, is not compared. What is left over of both is, as
    tensors that do not fit. ``known`` are JAX's numbers, where they may be looked for in another
    layout or order.
    """
    matches = placed(torch, [x.shape for x in jax], known, channels_last, dtype)
    found = [
        (match.sources[0], match.value(torch), other)
        for match, other in zip(matches, jax, strict=True)
        if match is not None
    ]
    used = {number for match in matches if match is not None for number in match.sources}
    torch_left = [number for number in range(len(torch)) if number not in used]
    jax_left = [x for x, match in zip(jax, matches, strict=True) if match is None]
    if torch and not jax:
        jax_left = [np.full(0, np.nan)]
    found += [(n, torch[n], x) for n, x in zip(torch_left, jax_left, strict=False)]
    return sorted(found, key=lambda row: row[0])


def verdicts(torch: Values, jax: Values, oracle: Values | None, dtype: str) -> list[Verdict]:
    """A verdict on every tensor: by ``oracle``, or without one on the two against one another."""
    known = torch if oracle is None else oracle
    noise = numerics.NOISE if oracle is not None else numerics.NOISE_ROUNDED[dtype]
    judged = []
    for kind, name, scale in _scaled(known, noise):
        # What is the same infinity in all of them, as in a mask, or NaN, is equal.
        value, other, truth = numerics.without_shared(
            torch[kind, name], jax[kind, name], known[kind, name]
        )
        if dtype == "float64":
            judged.append(judge_float64(name, kind, gaps(value, other), scale))
        elif oracle is None:
            judged.append(judge_mutual(name, kind, gaps(value, other), scale, dtype))
        else:
            apart = gaps(value, other, truth)
            judged.append(judge_rounded(name, kind, apart, scale, dtype, truth.size))
    return judged


def _scaled(oracle: Values, noise: float = numerics.NOISE) -> Iterator[tuple[str, str, Size]]:
    """Kind and name of every tensor, and the scale of its error."""
    finite = numerics.finite
    gradients = {name: finite(g) for (kind, name), g in oracle.items() if kind == "gradient"}
    scales = numerics.scales(gradients, noise)
    for kind, name in oracle:
        yield (
            kind,
            name,
            scales[name] if kind == "gradient" else numerics.size(finite(oracle[kind, name])),
        )
