"""How a setting is declared."""

from dataclasses import field
from typing import Any


def setting(
    default: Any,
    doc: str,
    *,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    texts: bool = False,
    affects_result: bool = True,
) -> Any:
    """Declare a field of a settings class.

    Args:
        default: its value where nothing else is given; omegaconf.MISSING where the user must give it.
        doc: one line of documentation for users.
        choices: the allowed values, of a list the allowed items.
        texts: the value of a field of type Any, or each value of a dictionary, is a text or a list of texts.
        affects_result: False where it cannot change what a run computes, and so has no part in the run's id.
    """
    metadata = {
        "doc": doc,
        "choices": choices,
        "minimum": minimum,
        "maximum": maximum,
        "texts": texts,
        "affects_result": affects_result,
    }
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)
