"""Distributed runtime: the launcher, the process group, signals, strategies, sharding and devices."""
