"""What belongs to neither framework: configuration, parameters, data, error measures; in NumPy."""
