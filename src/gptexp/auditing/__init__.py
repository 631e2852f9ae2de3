"""Audit data and models: duplicates, leaks, personal data, terms, lengths, languages, groups, and a probe."""

# For which a filtered copy can leave out an example.
FAULTS = ("duplicates", "leaks", "personal", "passages", "terms")
