"""Names in a text: what no dictionary has, and a summary can only copy."""

import random
import re

# With an underscore, a digit or a capital inside, or capital within a sentence.
NAME = re.compile(
    r"\w*[a-z\d]_\w+|_\w+|[A-Za-z]*[a-z]+[A-Z]\w*|[A-Z][A-Z\d]+\w*|\w*\d\w*|(?<=[a-z,;(] )[A-Z]\w+"
)


def find_entities(text: str) -> list[str]:
    """Each name once, in the order of their first places."""
    return list(dict.fromkeys(NAME.findall(text)))


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def exchanged(sentence: str, text: str, others: list[str], key: str) -> tuple[str, str]:
    """Both, with the names that they share exchanged for `others`, the same in both; drawn by `key`.

    What a name is then does not follow from what was seen before: it has to be copied.
    """
    words = words_of(text)
    shared = [name for name in find_entities(sentence) if name in words]
    if not shared or not others:
        return sentence, text
    draw = random.Random(key)
    new = {name: draw.choice(others) for name in shared}
    word = re.compile(r"\w+")
    return tuple(
        word.sub(lambda found: new.get(found[0], found[0]), part) for part in (sentence, text)
    )  # type: ignore[return-value]
