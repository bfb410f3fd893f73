"""Measured claims of the documentation: one study a file."""
