"""What may be imported from Python: pairs of models, and the claim that they are equal."""

from bench.diagnosis.equal import assert_equal_models, diagnose
from bench.diagnosis.pairs import Pair

__all__ = ["Pair", "assert_equal_models", "diagnose"]
