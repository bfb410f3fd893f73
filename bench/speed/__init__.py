"""How fast the twins and their peers are: ``twingrad bench``."""
