"""Defaults that differ between the frameworks, each with a function that measures it."""
