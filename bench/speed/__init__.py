"""Speed of the twins and their peers: ``twingrad bench``."""
