"""Speed of a user's pair: both models timed in turn, each framework in a process of its own."""
