"""Processes: environment, process group, launcher, signals, strategies, devices."""
