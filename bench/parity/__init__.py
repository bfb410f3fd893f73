"""Parity of the twins: ``twingrad compare`` and ``twingrad tensors``."""
