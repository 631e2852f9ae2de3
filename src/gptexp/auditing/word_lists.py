"""Lists of words and phrases, and where they stand in a text.

Words match whole, in any case; `stereotyp*` matches all words that begin so.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gptexp.data.duplicates import WORD
from gptexp.errors import UserError

GROUPS_FILE = files(__package__).joinpath("groups.yaml")
_TOKEN = re.compile(rf"{WORD.pattern}|[^\w\s]")
ANY_LANGUAGE = ""
TERMS_FORM = "insults: [word, two words, begin*]"
GROUPS_FORM = "gender: {female: [she, woman], male: [he, man]}"
GroupSets = dict[str, dict[str, dict[str, list[str]]]]  # set -> group -> language -> words


class Token(NamedTuple):
    text: str  # in lower case
    start: int  # in the text of `Tokens`
    end: int


class Tokens:
    """The words and punctuation marks of a text."""

    def __init__(self, text: str) -> None:
        self.text = unicodedata.normalize("NFC", text)

    @cached_property
    def tokens(self) -> list[Token]:
        return [Token(m[0].casefold(), *m.span()) for m in _TOKEN.finditer(self.text)]

    @cached_property
    def words(self) -> list[str]:
        """The texts of the tokens."""
        return [token.text for token in self.tokens]

    def context(self, first: int, last: int, width: int = 40) -> str:
        """Return the text around the tokens `first` to `last`, which stand in brackets."""
        start, end = self.tokens[first].start, self.tokens[last].end
        before, after = self.text[max(0, start - width) : start], self.text[end : end + width]
        return " ".join(f"{before}[{self.text[start:end]}]{after}".split())


class Occurrence(NamedTuple):
    name: str  # of the list
    term: str
    first: int  # token
    last: int


class WordMatcher:
    """Finds the terms of several lists in one pass over a text."""

    def __init__(self, lists: Mapping[str, Iterable[str]]) -> None:
        # First token -> the terms that begin with it; a term ends with `*` if its last token may go on.
        self._exact: dict[str, list[tuple[list[str], bool, str, str]]] = defaultdict(list)
        self._prefixes: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for name, terms in lists.items():
            for term in terms:
                tokens = Tokens(term).words
                is_prefix = len(tokens) > 1 and term.endswith("*")
                tokens = tokens[:-1] if is_prefix else tokens
                if len(tokens) == 1 and is_prefix:
                    self._prefixes[tokens[0]].append((name, term))
                elif tokens:
                    self._exact[tokens[0]].append((tokens, is_prefix, name, term))
        self._prefix_lengths = sorted({len(prefix) for prefix in self._prefixes})

    def find(self, tokens: Tokens) -> list[Occurrence]:
        """Return where the terms stand; at one place, the longest of a list."""
        if not self._exact and not self._prefixes:
            return []
        words = tokens.words
        occurrences: list[Occurrence] = []
        for first, word in enumerate(words):
            longest: dict[str, Occurrence] = {}
            for length in self._prefix_lengths:
                for name, term in self._prefixes.get(word[:length], ()):
                    longest[name] = Occurrence(name, term, first, first)
            for parts, is_prefix, name, term in self._exact.get(word, ()):
                last = first + len(parts) - 1
                candidate = words[first : last + 1]
                if candidate != parts and not (
                    is_prefix
                    and candidate[:-1] == parts[:-1]
                    and candidate[-1].startswith(parts[-1])
                ):
                    continue
                if name not in longest or last >= longest[name].last:
                    longest[name] = Occurrence(name, term, first, last)
            occurrences += longest.values()
        return occurrences


def load_terms(file: Path) -> dict[str, list[str]]:
    """Load lists of terms: a YAML file of lists by name, or a text file with one term a line.

    Raises:
        UserError: the file cannot be read, or has another form.
    """
    if file.suffix.lower() not in (".yaml", ".yml"):
        lines = (line.strip() for line in _read(file).splitlines())
        lists: Any = {file.stem: [line for line in lines if line and not line.startswith("#")]}
    else:
        lists = load_yaml(file)
        lists = {file.stem: lists} if isinstance(lists, list) else lists
    return {
        str(name): _words(terms, f"{file}, '{name}'")
        for name, terms in _items(lists, file, TERMS_FORM)
    }


def load_groups(file: Any = GROUPS_FILE) -> GroupSets:
    """Load sets of groups from YAML: SET: {GROUP: [word, ...]}, or {GROUP: {LANGUAGE: [word, ...]}}.

    Raises:
        UserError: the file cannot be read, has another form, or names a word for two groups of one set.
    """
    sets: GroupSets = {}
    for name, groups in _items(load_yaml(file), file, GROUPS_FORM):
        where = f"{file}, '{name}'"
        if not isinstance(groups, dict) or len(groups) < 2:
            raise UserError(f"{where}: a set needs two groups or more, such as {GROUPS_FORM}")
        sets[name] = {
            group: {
                language: _words(items, f"{where}, '{group}'")
                for language, items in (
                    words.items() if isinstance(words, dict) else [(ANY_LANGUAGE, words)]
                )
            }
            for group, words in groups.items()
        }
        _check_words_are_of_one_group(sets[name], where)
    return sets


def _check_words_are_of_one_group(groups: dict[str, dict[str, list[str]]], where: str) -> None:
    group_of: dict[tuple[str, str], str] = {}
    for group, languages in groups.items():
        for language, words in languages.items():
            for word in words:
                other = group_of.setdefault((language, word.casefold()), group)
                if other != group:
                    raise UserError(f"{where}: '{word}' is a word of '{other}' and of '{group}'")


def _items(value: Any, file: Any, form: str) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        raise UserError(f"{file}: names with lists of words are needed, such as {form}")
    return value.items()


def _words(value: Any, where: str) -> list[str]:
    is_list = isinstance(value, list) and all(isinstance(word, str) for word in value)
    words = [word for word in value if word.strip()] if is_list else []
    if not words:
        raise UserError(f"{where}: a list of words is needed, such as [word, two words, begin*]")
    return words


def load_yaml(file: Any) -> Any:
    """Load a YAML file, all values as texts: to YAML, the words `no` and `on` are booleans.

    Raises:
        UserError: the file cannot be read, or is not YAML.
    """
    try:
        return yaml.load(_read(file), yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not YAML ({' '.join(str(error).split())})") from None


def _read(file: Any) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error.reason})") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
