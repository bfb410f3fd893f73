"""Candidate causes of a difference, each computed and held against the numbers."""
