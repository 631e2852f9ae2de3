"""Read the words KEY=VALUE of a command, and refuse each mistake with the word as it has to be typed.

Hydra parses the words again. Here a text may have any characters, which its grammar wants in quotes; values are checked
against the declared types, one word at a time, so that a message names the word that is wrong; and a text that Hydra
would change is refused, such as 1e3, which becomes 1000.0.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString, ValueType

from gptexp.characters import describe_odd_characters, is_invisible, replace_odd_characters
from gptexp.command_line import quote_for_shell
from gptexp.config.grammar import WORD, parse_override, quote_text
from gptexp.config.items import Item, find_items, is_balanced, replace_items
from gptexp.config.keys import (
    declarations,
    dictionary_keys,
    dictionary_of,
    find_misfit_of_key,
    group_names,
    known_keys,
)
from gptexp.config.package_data import GROUPS, choices
from gptexp.config.renames import find_synonym
from gptexp.config.values import find_misfit, is_optional, is_text, show, takes_items
from gptexp.errors import UserError, nearest, unknown_value

CURLY_QUOTES = ("“”„‟", "‘’‚‛")


def read_overrides(words: list[str], is_sweep: bool = False) -> list[str]:
    """Check the words of a command, and return them as Hydra parses them.

    Args:
        is_sweep: several values of a key, with commas between them, are allowed.

    Raises:
        UserError: a word is no KEY=VALUE, or its value is none for its setting.
    """
    for index, word in enumerate(words):
        if "=" not in word.lstrip("=") and not word.startswith("~"):
            raise _explain_word_without_value(words, index)
    choices_of_words = dict(word.split("=", 1) for word in words if "=" in word)
    return [read_override(word, is_sweep, choices_of_words) for word in words]


def read_override(
    word: str, is_sweep: bool = False, choices_of_words: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Check one word KEY=VALUE, and return it as Hydra parses it: see `read_overrides`.

    Args:
        choices_of_words: the chosen name of each group, for messages.
    """
    match = WORD.fullmatch(word)
    if match is None:
        return _read_deletion(word)
    prefix, key, value = match["prefix"], match["key"], match["value"]
    word = word.replace("\n", "\\n")  # a message is one line
    if odd := describe_odd_characters(key):
        raise UserError(f"{key.strip()}: {odd}; type {_typed(prefix, _plain_key(key), value)}")
    if key != key.strip() or (value and not value.strip()):
        raise UserError(
            f"{word}: has a blank beside =; type {_typed(prefix, key.strip(), value.strip())}"
        )
    if not key:
        raise UserError(f"{word}: has no KEY before =, such as seed=1")
    if value.startswith("="):
        raise UserError(f"{word}: has one = too many; type {_typed('', key, value.lstrip('= '))}")
    if key in GROUPS or "@" in key:
        return _read_choice(word, key, value, is_sweep)
    group = key.removesuffix(".kind")
    if group in GROUPS and key != group:
        raise UserError(
            f"{word}: the kind follows from the choice of {group}; type {_typed('', group, value)}"
        )
    if value[:1] in ("'", '"'):
        value = value.rstrip()
    value = re.sub(r"^~(?=/)", lambda _: str(Path.home()), value)
    _check_characters(word, key, value)
    if any(item.metadata.get("texts") for item in declarations(key)):
        value = _quote_numbers(value)
    if reason := find_missing_source(value):
        raise UserError(f"{word}: {reason}")
    override = parse_override(f"{prefix}{key}={value}")
    if override is None:
        value = _quote_unreadable(word, key, value, is_sweep)
        override = parse_override(f"{prefix}{key}={value}")
    if override is None:
        raise UserError(f"{word}: cannot be read; {_how_to_type(key, value)}")
    choice = choices_of_words.get(key.partition(".")[0], "")
    _check_value(word, key, value, override, is_sweep, choice)
    if any("true" in item.metadata.get("choices", ()) for item in declarations(key)):
        # OmegaConf makes the text True of a boolean. The values of a sweep name its folders: they stay.
        value = quote_text(value.lower()) if value.lower() in ("true", "false") else value
    is_entry = dictionary_of(key) or (key in dictionary_keys() and value.startswith("{"))
    return f"{'++' if is_entry else prefix}{key}={value}"


