"""What belongs to neither framework: configuration, parameters, data and error measures in NumPy."""
