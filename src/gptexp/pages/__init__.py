"""HTML pages about runs and sweeps: each is one file that needs no other and no network."""
