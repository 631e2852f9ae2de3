"""Names in a text, which no dictionary has and a summary has to copy."""

import re

# With an underscore, a digit or a capital inside, or capital within a sentence.
NAME = re.compile(
    r"\w*[a-z\d]_\w+|_\w+|[A-Za-z]*[a-z]+[A-Z]\w*|[A-Z][A-Z\d]+\w*|\w*\d\w*|(?<=[a-z,;(] )[A-Z]\w+"
)


def find_entities(text: str) -> list[str]:
    """Return each name once, in the order of first occurrence."""
    return list(dict.fromkeys(NAME.findall(text)))


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))
