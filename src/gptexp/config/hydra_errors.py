"""Explain Hydra's errors to the person who typed the command."""

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from gptexp.config.keys import dictionary_keys, group_names, known_fields, known_keys, schemas
from gptexp.config.package_data import GROUPS, sweep_names
from gptexp.config.renames import RENAMED
from gptexp.config.signature import TARGET
from gptexp.errors import UserError, nearest, unknown_value

LAUNCHERS = "hydra/launcher"
LAUNCHER_EXTRAS = {
    (LAUNCHERS, "joblib"): "parallel",
    (LAUNCHERS, "submitit_slurm"): "slurm",
    (LAUNCHERS, "submitit_local"): "slurm",
    (LAUNCHERS, "ray"): "ray",
}


def explain_hydra_error(error: Exception, overrides: list[str]) -> UserError:
    """Return an error that says which override is wrong, what is allowed, and which name is nearest."""
    text = f"{error}\n{error.__cause__ or ''}"
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException:
        return UserError(
            f"{text.splitlines()[0]}\nWrite overrides as key=value, lists as key=[a,b], and values "
            f"with other characters in quotes: 'data.path=\"a (1).txt\"'"
        )
    if wrong := _override_without_key(parsed):
        return unknown_key(wrong.key_or_group, f"{wrong.input_line}: ")
    if primary := re.search(r"Cannot find primary config '([^']*)'", text):
        return UserError(
            f"-cn {primary[1]}: not found in conf/ or the folder of -cd.{nearest(primary[1], sweep_names())} "
            f"Shipped sweeps: {', '.join(sweep_names())} (with -cd sweeps)"
        )
    if choice := re.search(r"(?:Could not find|Could not load) '([\w/]+)/([^']*)'", text):
        group, name = choice.groups()
        if extra := LAUNCHER_EXTRAS.get((group, name)):
            return UserError(f"this launcher needs its package: pip install 'gptexp[{extra}]'")
        options = re.findall(r"^\t(\S+)$", text, re.M)
        if not options:
            return UserError(
                f"{group}={name}: there is no such choice. A plugin adds it as conf/{group}/{name}.yaml"
            )
        return unknown_value(group, name, options)
    mentioned = [*re.findall(r"full_key: (\S+)", text), *re.findall(r"'([^']*)'", text)]
    for override in parsed:
        key = override.key_or_group
        if key in mentioned or str(override.input_line) in text:
            return UserError(f"{override.input_line}: {_reason(text, key)}")
    if in_file := re.search(r"In '([^']+)'.*Key '[^']+' not in .*full_key: (\S+)", text, re.S):
        file, key = in_file.groups()
        group = file.split("/")[0]
        is_inner = "." not in key and group in group_names()
        return unknown_key(f"{group}.{key}" if is_inner else key, f"{file}.yaml: ")
    return UserError(_reason(text, ""))


def unknown_key(key: str, prefix: str = "") -> UserError:
    """Return an error about a key that no choice of a group has, or not the chosen one."""
    keys = known_keys()
    if key in RENAMED:
        return UserError(f"{prefix}'{key}' is called '{RENAMED[key]}' now")
    if key in keys:
        return UserError(f"{prefix}{_explain_missing_key(key)}")
    group, _, name = key.partition(".")
    if name == TARGET and group in group_names():
        return UserError(
            f"{prefix}a YAML file names a class: write {TARGET}: my_package.MyClass into {group}/NAME.yaml, "
            f"in conf/ of a plugin or in a folder that -cd names, then choose {group}=NAME"
        )
    allowed = [name for name in keys if name.startswith(key.split(".")[0] + ".")] or [
        name for name in (*GROUPS, *keys) if "." not in name
    ]
    return UserError(
        f"{prefix}there is no key '{key}'.{nearest(key, (*GROUPS, *keys))} "
        f"Allowed here: {', '.join(dict.fromkeys(allowed))}"
    )


def _override_without_key(overrides: list[Override]) -> Override | None:
    """Return the first override of a key that no choice of a group has."""
    known = {*known_keys(), *GROUPS}
    for override in overrides:
        key = override.key_or_group
        if key.split(".")[0].split("/")[0] != "hydra" and _strip_entry(key) not in known:
            return override
    return None


def _strip_entry(key: str) -> str:
    """Return the key of a dictionary for the key of one of its entries."""
    return next((name for name in dictionary_keys() if key.startswith(f"{name}.")), key)


def _explain_missing_key(key: str) -> str:
    group, _, name = _strip_entry(key).partition(".")
    owners = [
        f"{group}={base.removeprefix('base_')}"
        for base, schema in schemas(group).items()
        if name in known_fields(schema)
    ]
    hint = (
        f"it is a key of {', '.join(owners)}"
        if owners
        else "`--cfg job` prints the keys that it has"
    )
    return f"this choice of {group} has no '{name}'; {hint}"


def _reason(text: str, key: str) -> str:
    if re.search(r"Key '[\w.]+' (is )?not in|Could not override", text) and key:
        return _explain_missing_key(key)
    if text.startswith("Ambiguous value"):
        return "several values are a sweep: add -m; one list is [a,b]"
    if "is not a ListConfig" in text:
        return "a list is needed: [a,b]"
    lines = [line.strip() for line in text.splitlines()]
    noise = r"$|In '|full_key|object_type|reference_type|Error merging|To append"
    reasons = [line for line in lines if not re.match(noise, line)]
    return reasons[0] if reasons else text
