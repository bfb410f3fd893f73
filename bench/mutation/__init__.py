"""Bugs planted in one framework to prove that the gates fail: ``twingrad mutants``."""
