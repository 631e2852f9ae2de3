"""A corpus is a sequence of examples with named text fields, in an order that never changes, and a description."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from gptexp.data.conversation import Conversation, Message, parse_messages

SPLITS = ("train", "val", "test", "unseen", "unsupported")
SPLIT_NAMES = {  # names that data sets use, and ours
    "train": "train",
    "validation": "val",
    "valid": "val",
    "dev": "val",
    "val": "val",
    "test": "test",
    "unseen": "unseen",
    "unsupported": "unsupported",
}


@dataclass(slots=True)
class Example:
    fields: dict[str, str]  # for example {"text": ...} or {"source": ..., "target": ...}
    split: str | None = None  # one of SPLITS; None: assigned by content
    ends_document: bool = True  # False: the next example continues the same document
    media: Callable[[], NDArray] | None = None  # reads an image's frames or the samples of audio
    group: str | None = None  # examples of one group stay in one split; None: see `group_key`
    left_out: str = ""  # why it is not used, "the field 'target' is empty" for example; "": it is
    where: str = ""  # its place in the source, for messages: "pairs.jsonl, line 3"
    notes: tuple[str, ...] = ()  # what its reader changed or ignored, for the data account

    def leave_out(self, reason: str, instance: str = "") -> None:
        """Mark the example as one that cannot be used.

        Args:
            instance: text of the example that shows the reason.
        """
        self.left_out = reason
        if shortened := " ".join(instance.split())[:40]:
            self.where = f"'{shortened}'" + (f" in {self.where}" if self.where else "")

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages in the fields `conversation`, or `prompt`, `chosen` and `rejected`; (): it has no such field."""
        if "conversation" in self.fields:
            return Conversation.from_json(self.fields["conversation"]).messages
        if "chosen" in self.fields:
            return tuple(m for text in self.fields.values() for m in parse_messages(text))
        return ()

    @property
    def texts(self) -> list[str]:
        """The texts of the example as a reader sees them: of its messages, or else its fields."""
        return [text for name in self.fields for text in self.texts_of(name)]

    def texts_of(self, name: str) -> list[str]:
        """Return the texts of a field: those of its messages that have one, or the field itself."""
        if name == "conversation":
            messages = Conversation.from_json(self.fields[name]).messages
        elif "chosen" in self.fields:
            messages = parse_messages(self.fields[name])
        else:
            return [self.fields[name]]
        return [message.text for message in messages if message.text]

    @property
    def record(self) -> dict[str, Any]:
        """The example as the record of a JSON file, which data=files reads as this example."""
        if "conversation" in self.fields:
            return json.loads(self.fields["conversation"])
        if "chosen" in self.fields:
            values = {name: json.loads(text) for name, text in self.fields.items()}
            if isinstance(prompt := values["prompt"], dict):  # a conversation with tools
                return {**values, "prompt": prompt["messages"], "tools": prompt["tools"]}
            return values
        return dict(self.fields)

    @property
    def group_key(self) -> str:
        """The group of the example: examples with the same key must not be separated by the split."""
        if self.group is None and (messages := self.messages):
            return Conversation(messages).group_key
        return (
            self.group
            or self.fields.get("source")
            or self.fields.get("text")
            or self.fields.get("caption", "")
        )


class Corpus(ABC):
    """Examples that can be read any number of times, one at a time, in the same order.

    A subclass is called with the settings, the fields that the task needs, and the cache folder. It also yields a
    record that cannot be used, with the reason in `left_out`, so that the data account counts it.
    """

    supported_fields: ClassVar[tuple[tuple[str, ...], ...]] = ()  # of a task; (): any
    medium: ClassVar[str] = ""  # "image", "audio", or "": examples are texts alone
    has_fixed_splits: ClassVar[bool] = False  # True: every example names its split

    @abstractmethod
    def __iter__(self) -> Iterator[Example]: ...

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return names, versions, hashes and licences as JSON values: data.json, and the key of the token store."""
