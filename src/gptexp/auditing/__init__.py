"""Audit data and models: duplicates, leaks, personal data, terms, lengths, languages, groups, and a probe."""

FAULTS = (
    "duplicates",
    "leaks",
    "personal",
    "terms",
)  # for which a filtered copy can leave out an example
