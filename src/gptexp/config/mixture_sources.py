"""Complete and check the settings of one source of a mixture, as Hydra and its checks do for `data`."""

from dataclasses import MISSING as NO_DEFAULT
from dataclasses import asdict, fields, replace
from typing import Any, cast

import yaml
from omegaconf import MISSING

from gptexp.config import registry
from gptexp.config.package_data import choices, find_choice
from gptexp.config.schema import Config, DataConfig
from gptexp.config.schema.mixture import explain_source
from gptexp.config.values import find_misfit, show
from gptexp.errors import UserError, nearest, unknown_value

Settings = dict[str, Any]


def resolve_source(name: str, settings: Any, shared: Settings, config: Config) -> Settings:
    """Return all settings of a source.

    Args:
        settings: those that the user gives.
        shared: those of the mixture, which hold where neither the user nor the chosen file gives another.

    Raises:
        UserError: a setting is missing, not known, or has a value that it cannot have.
    """
    key = f"data.sources.{name}"
    if not name.replace("-", "_").isidentifier():
        raise UserError(f"{key}: the name of a source must be a word, such as web or code_2")
    kinds = [choice for choice in choices("data") if choice != "mixture"]
    if not isinstance(settings, dict) or "kind" not in settings:
        raise UserError(f"{key}: has no kind; type {key}.kind=NAME. Names: {', '.join(kinds)}")
    chosen = settings["kind"]
    if chosen not in kinds:
        raise unknown_value(f"{key}.kind", str(chosen), kinds)
    kind, preset = _read_choice(str(chosen))
    schema = registry.schemas("data")[kind]
    values = {**shared, **preset, **settings, "kind": kind}
    known = {field.name: field for field in fields(schema)}
    for setting, value in values.items():
        if setting not in known:
            raise UserError(
                f"{key}.{setting}: data={chosen} has no such setting.{nearest(setting, known)} "
                f"Allowed: {', '.join(known)}"
            )
        if reason := find_misfit(value, known[setting]):
            raise UserError(f"{key}.{setting}={show(value)}: {reason}")
    for setting, field in known.items():
        if values.get(setting, field.default) == MISSING and field.default is not NO_DEFAULT:
            raise UserError(
                f"{key}.{setting} must be given: add {key}.{setting}=... to the command"
            )
    source = cast(DataConfig, schema(**values))
    with explain_source(name):
        source.resolve(replace(config, data=source))
    return asdict(source)


def build_source(settings: Settings) -> DataConfig:
    """Return the settings object of a source whose settings are complete."""
    return cast(DataConfig, registry.schemas("data")[settings["kind"]](**settings))


def _read_choice(name: str) -> tuple[str, Settings]:
    """Return the kind of a choice of data, and the settings that its YAML file gives."""
    settings = yaml.safe_load(find_choice("data", name).read_text("utf8")) or {}
    defaults = settings.pop("defaults", [])
    bases = [str(entry) for entry in defaults if str(entry).startswith("base_")]
    if not bases:
        raise UserError(
            f"data={name}: cannot be a source of a mixture, because its file does not begin with "
            f"defaults: [base_KIND, _self_]"
        )
    return bases[0].removeprefix("base_"), settings
