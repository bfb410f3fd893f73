"""Records turned into README and docs, figures, and the report page."""
