"""Token sequences with targets, one kind of data set a file."""
