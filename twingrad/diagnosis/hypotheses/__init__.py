"""Candidate causes of a difference, each computed and compared with the numbers."""
