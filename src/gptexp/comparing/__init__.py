"""Compare runs, configs over seeds, and the jobs of a sweep. This room reads run folders and changes none."""
