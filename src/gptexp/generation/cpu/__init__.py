"""Fast decoding of single tokens on a CPU."""
