"""The command line of the library: pairs of models in files."""
