"""Find out how the settings of a run were chosen: its choices of groups, and what differs from what these compose.

A setting that follows from a changed one, such as a width that follows from another, counts as unchanged. The words of
both compose the settings again.
"""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from hydra.core.global_hydra import GlobalHydra

from gptexp.config import compose, package_data
from gptexp.config.keys import declarations, group_names, iter_settings
from gptexp.errors import UserError

MAX_MISSING = 8  # settings without a default that a choice may have


@dataclass(frozen=True)
class Change:
    key: str
    value: Any
    default: Any  # what the choices compose


@dataclass(frozen=True)
class ChangedSettings:
    choices: dict[str, str]  # by group
    changes: list[Change] | None  # None: this version composes nothing from the choices

    def words(self) -> list[str] | None:
        """Return the words of a command that composes these settings; None: they are not known."""
        if self.changes is None:
            return None
        words = [f"{group}={choice}" for group, choice in self.choices.items()]
        return words + [_word(change.key, change.value) for change in self.changes]


def find_changes(values: dict[str, Any]) -> ChangedSettings:
    """Find what was changed in the settings of a config.yaml, which are given by dotted key."""
    choices = find_choices(values)
    words = [f"{group}={choice}" for group, choice in choices.items()]
    required = _find_required(words, values)
    if required is None:
        return ChangedSettings(choices, None)
    words += [_word(key, values.get(key)) for key in required]
    defaults = _compose(tuple(words))
    changed = {
        key: value
        for key, value in values.items()
        if key in required or (value != defaults.get(key) and not _is_filled_in(key))
    }
    may_follow = {key for key in changed if key not in required and _may_follow(key)}
    if may_follow:  # what the others do not imply was changed, too
        words += [_word(key, changed[key]) for key in changed.keys() - may_follow - {*required}]
        try:
            implied = _compose(tuple(words))
        except UserError:  # they do not fit together without those that may follow
            implied = defaults
        changed = {
            key: value
            for key, value in changed.items()
            if key not in may_follow or value != implied.get(key)
        }
    changes = [
        Change(key, value, None if key in required else defaults.get(key))
        for key, value in changed.items()
    ]
    return ChangedSettings(choices, changes)


def flatten(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a config.yaml by dotted key."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in group_names() and isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def describe_setting(key: str) -> str:
    """Return the documentation of a setting; "": this version does not know it."""
    items = declarations(key)
    return str(items[0].metadata.get("doc", "")) if items else ""


def find_choices(values: dict[str, Any]) -> dict[str, str]:
    """Return the choice of each group whose settings name one that is known here."""
    choices = {}
    for group in ("task", *(name for name in group_names() if name != "task")):
        choice = values.get("model.size" if group == "model" else f"{group}.kind")
        if choice in package_data.choices(group):
            choices[group] = str(choice)
    return choices


def _find_required(words: list[str], values: dict[str, Any]) -> list[str] | None:
    """Return the settings without a default, such as data.path, that the words need; None: they compose nothing."""
    required: list[str] = []
    for _ in range(MAX_MISSING):
        try:
            _compose((*words, *(_word(key, values.get(key)) for key in required)))
            return required
        except compose.MissingValueError as missing:
            required.append(missing.key)
        except UserError:
            return None
    return None


@cache
def _compose(words: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings that words compose; the Hydra of the command at work stays as it is."""
    hydra = GlobalHydra.instance().hydra
    try:
        config = compose.compose_config([*words])
    finally:
        GlobalHydra.instance().hydra = hydra
    return {key: value for key, _, value in iter_settings(config)}


def _word(key: str, value: Any) -> str:
    """Return KEY=VALUE as Hydra reads it."""
    return f"{key}={_quote(value)}"


def _quote(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{','.join(f'{name}:{_quote(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_quote, value))}]"
    if not isinstance(value, str):
        return json.dumps(value)
    if value.isidentifier() or value.replace("/", "").replace("-", "").replace(".", "").isalnum():
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _may_follow(key: str) -> bool:
    """Return whether a setting is computed from others where it is not given: its declared default is empty."""
    return any(not item.default for item in declarations(key))


def _is_filled_in(key: str) -> bool:
    """Return whether gptexp sets this and not a person; the kind and size of a group are among its choices."""
    return describe_setting(key).startswith("filled in") or key.endswith((".kind", "model.size"))
