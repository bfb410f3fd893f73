"""Training runs, checkpoints and sampling: ``twingrad train``, ``sample`` and ``export``."""
