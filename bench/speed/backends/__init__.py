"""One backend for each implementation that is timed."""