def explain_option(word: str, following: str) -> UserError:
    """Return the error for a word like `--max_steps`, in a verb whose words are KEY=VALUE."""
    plain = replace_odd_characters(word).lstrip("-")
    name, equals, value = plain.partition("=")
    name = name.replace("-", "_")
    known = [*known_keys(), *GROUPS]
    leaves = [key for key in known if key.rpartition(".")[2] == name] or [find_synonym(name)]
    if not equals and following and "=" not in following:
        value = following
    if key := next(iter([name] if name in known else leaves), None):
        right = type_data(value) if key == "data" else _typed("", key, value or "...")
        return UserError(f"{word}: settings have no dashes; type {right}")
    odd = describe_odd_characters(word)
    return UserError(
        f"{word}: there is no such option{f' ({odd})' if odd else ''}.{nearest(name, known)} "
        f"Settings are KEY=VALUE, without dashes"
    )


def type_data(value: str) -> str:
    """Return the words that choose data: a choice by its name, or a file."""
    if value not in choices("data") and Path(value).exists():
        return f"data=files {_typed('', 'data.path', value)}"
    return _typed("", "data", value or "NAME")


def find_missing_source(value: str) -> str:
    """Return why an interpolation such as ${oc.env:HOME} or ${seed} in a value has none to take, or ""."""
    for name in re.findall(r"(?<!\\)\$\{oc\.env:([^,{}]+)\}", value):
        if name not in os.environ:
            return f"the environment variable {name} is not set. Set it, or give a default: ${{oc.env:{name},DEFAULT}}"
    for name in re.findall(r"(?<!\\)\$\{([A-Za-z_][\w.]*)\}", value):
        known = known_keys()
        if name.partition(".")[0] not in (*known, "hydra"):  # a plugin may add keys to a group
            return f"${{{name}}} takes the value of a key, and there is no key '{name}'.{nearest(name, known)}"
    return ""


def _explain_word_without_value(words: list[str], index: int) -> UserError:
    """Return the error for a word that is no KEY=VALUE; its neighbours say what it may be."""
    word = words[index]
    before = words[index - 1] if index else ""
    after = words[index + 1] if index + 1 < len(words) else ""
    if word.startswith("=") and before and "=" not in before:
        before, word = before, word.lstrip("=") or after
        return _explain_blanks(before, word)
    if after.startswith("="):
        return _explain_blanks(word, after.lstrip("=") or "".join(words[index + 2 : index + 3]))
    if before.endswith("="):
        return _explain_blanks(before.rstrip("="), word)
    plain = replace_odd_characters(word).lstrip("-")
    if plain != word and (odd := describe_odd_characters(word)):
        return UserError(f"{word}: {odd}; type {quote_for_shell(plain)}")
    key, colon, value = word.partition(":")
    if colon and key in (*known_keys(), *GROUPS):
        value = value.strip() or (after if after and "=" not in after else "VALUE")
        return UserError(f"{word}: has : in place of =; type {_typed('', key, value)}")
    if word in group_names():
        return UserError(
            f"{word}: has no value; type {word}=NAME. Names: {', '.join(choices(word))}"
        )
    if word in known_keys():
        return UserError(f"{word}: has no value; type {word}=VALUE")
    if groups := [group for group in GROUPS if word in choices(group)]:
        return UserError(
            f"{word}: is no KEY=VALUE; type {' or '.join(f'{g}={word}' for g in groups)}"
        )
    key_before = before.partition("=")[0]
    if "=" in before and any(map(is_text, declarations(key_before))):
        return UserError(
            f"{word}: is no KEY=VALUE. If it belongs to the word before it, type {quote_for_shell(f'{before} {word}')}"
        )
    if Path(word).exists():
        return UserError(f"{word}: is no KEY=VALUE. To train on this file, type {type_data(word)}")
    known = (*known_keys(), *GROUPS)
    return UserError(f"{word}: is no KEY=VALUE, such as seed=1.{nearest(word, known)}")


def _explain_blanks(key: str, value: str) -> UserError:
    return UserError(f"{key} = {value}: no blanks stand around =; type {_typed('', key, value)}")


def _plain_key(key: str) -> str:
    return re.sub(r"\s", "", replace_odd_characters(key))


def _read_deletion(word: str) -> str:
    """Check a word `~KEY`, with which Hydra removes an entry of a dictionary or an optional choice."""
    key = word[1:].partition("=")[0]
    if key in known_keys() and key not in dictionary_keys():
        raise UserError(
            f"{word}: ~ removes a key, and {key} cannot be removed; give it a value: {key}=..."
        )
    return word


