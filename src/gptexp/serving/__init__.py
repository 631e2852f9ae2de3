"""Answer requests over HTTP: one thread computes for all of them, in a batch that answers join and leave."""
