"""Import what a settings class names as its implementation."""

from importlib import import_module
from typing import Any


def resolve(target: str) -> Any:
    """Return the object at `MODULE:NAME`, importing the module."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)
