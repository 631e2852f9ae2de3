"""Numbers only: intervals, tests and verdicts over seeds and examples. docs/statistics.md explains the methods."""
