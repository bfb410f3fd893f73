"""Rendezvous of the processes of one run: they meet, watch one another, and stop or fail together.

Each process connects to that of rank 0 and sends the token of the run and the settings that it was
started with; none begins before all have come and have equal settings. Whoever does not know the
token is dropped without a word, and the run waits on. From then on both ends of every connection
send a beat a second, with the step that they have begun. A process that loses another one reports
it to rank 0, rank 0 tells all, and each ends with the same sentence. A thread does this, since the
program itself may be inside a collective operation, where it would wait for the lost process for
ever.

Messages are JSON objects, one a line.
"""

from shared.rendezvous import token
from shared.rendezvous.meeting import meet
from shared.rendezvous.peer import Limits
from shared.rendezvous.running import Rendezvous

__all__ = ["Limits", "Rendezvous", "meet", "token"]
