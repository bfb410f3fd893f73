"""Look at an installation: what is there, what each framework sees, and what to do about it."""
