"""Where two models that should be one first part, and why."""
