"""Explain Hydra's errors to the person who typed the command."""

import re
from dataclasses import fields
from pathlib import Path

from gptexp.config.grammar import as_typed, parse_overrides
from gptexp.config.keys import dictionary_of, group_names, known_fields, known_keys, schemas
from gptexp.config.overrides import find_missing_source, type_data
from gptexp.config.package_data import GROUPS, sweep_names
from gptexp.config.renames import RENAMED, find_synonym, is_epochs
from gptexp.config.signature import TARGET
from gptexp.errors import UserError, nearest, unknown_value
from hydra_plugins.gptexp_sweeper import SlotsConf, SweeperConf

HYDRA_SETTINGS = {"hydra.sweeper": SweeperConf, "hydra.launcher": SlotsConf}  # of a multirun
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
    parsed = parse_overrides(overrides)
    try:
        refuse_unknown_keys(overrides)
    except UserError as refusal:
        return refusal
    if primary := re.search(r"Cannot find primary config '([^']*)'", text):
        name = primary[1].removesuffix(".yaml")
        if name in sweep_names():
            return UserError(f"-cn {primary[1]}: is a shipped sweep; type -cn {name} -cd sweeps")
        return UserError(
            f"-cn {primary[1]}: not found in conf/ or the folder of -cd.{nearest(primary[1], sweep_names())} "
            f"Shipped sweeps: {', '.join(sweep_names())} (with -cd sweeps)"
        )
    if folder := re.search(r"Additional config directory '([^']*)' not found", text):
        return UserError(f"-cd {folder[1]}: there is no such folder")
    if re.search(r"Cannot assign \w+ to Dict\[str, str\]", text):
        return UserError(
            "hydra.sweeper.params: must be settings with their values, such as {optim.lr: '0.01,0.02'}"
        )
    if choice := re.search(r"(?:Could not find|Could not load) '([\w/]+)/([^']*)'", text):
        group, name = choice.groups()
        if extra := LAUNCHER_EXTRAS.get((group, name)):
            return UserError(f"this launcher needs its package: pip install 'gptexp[{extra}]'")
        options = re.findall(r"^\t(\S+)$", text, re.M)
        top, slash, rest = group.partition("/")
        if slash and top in group_names():  # data=folder/file.jsonl
            group, name = top, f"{rest}/{name}"
        if group == "data" and Path(name).exists():
            typed = type_data(name)
            return UserError(f"data={name}: is a file or folder, no choice; type {typed}")
        if not options:
            return UserError(
                f"{group}={name}: there is no such choice. A plugin adds it as conf/{group}/{name}.yaml"
            )
        return unknown_value(group, name, options)
    if unknown := re.search(r"In '([^']+)': Could not (?:find|load) '([^']*)'", text):
        file, name = unknown.groups()
        return UserError(f"{file}.yaml: its defaults list names {name}, and there is no such file")
    key = _full_key(error)
    mentioned = [key, *re.findall(r"full_key: (\S+)", text), *re.findall(r"'([^']*)'", text)]
    for override in reversed(parsed):  # the last word of a key counts
        name, word = override.key_or_group, str(override.input_line)
        if name in mentioned or word in text:
            return UserError(f"{as_typed(word)}: {_reason(text, name)}")
    if in_file := re.search(r"In '([^']+)'.*Key '[^']+' not in .*full_key: (\S+)", text, re.S):
        file, key = in_file.groups()
        group = file.split("/")[0]
        is_inner = "." not in key and group in group_names()
        return unknown_key(f"{group}.{key}" if is_inner else key, f"{file}.yaml: ")
    if key and "Could not override" in text:  # a key of a sweep file, which nobody has typed here
        return unknown_key(key, f"{key}: ")
    return UserError(f"{key}: {_reason(text, '')}" if key else _reason(text, ""))


def refuse_unknown_keys(overrides: list[str]) -> None:
    """Refuse an override of a key that no choice of a group has.

    Raises:
        UserError: there is one.
    """
    known = {*known_keys(), *GROUPS}
    for override in parse_overrides(overrides):
        key = override.key_or_group
        if key.split(".")[0].split("/")[0] != "hydra" and (dictionary_of(key) or key) not in known:
            raise unknown_key(key, f"{as_typed(str(override.input_line))}: ")


def unknown_key(key: str, prefix: str = "") -> UserError:
    """Return an error about a key that no choice of a group has, or not the chosen one."""
    keys = known_keys()
    if key in RENAMED:
        return UserError(f"{prefix}'{key}' is called '{RENAMED[key]}' now")
    if key in keys:
        return UserError(f"{prefix}{_explain_missing_key(key)}")
    if synonym := find_synonym(key):
        return UserError(f"{prefix}there is no key '{key}'; it is called '{synonym}' here")
    if is_epochs(key):
        return UserError(
            f"{prefix}there is no key '{key}': trainer.max_steps=N sets the length of a run, "
            f"in steps of trainer.global_batch_size examples"
        )
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


def _full_key(error: BaseException) -> str:
    """Return the key that an error of OmegaConf, or the cause of one of Hydra, is about; "" where it names none."""
    key = getattr(error, "full_key", None) or getattr(error.__cause__, "full_key", None)
    return str(key or "")


def _explain_missing_key(key: str) -> str:
    group, _, name = (dictionary_of(key) or key).partition(".")
    node, _, leaf = key.rpartition(".")
    if node in HYDRA_SETTINGS:
        names = [item.name for item in fields(HYDRA_SETTINGS[node]) if item.name[0] != "_"]
        return f"there is no such setting.{nearest(leaf, names)} Allowed: {', '.join(names)}"
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
    if key == "callbacks" and "Cannot assign" in text:
        return "there is no such choice. Name a class: callbacks.NAME._target_=my_package.MyClass"
    if text.startswith("Ambiguous value"):
        return "several values make a sweep, which needs -m"
    if variable := re.search(r"Environment variable '([^']*)' not found", text):
        return find_missing_source(f"${{oc.env:{variable[1]}}}") or text
    if other := re.search(r"Interpolation key '([^']*)' not found", text):
        return find_missing_source(f"${{{other[1]}}}") or f"there is no key '{other[1]}'"
    if unfit := re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", text):
        needed = {"Integer": "a whole number", "Float": "a number"}.get(unfit[2], unfit[2])
        return f"must be {needed}, and is '{unfit[1]}'"
    lines = [line.strip() for line in text.splitlines()]
    noise = r"$|In '|full_key|object_type|reference_type|Error merging|To append"
    reasons = [line for line in lines if not re.match(noise, line)]
    return reasons[0] if reasons else text
