"""Plans of runs before they start: sizes, memory, time and price."""