def _read_choice(word: str, key: str, value: str, is_sweep: bool) -> str:
    """Check a word GROUP=NAME. Hydra looks for the name, also in the folder of -cd."""
    if "@" in key:
        group = key.partition("@")[0]
        raise UserError(f"{word}: packages cannot be chosen; type {_typed('', group, value)}")
    plain = replace_odd_characters(value)
    if (odd := describe_odd_characters(value)) and plain in choices(key):
        raise UserError(f"{word}: {odd}; type {key}={plain}")
    if key == "callbacks" and value.startswith("{"):
        return f"++{word.lstrip('+')}"
    if value == "null" and key not in group_names():
        return word
    override = parse_override(word)
    if override and override.is_sweep_override() and not is_sweep:
        raise UserError(f"{word}: several values make a sweep, which needs -m")
    parsed = override.value() if override and not override.is_sweep_override() else None
    names = parsed if isinstance(parsed, list) else [parsed]
    is_name = override and (
        override.is_sweep_override() or all(isinstance(x, str | QuotedString) for x in names)
    )
    if not is_name or not value:
        raise unknown_value(key, value, choices(key))
    return word


def _quote_unreadable(word: str, key: str, value: str, is_sweep: bool) -> str:
    """Quote a value that Hydra's grammar cannot read, or those of its items that it cannot.

    Raises:
        UserError: the value has a quote or a bracket that is not closed, or is no text.
    """
    declared = declarations(key)
    texts = not declared or any(map(is_text, declared)) or any(map(takes_items, declared))
    with_brackets = not declared or any(map(takes_items, declared))
    if not texts:
        reason = find_misfit(value, declared[0]) or "cannot be read"
        raise UserError(f"{word}: {reason}{_hint_number(key, value)}")
    if value[:1] in ("'", '"') and not value[1:].endswith(value[0]):
        raise UserError(
            f"{word}: the quote {value[0]} is not closed; {_how_to_type(key, value.strip(value[0]))}"
        )
    if with_brackets and value[:1] in ("[", "{") and not is_balanced(value):
        raise UserError(f"{word}: the bracket {value[0]} is not closed; {_how_to_type(key, value)}")
    if with_brackets and value[:1] in ("[", "{") and value[-1:] not in ("]", "}"):
        with_brackets = False  # [draft].txt is a name
    items = find_items(value, with_brackets)
    if not with_brackets and len(items) == 1:
        return quote_text(value)
    unread = [
        item for item in items if not item.is_quoted and parse_override(f"x={item.text}") is None
    ]
    quoted = replace_items(value, {item: quote_text(item.text) for item in unread})
    if parse_override(f"x={quoted}") is None and value[:1] == "{":  # {title}: a template
        pieces = find_items(value, with_brackets=False)
        if not is_sweep or len(pieces) == 1:
            return quote_text(value)
        return ",".join(quote_text(piece.text) for piece in pieces)
    return quoted


def _quote_numbers(value: str) -> str:
    """Quote whole numbers among texts, such as names of files, which OmegaConf does not make texts of type Any."""
    items = find_items(value, with_brackets=True)
    numbers = [item for item in items if re.fullmatch(r"0|[1-9]\d*", item.text)]
    return replace_items(value, {item: quote_text(item.text) for item in numbers})


def _check_characters(word: str, key: str, value: str) -> None:
    """Refuse characters that nobody sees, and curly quotes around a text; in a number, all lookalikes.

    Raises:
        UserError: there is such a character outside of quotes.
    """
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise UserError(
            f"{word}: {describe_odd_characters(value)}; rename the file, or write the text in UTF-8"
        )
    if value[:1] in ("'", '"'):
        return
    declared = declarations(key)
    is_curly = any(value[:1] in quotes and value[-1:] in quotes for quotes in CURLY_QUOTES if value)
    plain = replace_odd_characters(value)
    if declared and not any(map(is_text, declared)) and not any(map(takes_items, declared)):
        is_odd = bool(describe_odd_characters(value))
    else:
        hidden = [
            character for character in value if is_invisible(character) and not character.isspace()
        ]
        is_odd = (
            is_curly
            or bool(hidden)
            or is_invisible(value[:1] or " ")
            or is_invisible(value[-1:] or " ")
        )
    if is_odd:
        right = f"{key}={plain}" if not is_curly else f'{key}="{plain[1:-1]}"'
        raise UserError(f"{word}: {describe_odd_characters(value)}; type {quote_for_shell(right)}")


