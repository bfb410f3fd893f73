"""JAX's half of the phrasebook: a module a family, a function a phrase."""
