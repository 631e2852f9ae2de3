"""What people look at: run folders, tables, trackers. Reads what is on disk, never a live model."""
