"""Decoding of one side alone, for a record."""

from twingrad.decoding import displaced
from twingrad.decoding.causes import cause
from twingrad.decoding.decoded import DecodingRecord
from twingrad.decoding.parting import from_its_own
from twingrad.decoding.runs import decoded
from twingrad.decoding.sessions import Session
from twingrad.foreign import Array
from twingrad.sides import Framework


def recorded(on: Session, side: Framework, tokens: Array, dtype: str) -> DecodingRecord:
    """What ``side`` decodes, why it parts from its own forward pass, and displaced steps.

    Where its functions raise, why there is nothing.
    """
    try:
        found = decoded(on, tokens)
    except ValueError as error:
        return DecodingRecord(error=str(error))
    parted = from_its_own(found, side, dtype)
    reason = None
    if parted is not None:
        try:
            reason = cause(on, tokens, dtype, parted)
        except ValueError:  # its functions do not take what a trial gives them
            reason = None
    try:
        steps = displaced.recorded(on, tokens)
    except ValueError:  # as above
        steps = []
    return DecodingRecord(decoded=found, cause=reason, displaced=steps)
