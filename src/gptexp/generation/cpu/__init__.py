"""Single-token decoding that is fast on a CPU."""
