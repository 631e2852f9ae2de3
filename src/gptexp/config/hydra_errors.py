"""Hydra's complaints, said again for the person who typed the command."""

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from gptexp.config.keys import known_fields, known_keys, schemas
from gptexp.config.package_data import GROUPS, sweep_names
from gptexp.errors import UserError, nearest, unknown

LAUNCHERS = "hydra/launcher"
PLUGINS = {
    (LAUNCHERS, "joblib"): "parallel",
    (LAUNCHERS, "submitit_slurm"): "slurm",
    (LAUNCHERS, "submitit_local"): "slurm",
    (LAUNCHERS, "ray"): "ray",
}


def explain_hydra_error(error: Exception, overrides: list[str]) -> UserError:
    """Hydra's complaint as a UserError that says what was given, what is allowed, and the nearest name."""
    text = f"{error}\n{error.__cause__ or ''}"
    keys = known_keys()
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException:
        return UserError(
            text.splitlines()[0]
            + "\nWrite overrides as key=value, lists as key=[a,b], and in quotes "
            "what has other characters: 'data.path=\"a (1).txt\"'"
        )
    for override in parsed:
        key = override.key_or_group
        if key.split(".")[0].split("/")[0] == "hydra":
            continue
        if _strip_user_key(key) not in (*keys, *GROUPS):
            return no_such_key(key, f"{override.input_line}: ")
    if primary := re.search(r"Cannot find primary config '([^']*)'", text):
        return UserError(
            f"-cn {primary[1]}: not found in conf/ or the folder of -cd.{nearest(primary[1], sweep_names())} "
            f"Shipped sweeps: {', '.join(sweep_names())} (with -cd sweeps)"
        )
    option = re.search(r"(?:Could not find|Could not load) '([\w/]+)/([^']*)'", text)
    if option:
        group, given = option.groups()
        if (group, given) in PLUGINS:
            extra = PLUGINS[group, given]
            return UserError(f"this launcher needs its package: pip install 'gptexp[{extra}]'")
        options = re.findall(r"^\t(\S+)$", text, re.M)
        return unknown(group, given, [name for name in options if not name.startswith("base_")])
    named = [*re.findall(r"full_key: (\S+)", text), *re.findall(r"'([^']*)'", text)]
    for override in parsed:
        key = override.key_or_group
        if key in named or str(override.input_line) in text:
            return UserError(f"{override.input_line}: {_reason(text, key)}")
    return UserError(_reason(text, ""))


def _strip_user_key(key: str) -> str:
    """data.fields.source is a name of the user's inside of data.fields."""
    return key.split(".fields.")[0] + ".fields" if ".fields." in key else key


def no_such_key(key: str, given: str = "") -> UserError:
    keys = known_keys()
    if key in keys:
        return UserError(f"{given}{_not_here(key)}")
    allowed = [k for k in keys if k.startswith(key.split(".")[0] + ".")] or [
        k for k in (*GROUPS, *keys) if "." not in k
    ]
    return UserError(
        f"{given}there is no key '{key}'.{nearest(key, (*GROUPS, *keys))} "
        f"Allowed here: {', '.join(dict.fromkeys(allowed))}"
    )


def _not_here(key: str) -> str:
    group, _, name = _strip_user_key(key).partition(".")
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
        return _not_here(key)
    if text.startswith("Ambiguous value"):
        return "several values are a sweep: add -m; one list is [a,b]"
    if "is not a ListConfig" in text:
        return "a list is needed: [a,b]"
    lines = [
        line.strip() for line in text.splitlines() if line.strip() and not line.startswith("In '")
    ]
    said = [
        line
        for line in lines
        if not re.match(r"(full_key|object_type|reference_type|Error merging|To append)", line)
    ]
    return said[0] if said else text
