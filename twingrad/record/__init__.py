"""One side of a pair, recorded where its framework is, for the other side to be judged by."""
