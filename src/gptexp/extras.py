"""The packages of the optional extras, such as gptexp[speech]."""

from collections.abc import Iterable
from importlib.util import find_spec

from gptexp.errors import UserError


def require_extra(extra: str, modules: Iterable[str]) -> None:
    """Check that the modules of an extra are installed, without importing them.

    Raises:
        UserError: one is missing.
    """
    if missing := [module for module in modules if find_spec(module) is None]:
        raise UserError(f"{', '.join(missing)}: not installed. Type: pip install 'gptexp[{extra}]'")
