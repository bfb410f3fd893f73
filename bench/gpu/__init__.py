"""All measurements of one GPU by one command: ``python -m bench.gpu``."""
