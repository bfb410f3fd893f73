"""Diagnosis of the built-in programs: what they add to the library's hypotheses."""
