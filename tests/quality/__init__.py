"""How good the tests are: what they reach, and which changes of the code they notice.

``python -m tests.quality coverage | mutants | bugs`` measures and writes a record; ``--data
FOLDER`` keeps what has been found so far, so that a call that was interrupted goes on from there.
"""
