"""Memory, communication and time of a training step, predicted: ``twingrad plan``."""
