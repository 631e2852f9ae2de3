"""A view of the runs and sweeps in a folder, going on or finished. It reads their files and changes none."""
