"""``compare`` and ``diagnose`` of a pair in the precision that it asks for."""

from collections.abc import Sequence

from twingrad import comparison, rounded
from twingrad.diagnosis import pairs, rounded_pairs
from twingrad.diagnosis.finding import Note
from twingrad.exact import Say, silent
from twingrad.outcome import Outcome
from twingrad.pair import Pair
from twingrad.result import Findings


def compare(
    pair: Pair, dtypes: Sequence[str] = comparison.DTYPES, say: Say = silent
) -> tuple[list[Outcome], list[Note]]:
    """Outcomes and notes: in each of ``dtypes``, or in the pair's own precision alone.

    Raises ``ValueError`` for a pair that cannot be judged, and where both are asked for.
    """
    if pair.precision == "float64":
        return comparison.compare(pair, dtypes, say)
    if tuple(dtypes) != comparison.DTYPES:
        raise ValueError(
            f"dtypes {tuple(dtypes)}: the pair is judged in {pair.precision} alone, its precision"
        )
    return rounded.compare(pair, say)


def diagnose(
    pair: Pair,
    say: Say = silent,
    every: bool = False,
    until: str | None = None,
    only: str | None = None,
) -> Findings:
    """The divergences of ``pair``, in float64 and float32 or in its own precision alone.

    Raises ``ValueError`` for a pair that cannot be judged, and for a part that is nowhere.
    """
    judge = pairs.diagnose if pair.precision == "float64" else rounded_pairs.diagnose
    return judge(pair, say, every, until, only)
