"""What a run is: the schema of its settings, how they are composed, and the name that follows from them."""
