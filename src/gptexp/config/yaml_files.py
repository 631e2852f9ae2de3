"""Check the YAML files of users, before Hydra merges them: YAML 1.1 reads `no`, `12:30` and `0123` as no texts.

Every message names file, line and key, and what to type.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, DictConfig
from omegaconf._utils import get_yaml_loader

from gptexp.config.keys import declarations, dictionary_of, find_misfit_of_key, group_names
from gptexp.config.overrides import find_missing_source, read_override
from gptexp.config.values import is_text, show
from gptexp.errors import UserError
from gptexp.wording import first_line

PARAMS = "hydra.sweeper.params"
TAGS = {f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "null")}
OCTAL_OR_SEXAGESIMAL = re.compile(r"[-+]?0[0-7_]+|[-+]?[\d_]+(:[\d_.]+)+")
TEXT_TAG = "tag:yaml.org,2002:str"


def check_yaml_file(file: Path, config_path: str) -> None:
    """Refuse a file that is no YAML, and each value in it that YAML reads as something else than was written.

    Args:
        config_path: name of the file in its folder, such as `data/mine`: a group's file holds keys of the group.

    Raises:
        UserError: the file cannot be read, or one of its values has to be put into quotes.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        root = yaml.compose(text, Loader=get_yaml_loader())
    except UnicodeDecodeError:
        raise UserError(f"{file}: is not UTF-8; save it in UTF-8") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise _explain_yaml_error(file, error) from None
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise UserError(f"{file}: must hold lines KEY: VALUE, such as seed: 1")
    group = config_path.removesuffix(".yaml").rpartition("/")[0]
    if package := re.search(r"^\s*#\s*@package\s+(\S+)", text, re.M):
        group = {"_global_": "", "_group_": group}.get(package[1], package[1])
    if root is not None:
        _Checker(file, text.splitlines()).check(root, group)


def read_sweep_params(config: DictConfig, file: Path) -> None:
    """Check the values of a sweep in `hydra.sweeper.params`, and quote those that Hydra's grammar cannot read.

    Raises:
        UserError: one of them is none for its setting.
    """
    params = config
    for part in PARAMS.split("."):
        inner = params.get(part)
        if not isinstance(inner, DictConfig):
            return
        params = inner
    for key, value in list(params.items_ex(resolve=False)):
        try:
            word = read_override(f"{key!s}={show(value)}", is_sweep=True)
        except UserError as error:
            raise UserError(f"{file}: {PARAMS}: {error}") from None
        del params[key]
        read_key, _, read_value = word.partition("=")
        params[read_key] = read_value


class _Checker:
    """Walks the nodes of one file."""

    def __init__(self, file: Path, lines: list[str]) -> None:
        self.file, self.lines = file, lines

    def check(self, node: yaml.Node, key: str, is_item: bool = False) -> None:
        """Check a node and all below it; `key` is its dotted key."""
        if node.tag.startswith("!"):
            raise self._error(
                node, f"{key}: {node.tag} is a tag of YAML; a text with ! in front stands in quotes"
            )
        if isinstance(node, yaml.MappingNode):
            self._check_names(node, key)
            for name, value in node.value:
                if key == PARAMS:
                    self._check_sweep(value, str(name.value))
                else:
                    self.check(value, f"{key}.{name.value}" if key else str(name.value))
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self.check(item, key, is_item=True)
        else:
            assert isinstance(node, yaml.ScalarNode)
            self._check_scalar(node, key, is_item)
        if not is_item:
            self._check_value(node, key)

    def _check_sweep(self, node: yaml.Node, key: str) -> None:
        """Check the values of a sweep, `1,2,3`; `read_sweep_params` reads them."""
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, f"{key}: the values of a sweep are one text: {key}: 1,2,3")
        self._check_scalar(node, key, is_item=False)

    def _check_names(self, node: yaml.MappingNode, key: str) -> None:
        """Refuse a name that is no text, or that stands twice."""
        seen = set()
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise self._error(name, "a name must be a text, as in name: VALUE")
            if name.tag in TAGS and not key.startswith("callbacks"):
                typed = f'"{name.value}": ...'
                raise self._error(
                    name, f"the name {name.value} is read as {_reading(name)}; type {typed}"
                )
            if name.value in seen:
                raise self._error(name, f"{name.value} stands twice; remove one of them")
            seen.add(str(name.value))

    def _check_scalar(self, node: yaml.ScalarNode, key: str, is_item: bool) -> None:
        """Refuse a value that YAML reads as something else than was written, or that takes what is not there."""
        if reason := find_missing_source(str(node.value)):
            raise self._error(node, f"{key}: {reason}")
        if node.style is not None:
            return
        declared = declarations(key)
        name = "" if is_item else f"{key.rpartition('.')[2]}: "
        reading = _reading(node)
        if key.startswith("defaults.") or (declared and all(map(is_text, declared))):
            is_null = reading == "null" and (is_item or bool(dictionary_of(key)))
            is_choice = key.startswith("defaults.")
            is_changed = reading != "null" and (is_choice or reading != node.value)
            if is_null or (node.tag in TAGS and is_changed):
                raise self._error(
                    node,
                    f'{key}: {node.value} is read as {reading}, not as a text; type {name}"{node.value}"',
                )
            rest = self.lines[node.end_mark.line][node.end_mark.column :]
            if node.tag == TEXT_TAG and (comment := re.match(r"\s+(#\S.*)", rest)):
                raise self._error(
                    node,
                    f"{key}: {comment[1]} is read as a comment. If it belongs to the text, type "
                    f'{name}"{node.value}{rest.rstrip()}"; a comment has a blank behind #',
                )
        elif declared and node.tag in TAGS and OCTAL_OR_SEXAGESIMAL.fullmatch(node.value):
            raise self._error(
                node,
                f"{key}: {node.value} is read as {reading}; type that number, or the one that is meant, "
                f"without 0 in front and without :",
            )

    def _check_value(self, node: yaml.Node, key: str) -> None:
        """Refuse a value that is none for its setting."""
        if key in (*group_names(), "hydra") and not isinstance(node, yaml.MappingNode):
            raise self._error(
                node,
                f"{key}: must hold lines KEY: VALUE. The defaults list chooses: - override {key}: NAME",
            )
        value = _construct(node) if declarations(key) else MISSING
        if value != MISSING and (reason := find_misfit_of_key(key, value)):
            raise self._error(node, f"{key}: {show(value)}: {reason}")

    def _error(self, node: yaml.Node, message: str) -> UserError:
        return UserError(f"{self.file}:{node.start_mark.line + 1}: {message}")


def _construct(node: yaml.Node) -> Any:
    """Return the value that a node stands for."""
    return get_yaml_loader()("").construct_object(node, deep=True)


def _reading(node: yaml.Node) -> str:
    """Return how YAML reads a scalar, as text."""
    value = _construct(node)
    return "null" if value is None else str(value)


def _explain_yaml_error(file: Path, error: yaml.YAMLError) -> UserError:
    mark = getattr(error, "problem_mark", None)
    place = f"{file}:{mark.line + 1}" if mark else str(file)
    problem = getattr(error, "problem", None) or first_line(error)
    return UserError(
        f"{place}: is no YAML ({problem}). A text with : # ' \" [ {{ @ & * ! % or ` in it stands in quotes: "
        f'name: "a: b"'
    )
