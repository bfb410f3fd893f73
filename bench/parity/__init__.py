"""Whether the twins compute the same: ``twingrad compare`` and ``twingrad tensors``."""
