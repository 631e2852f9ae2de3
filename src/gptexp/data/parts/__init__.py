"""A token store that many processes write, one part for each unit of the input."""
