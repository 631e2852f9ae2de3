"""The settings classes of every group, by kind. Plugins add theirs with `register`."""

from typing import TypeVar

from gptexp.config.group import GroupConfig
from gptexp.errors import UserError

Schema = TypeVar("Schema", bound=type[GroupConfig])

_schemas: dict[str, dict[str, type[GroupConfig]]] = {}


def register(schema: Schema) -> Schema:
    """Make a settings class a choice of its group: `task=KIND`, `data=KIND` and so on. Use it as a decorator.

    Raises:
        UserError: it has no kind or no target, or another class has the same kind.
    """
    kind, name = vars(schema).get("kind"), _name(schema)
    if "__dataclass_fields__" not in vars(schema):
        raise UserError(f"{name}: decorate it with @dataclass, below @register")
    if not isinstance(kind, str):
        raise UserError(f"{name}: set `kind: str`, the name that it has in its group")
    if not schema.target:
        raise UserError(f"{name}: set `target`, the implementation as 'MODULE:NAME'")
    other = _schemas.setdefault(schema.config_group, {}).setdefault(kind, schema)
    # The same name again is a module, or a notebook's cell, that ran twice. A `_target_` may have been edited.
    if _name(other) != name and other.parameters is None:
        raise UserError(
            f"{schema.config_group}={kind}: both {_name(other)} and {name} have this kind"
        )
    _schemas[schema.config_group][kind] = schema
    return schema


def schemas(group: str) -> dict[str, type[GroupConfig]]:
    """Return the settings classes of a group by kind."""
    return _schemas.get(group, {})


def _name(schema: type[GroupConfig]) -> str:
    return f"{schema.__module__}.{schema.__qualname__}"
