"""Check the callbacks of a config against the parameters of their classes."""

from dataclasses import make_dataclass
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gptexp.config.plugins import make_importable
from gptexp.config.signature import REQUIRED, TARGET, declare, read_parameters
from gptexp.errors import UserError, nearest


def check_arguments(key: str, node: Any) -> dict[str, Any]:
    """Return {"_target_": ..., argument: value, ...} with values of the types that the class declares.

    Raises:
        UserError: there is no such class, or it has no such parameter of this type.
    """
    if not isinstance(node, dict) or not isinstance(target := node.get(TARGET), str):
        raise UserError(
            f"{key}: name a class, {key}._target_=my_package.MyClass, and its arguments beside it"
        )
    make_importable(target)
    known = {parameter.name: parameter for parameter in read_parameters(target)}
    for name in node.keys() - {TARGET} - known.keys():
        raise UserError(
            f"{key}.{name}: {target} has no such parameter.{nearest(name, known)} "
            f"Allowed: {', '.join(known)}"
        )
    missing = [
        name for name, item in known.items() if item.default is REQUIRED and name not in node
    ]
    if missing:
        raise UserError(f"{key}.{missing[0]} must be given: {target} needs it")
    arguments = [known[name] for name in node if name != TARGET]
    typed = OmegaConf.structured(
        make_dataclass("Arguments", [(p.name, p.type, declare(p)) for p in arguments])
    )
    for name in node.keys() - {TARGET}:
        try:
            typed[name] = node[name]
        except OmegaConfBaseException as error:
            raise UserError(f"{key}.{name}={node[name]}: {str(error).splitlines()[0]}") from error
    return {TARGET: target, **typed}
