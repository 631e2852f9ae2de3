"""The settings of a run: the choices of groups, then what differs from what these compose, then all of them."""

import json
from functools import cache
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from gptexp.config import compose, package_data
from gptexp.config.keys import declarations, group_names, iter_settings
from gptexp.errors import UserError
from gptexp.pages.markup import Content, Html, render, table, tag
from gptexp.runs.run_folder import RunFolder

MAX_MISSING = 8  # settings without a default that a choice may have
SHOWN_LENGTH = 400  # characters of a value


def settings_html(folder: RunFolder) -> Html:
    """Return the settings of a run, with what was changed first."""
    values = flatten(folder.config_values())
    choices = choices_of(values)
    defaults = compose_defaults(values, choices)
    words = " ".join(f"{group}={choice}" for group, choice in choices.items())
    parts: list[Content] = [tag("p", "Choices of groups: ", tag("code", words))]
    if defaults is None:
        parts.append(
            tag(
                "p",
                "What these choices compose is not known to this version of gptexp.",
                class_="note",
            )
        )
    else:
        changed = [
            [tag("code", key), _show(value), _show(defaults.get(key)), _document(key)]
            for key, value in values.items()
            if value != defaults.get(key) and not _is_filled_in(key)
        ]
        columns = ["changed", "value", "instead of", ""]
        nothing = tag("p", "No setting differs from what these choices compose.")
        parts.append(table(columns, changed, class_="settings") if changed else nothing)
    rows = [[tag("code", key), _show(value), _document(key)] for key, value in values.items()]
    everything = table(["setting", "value", ""], rows, class_="settings")
    parts.append(tag("details", tag("summary", f"all {len(rows)} settings"), everything))
    return render(parts)


def flatten(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a config.yaml by dotted key."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in group_names() and isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def choices_of(values: dict[str, Any]) -> dict[str, str]:
    """Return the choice of each group whose settings name one that is known here."""
    choices = {}
    for group in ("task", *(name for name in group_names() if name != "task")):
        choice = values.get("model.size" if group == "model" else f"{group}.kind")
        if choice in package_data.choices(group):
            choices[group] = str(choice)
    return choices


def compose_defaults(values: dict[str, Any], choices: dict[str, str]) -> dict[str, Any] | None:
    """Return the settings that the choices compose, by dotted key; None: they compose nothing here.

    Settings without a default, such as data.path, are those of the run.
    """
    words = [f"{group}={choice}" for group, choice in choices.items()]
    for _ in range(MAX_MISSING):
        try:
            return _compose(tuple(words))
        except compose.MissingValueError as missing:
            words.append(f"{missing.key}={_quote(values.get(missing.key))}")
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


def _quote(value: Any) -> str:
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _document(key: str) -> str:
    items = declarations(key)
    return str(items[0].metadata.get("doc", "")) if items else ""


def _is_filled_in(key: str) -> bool:
    """Return whether gptexp sets this and not a person; the kind and size of a group are among its choices."""
    return _document(key).startswith("filled in") or key.endswith((".kind", "model.size"))


def _show(value: Any) -> Html:
    if isinstance(value, dict | list):
        text = OmegaConf.to_yaml(value, resolve=False).strip() if value else str(value)
    else:
        text = json.dumps(value) if value is None or isinstance(value, bool) else str(value)
    return tag("code", text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]} ...")
