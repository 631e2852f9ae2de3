"""The settings of a run: the choices of groups, then what was changed, then all of them."""

import json
import shlex
from typing import Any

from omegaconf import OmegaConf

from gptexp.pages.changed_settings import ChangedSettings, describe_setting, find_changes, flatten
from gptexp.pages.markup import Content, Html, render, table, tag
from gptexp.pages.shell import command_block

SHOWN_LENGTH = 400  # characters of a value


def settings_html(config: dict[str, Any]) -> Html:
    """Return the settings of a config.yaml, with what was changed first, and the command that composes them."""
    values = flatten(config)
    settings = find_changes(values)
    rows = [
        [tag("code", key), _show(value), describe_setting(key)] for key, value in values.items()
    ]
    everything = table(["setting", "value", ""], rows, class_="settings")
    return render(
        _changes(settings),
        tag("details", tag("summary", f"all {len(rows)} settings"), everything),
        _command(settings),
    )


def _changes(settings: ChangedSettings) -> Content:
    words = " ".join(f"{group}={choice}" for group, choice in settings.choices.items())
    choices = tag("p", "Choices of groups: ", tag("code", words))
    if settings.changes is None:
        text = "This version of gptexp does not know what these choices compose."
        return choices, tag("p", text, class_="note")
    if not settings.changes:
        return choices, tag("p", "No setting differs from what these choices compose.")
    rows = [
        [
            tag("code", change.key),
            _show(change.value),
            _show(change.default),
            describe_setting(change.key),
        ]
        for change in settings.changes
    ]
    return choices, table(["changed", "value", "instead of", ""], rows, class_="settings")


def _command(settings: ChangedSettings) -> Content:
    words = settings.words()
    if words is None:
        return None
    command = shlex.join(["gptexp", "run", *words])
    return tag("p", "A command that composes these settings:", class_="note"), command_block(
        command
    )


def _show(value: Any) -> Html:
    if isinstance(value, dict | list):
        text = OmegaConf.to_yaml(value, resolve=False).strip() if value else str(value)
    else:
        text = json.dumps(value) if value is None or isinstance(value, bool) else str(value)
    return tag("code", text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]} ...")
