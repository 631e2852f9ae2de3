"""Find the items of a value as it is typed, such as `a` and `b c` in `[a,{x: 'b c'}]`, with their places in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

QUOTED = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*(?=[,\]}):]|$)""", re.S)


@dataclass(frozen=True)
class Item:
    text: str  # as typed, without blanks around it
    start: int
    is_quoted: bool
    depth: int  # number of brackets around it

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def find_items(value: str, with_brackets: bool) -> list[Item]:
    """Return the items of a value between commas, and inside of brackets if `with_brackets`."""
    return [item for item in _scan(value, with_brackets) if item.text or item.is_quoted]


def replace_items(value: str, replacements: dict[Item, str]) -> str:
    """Return the value with other texts in the places of some of its items."""
    for item in sorted(replacements, key=lambda item: item.start, reverse=True):
        value = value[: item.start] + replacements[item] + value[item.end :]
    return value


def is_balanced(value: str) -> bool:
    """Return whether each bracket outside of quotes is closed."""
    closing = {"[": "]", "{": "}"}
    expected: list[str] = []
    position = 0
    while position < len(value):
        if quoted := QUOTED.match(value, position):
            position = quoted.end()
            continue
        character = value[position]
        if character in closing:
            expected.append(closing[character])
        elif character in closing.values() and (not expected or expected.pop() != character):
            return False
        position += 1
    return not expected


def _scan(value: str, with_brackets: bool) -> Iterator[Item]:
    brackets: list[str] = []
    is_name = False  # the next item is a name in a dictionary
    start = position = 0
    while position < len(value):
        if not value[start:position].strip() and (quoted := QUOTED.match(value, position)):
            yield Item(quoted[1], position, True, len(brackets))
            position = start = quoted.end()
            continue
        character = value[position]
        opens = with_brackets and character in "[{" and not value[start:position].strip()
        closes = bool(brackets) and character == {"[": "]", "{": "}"}[brackets[-1]]
        if character == "\\":
            position += 2
            continue
        if opens or closes or character == "," or (character == ":" and is_name):
            yield _item(value, start, position, len(brackets))
            start = position + 1
            if opens:
                brackets.append(character)
            elif closes:
                brackets.pop()
            is_name = bool(brackets) and brackets[-1] == "{" and (opens or character == ",")
        position += 1
    yield _item(value, start, len(value), len(brackets))


def _item(value: str, start: int, end: int, depth: int) -> Item:
    text = value[start:end]
    return Item(text.strip(), start + len(text) - len(text.lstrip()), False, depth)
