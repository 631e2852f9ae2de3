"""What a corpus is: examples with named text fields, in an order that never changes, and a fingerprint."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from gptexp.errors import UserError, nearest

TEXTS = (("text",), ("source", "target"), ("source", "terms"))
SUGGESTED_SOURCES = {
    ("caption",): "data=images, data=hub or data=scenes",
    ("voice", "text"): "data=recordings or data=spoken",
}
SPLIT_NAMES = {
    "train": "train",
    "validation": "val",
    "valid": "val",
    "dev": "val",
    "val": "val",
    "test": "test",
    "unseen": "unseen",
}


@dataclass(slots=True)
class Example:
    fields: dict[str, str]  # such as {"text": ...} or {"source": ..., "target": ...}
    split: str | None = (
        None  # one of splits.SPLITS where the source says so; None: assigned by content
    )
    ends_document: bool = True  # False: the next example goes on with the same document
    media: Callable[[], NDArray] | None = (
        None  # reads a picture's frames or a sound's samples, as in media.py
    )
    group: str | None = None  # which it is: several captions can be about one

    @property
    def group_key(self) -> str:
        """What examples may have in common only on one side of a split: a picture, a source, a text to be spoken."""
        return (
            self.group
            or self.fields.get("source")
            or self.fields.get("text")
            or self.fields.get("caption", "")
        )


class Corpus(ABC):
    """Examples can be read any number of times, one at a time, in the same order."""

    supported_fields: ClassVar[tuple[tuple[str, ...], ...]] = (
        TEXTS  # fields that a task can ask it for
    )
    has_fixed_splits: ClassVar[bool] = (
        False  # True: of every example, so that nothing is left to assign
    )

    @abstractmethod
    def __iter__(self) -> Iterator[Example]: ...

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What is read: names, versions, hashes, licences. Goes into data.json; the fingerprint is its hash."""


def check_field_names(names: dict[str, str], allowed: tuple[str, ...]) -> None:
    """Refuse a name for a field that is not there.

    Raises:
        UserError: `names` has such a field.
    """
    if unused := sorted(set(names) - set(allowed)):
        raise UserError(
            f"data.fields.{unused[0]}: this task has no such field.{nearest(unused[0], allowed)} It has: "
            f"{', '.join(allowed)}"
        )


def select_fields(
    record: dict[str, Any], fields: tuple[str, ...], names: dict[str, str], where: str
) -> dict[str, str]:
    """Our `fields` out of a record of the user's, whose own names for them are in `names`.

    A list of strings is joined for a source or for terms, and its first item is taken for a target or a caption.

    Raises:
        UserError: a field is missing, or is neither text, number nor list of texts.
    """
    picked = {}
    for field in fields:
        theirs = names.get(field, field)
        if theirs not in record:
            raise UserError(
                f"{where}: no field '{theirs}'. It has: {', '.join(map(str, record)) or 'nothing'}. "
                f"Name the right one with data.fields.{field}=..."
            )
        value = record[theirs]
        value = None if value != value else value  # NaN, as which tables read what is missing
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            value = (
                value[0]
                if field in ("target", "caption")
                else ("; " if field == "terms" else " ").join(value)
            )
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UserError(
                f"{where}: field '{theirs}' holds {_shown(value)}; text or a list of texts is needed"
            )
        picked[field] = (
            str(value).encode("utf8", "replace").decode()
        )  # half a surrogate pair is not text
    return picked


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
