"""The code that runs each contestant of ``twingrad bench``, one framework a module."""
