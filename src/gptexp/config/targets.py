"""Import and build the implementations that settings name."""

from importlib import import_module
from typing import Any

from gptexp.config.group import GroupConfig
from gptexp.config.signature import TARGET, UNREADABLE, split_target
from gptexp.errors import UserError


def import_target(target: str) -> Any:
    """Return the class or function at `MODULE:NAME` or `MODULE.NAME`, importing the module.

    Raises:
        UserError: the module has no such name, or cannot be imported.
    """
    module, name = split_target(target)
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{target}: {error}") from None


def build(config: GroupConfig, *context: Any) -> Any:
    """Build the implementation of a group's settings.

    A settings class names an implementation that is called with (config, *context). A `_target_` is called with those
    of its parameters that the group passes, and with its settings, by name.
    """
    if config.parameters is None:
        return import_target(config.target)(config, *context)
    return build_target(config, **dict(zip(config.passed, (config, *context), strict=False)))


def build_target(settings: GroupConfig, /, **passed: Any) -> Any:
    """Call the `_target_` of settings with its arguments, and with what the program passes."""
    arguments = {}
    for parameter in settings.parameters or ():
        value = passed.get(parameter.name, vars(settings).get(parameter.name))
        if value is not None or parameter.default is not UNREADABLE:
            arguments[parameter.name] = value
    return import_target(settings.target)(**arguments)


def build_callbacks(callbacks: dict[str, dict[str, Any]]) -> list[Any]:
    """Build the callbacks of a config."""
    return [
        import_target(settings[TARGET])(**{key: settings[key] for key in settings if key != TARGET})
        for settings in callbacks.values()
    ]
