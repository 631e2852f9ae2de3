"""Print every setting with its default, its accepted values and its documentation, as Markdown.

python -m gptexp.settings
python -m gptexp.settings plugins=[my_package]          with the settings of a plugin
"""

import json
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, fields
from typing import Any, get_args

import omegaconf

from gptexp.command_line import CommandParser
from gptexp.config import compose, keys, package_data, registry
from gptexp.config.conf_source import register_targets
from gptexp.config.overrides import explain_option, read_overrides
from gptexp.config.schema import Config, GroupConfig
from gptexp.config.signature import TARGET
from gptexp.errors import exits_cleanly

INTRODUCTION = """\
# Settings
Every setting of a run, as `python -m gptexp.settings` prints it. Give one on the command line as `KEY=VALUE`, choose
from a group as `GROUP=NAME`, or write both into a YAML file. `python -m gptexp.run ... --cfg job` prints what a command
composes.
"""
TYPES = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "true or false",
    list: "list",
    dict: "mapping",
}


@exits_cleanly
def main() -> None:
    parser = CommandParser("settings", __doc__, explain_option)
    parser.add_argument("overrides", nargs="*", metavar="plugins=[NAME]", help="plugins to include")
    words = parser.parse_args().overrides
    compose.prepare_hydra(words)
    read_overrides(words)
    register_targets()
    print(settings_page(), end="")


def settings_page() -> str:
    """Return the page of all settings, those of imported plugins included."""
    groups = keys.base_classes()
    run_settings = [item for item in fields(Config) if item.name not in groups]
    sections = [INTRODUCTION, "## Of the run\n" + _table("", run_settings)]
    return "\n".join([*sections, *(_section(group, base) for group, base in groups.items())])


def _section(group: str, base: type[GroupConfig]) -> str:
    shared = [item for item in fields(base) if item.name != "kind"]
    text = (
        f"## {group}\n`{group}=` {', '.join(f'`{name}`' for name in package_data.choices(group))}\n"
    )
    if group == "task":
        text += "\n" + _choices_of_tasks()
    if shared:
        text += "\n" + _table(f"{group}.", shared)
    for kind, schema in sorted(registry.schemas(group).items()):
        known = {item.name: item for item in shared}
        own = [item for item in fields(schema) if _differs(item, known.get(item.name))]
        if own and schema is not base:
            text += f"\n### {group}={kind}\n" + _table(f"{group}.", own)
    return text


def _choices_of_tasks() -> str:
    """Return a table of the model, data and tokenizer that each task chooses."""
    rows = ["A task chooses these, where the command does not:\n", "| | |", "|---|---|"]
    for name in package_data.choices("task"):
        choices = package_data.choices_of_task(name)
        words = " ".join(f"{group}={choice}" for group, choice in choices.items())
        rows.append(f"| `task={name}` | {f'`{words}`' if words else ''} |")
    return "\n".join([*rows, ""])


def _differs(item: Field, shared: Field | None) -> bool:
    if item.name in ("kind", TARGET):
        return False
    return shared is None or (_default(item), item.metadata) != (_default(shared), shared.metadata)


def _table(prefix: str, items: list[Field]) -> str:
    rows = [
        f"| `{prefix}{item.name}` | {_default(item)} | {_accepted(item)} | {item.metadata.get('doc', '')} |"
        for item in items
    ]
    return "\n".join(["| key | default | accepted | |", "|---|---|---|---|", *rows, ""])


def _default(item: Field) -> str:
    value: Any = item.default
    if item.default_factory is not NO_DEFAULT:
        value = item.default_factory()
    if value == omegaconf.MISSING:
        return "must be given"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _accepted(item: Field) -> str:
    metadata = item.metadata
    if metadata.get("choices"):
        return ", ".join(f"`{choice}`" for choice in metadata["choices"])
    kinds = [kind for kind in (get_args(item.type) or (item.type,)) if kind is not type(None)]
    text = TYPES.get(getattr(item.type, "__origin__", kinds[0]), "any")
    bounds = [
        f"{word} {metadata[name]}"
        for name, word in (("minimum", "from"), ("maximum", "to"))
        if metadata.get(name) is not None
    ]
    return " ".join([text, *bounds])


if __name__ == "__main__":
    main()
