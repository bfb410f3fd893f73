"""Find where two models first part, and why."""
