"""The workbench of the built-in programs: one package for each question asked of the twins."""
