"""Code of neither framework, in NumPy: configuration, parameters, data, checkpoints."""
