"""Settings classes made from `_target_: my_package.MyThing` in the YAML file of a group.

The fields are the parameters of the class or function, read from its source. Some parameters are passed by the program,
such as `config`, `fields` and `cache` of a corpus: a class declares those that it needs. All others are settings.
"""

from dataclasses import field, make_dataclass
from functools import cache
from typing import Any

from gptexp.config.group import GroupConfig
from gptexp.config.keys import base_classes
from gptexp.config.plugins import make_importable
from gptexp.config.signature import TARGET, declare, read_parameters
from gptexp.errors import UserError
from gptexp.setting_field import setting


@cache
def settings_of_target(group: str, kind: str, target: str) -> type[GroupConfig]:
    """Make the settings class of a choice of a group from the class or function that implements it.

    Raises:
        UserError: there is no such class, or one of its parameters cannot be a setting.
    """
    base = base_classes()[group]
    make_importable(target)
    parameters = read_parameters(target)
    if any(parameter.name == "kind" for parameter in parameters):
        raise UserError(
            f"{TARGET}={target}: `kind` cannot be a parameter, it is the name of the choice"
        )
    own = [parameter for parameter in parameters if parameter.name not in base.passed]
    return make_dataclass(
        _class_name(group, kind, target),
        [
            ("kind", str, field(default=kind)),
            (TARGET, str, setting(target, "class or function that implements this choice")),
            *((parameter.name, parameter.type, declare(parameter, target)) for parameter in own),
        ],
        bases=(base,),
        namespace={"__module__": __name__, "target": target, "parameters": tuple(parameters)},
    )


def __getattr__(name: str) -> Any:
    """Make a class again from its name, for pickle: launchers of sweeps send configs to other processes."""
    if name.count("|") != 2:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    group, kind, target = name.split("|")
    return settings_of_target(group, kind, target.replace("/", "."))


def _class_name(group: str, kind: str, target: str) -> str:
    """Return a name from which `__getattr__` makes the class again. It has no dots, at which pickle splits names."""
    return f"{group}|{kind}|{target.replace('.', '/')}"