def _check_value(
    word: str, key: str, value: str, override: Override, is_sweep: bool, choice: str
) -> None:
    """Refuse a value, or one of the values of a sweep, that is none for its setting.

    Raises:
        UserError: it is of another type, Hydra would change a text, or a sweep is not asked for.
    """
    declared = declarations(key)
    if not value and declared and all(map(is_text, declared)) and all(map(is_optional, declared)):
        raise UserError(f"{word}: is empty; give a text, or null for none")
    if override.is_sweep_override() and not is_sweep:
        raise UserError(
            f"{word}: several values make a sweep, which needs -m"
            f"{_hint_comma(key, word.partition('=')[2])}"
        )
    values: list[Any] = [override.value()]
    if isinstance(values[0], IntervalSweep):  # a search draws from it
        values = [values[0].start, values[0].end]
    elif override.is_sweep_override():
        if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
            raise UserError(
                f"{word}: is not a list of values; type {key}=1,2,3 or {key}=range(1,4)"
            )
        values = list(override.sweep_iterator())
    if declared and all(map(is_text, declared)):
        _refuse_changed_texts(word, key, value, any(map(takes_items, declared)))
    for typed in values:
        item = typed.text if isinstance(typed, QuotedString) else typed
        if reason := find_misfit_of_key(key, item, choice):
            text = f"{key}={show(item)}" if override.is_sweep_override() else word
            hint = _hint_number(key, str(item))
            raise UserError(f"{text}: {reason}{hint}")


def _refuse_changed_texts(word: str, key: str, value: str, with_brackets: bool) -> None:
    """Refuse a text without quotes that Hydra reads as a number, a boolean or null in other characters.

    Raises:
        UserError: there is one.
    """
    changed: dict[Item, Any] = {}
    for item in find_items(value, with_brackets):
        parsed = None if item.is_quoted else parse_override(f"x={item.text}")
        if parsed is None or parsed.is_sweep_override():
            continue
        reading = parsed.value()
        is_number = isinstance(reading, bool | int | float) and str(reading) != item.text
        if is_number or (reading is None and item.depth):
            changed[item] = reading
    for item, reading in changed.items():
        typed = replace_items(value, {item: f'"{item.text}"' for item in changed})
        raise UserError(
            f"{word}: {item.text} is read as {show(reading)}, not as a text; "
            f"type {quote_for_shell(f'{key}={typed}')}"
        )


def _hint_comma(key: str, value: str) -> str:
    """Return how to type a value with a comma: as a decimal point, a text or a list."""
    declared = declarations(key)
    kinds = {str(item.type) for item in declared}
    hints = []
    if any("float" in kind for kind in kinds) and re.fullmatch(r"[+-]?\d+,\d+", value):
        hints.append(f"as a number: {key}={value.replace(',', '.')}")
    if any("int" in kind for kind in kinds) and re.fullmatch(r"\d{1,3}(,\d{3})+", value):
        hints.append(f"as a number: {key}={value.replace(',', '')}")
    if any(map(takes_items, declared)):
        hints.append(f"as a list: {quote_for_shell(f'{key}=[{value}]')}")
    if any(map(is_text, declared)) and not any("list" in kind or "dict" in kind for kind in kinds):
        hints.append(f"as one text: {_typed_text(key, value)}")
    return "".join(f"; {hint}" for hint in hints)


def _hint_number(key: str, value: str) -> str:
    """Return how to type a number with a comma, a percent sign, or a k for thousand or an M for million."""
    if re.fullmatch(r"[+-]?\d+,\d+", value):
        return f"; type {key}={value.replace(',', '.')}"
    is_whole = not any("float" in str(item.type) for item in declarations(key))
    if number := re.fullmatch(r"(\d+(?:\.\d+)?) ?([kKM%])", value):
        factor = {"k": 1e3, "K": 1e3, "M": 1e6, "%": 0.01}[number[2]]
        product = round(float(number[1]) * factor, 9)
        if product.is_integer() or not is_whole:
            return (
                f"; type {key}={product:.0f}"
                if product.is_integer()
                else f"; type {key}={product:g}"
            )
    return ""


def _how_to_type(key: str, value: str) -> str:
    declared = declarations(key)
    if value[:1] in ("[", "{") and any(map(takes_items, declared)):
        example = "{name: value}" if value[0] == "{" else "[a,b]"
        return f"a value with several parts is {quote_for_shell(f'{key}={example}')}"
    return f"a text is {_typed_text(key, value)}"


def _typed_text(key: str, text: str) -> str:
    """Return KEY="TEXT" as a person types it in a shell."""
    inner = text.replace("\\", "\\\\").replace('"', '\\"') if '"' in text else text
    return quote_for_shell(f'{key}="{inner}"')


def _typed(prefix: str, key: str, value: str) -> str:
    return quote_for_shell(f"{prefix}{key}={value}")
