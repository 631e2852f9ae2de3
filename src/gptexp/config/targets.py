"""Import and build what a settings class names as its implementation."""

from importlib import import_module
from typing import Any

from gptexp.config.group import GroupConfig


def resolve(target: str) -> Any:
    """Return the object at `MODULE:NAME`, importing the module."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def build(config: GroupConfig, *context: Any) -> Any:
    """Build the implementation of a group's settings from them and what the group passes beside them."""
    return resolve(config.target)(config, *context)
