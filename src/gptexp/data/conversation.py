"""Hold a conversation: messages with roles, the tools that they may call, and one spelling of both as JSON.

The fields of an example hold this JSON. `conversation` is that of a Conversation; `chosen` and `rejected` are that of a
list of messages, and so is `prompt`, unless it has tools: then it is that of a Conversation. No text in it has a
meaning beyond itself: <|end|> in a message stays text.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

SYSTEM_ROLES = ("system", "developer")
ROLES = (*SYSTEM_ROLES, "user", "assistant", "tool")

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Message:
    role: str  # one of ROLES
    content: str
    thinking: str = ""  # that precedes the content of an assistant's message
    # {"type": "function", "function": {"name": ..., "arguments": {...}}, "id": ...}; "id" may be missing.
    tool_calls: tuple[JsonObject, ...] = ()
    tool_call_id: str = ""  # of the call that a tool's message answers
    name: str = ""  # of the tool, or of the person
    kind: str = ""  # of the question that an assistant's message answers, by which it is scored; templates never see it
    weight: int = (
        1  # of the loss of an assistant's message: 1, or 0 for none; templates never see it
    )

    def as_json(self) -> JsonObject:
        """Return the message without its empty fields, except for role and content."""
        values: JsonObject = {"role": self.role, "content": self.content}
        for key in ("thinking", "tool_calls", "tool_call_id", "name", "kind"):
            if value := getattr(self, key):
                values[key] = value
        return values if self.weight else values | {"weight": 0}

    @classmethod
    def from_json(cls, values: JsonObject) -> Self:
        return cls(**{**values, "tool_calls": tuple(values.get("tool_calls", ()))})

    def as_dict(self) -> JsonObject:
        """Return the message as chat templates read it: the thinking under both of its usual names."""
        values = self.as_json()
        for key in ("kind", "weight"):
            values.pop(key, None)
        if self.thinking:
            values["reasoning_content"] = self.thinking
        if self.tool_calls:
            values["tool_calls"] = list(self.tool_calls)
        return values

    @property
    def is_learned(self) -> bool:
        """Whether the message is an answer whose loss counts."""
        return self.role == "assistant" and self.weight > 0

    @property
    def text(self) -> str:
        """All that the message says: its thinking, its content and its tool calls."""
        calls = (dump_json(call["function"]) for call in self.tool_calls)
        return "\n".join(part for part in (self.thinking, self.content, *calls) if part)


@dataclass(frozen=True)
class Conversation:
    messages: tuple[Message, ...]
    tools: tuple[JsonObject, ...] = ()  # {"type": "function", "function": {"name": ...}}

    def to_json(self) -> str:
        """Return the one spelling of the conversation: equal conversations have equal texts."""
        values: JsonObject = {"messages": [message.as_json() for message in self.messages]}
        if self.tools:
            values["tools"] = self.tools
        return dump_json(values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the conversation of its JSON, or of that of a list of messages."""
        values = json.loads(text)
        if isinstance(values, list):
            values = {"messages": values}
        messages = tuple(map(Message.from_json, values["messages"]))
        return cls(messages, tuple(values.get("tools", ())))

    def to_dicts(self) -> list[JsonObject]:
        """Return the messages in OpenAI's shape, the arguments of tool calls as mappings, for chat templates."""
        return [message.as_dict() for message in self.messages]

    @cached_property
    def group_key(self) -> str:
        """The system prompt and the first message of the user: conversations that share them stay in one split."""
        first_user = next((m.content for m in self.messages if m.role == "user"), "")
        system = (m.content for m in self.messages if m.role in SYSTEM_ROLES)
        return "\n".join((*system, first_user))


def dump_messages(messages: Iterable[Message]) -> str:
    """Return the JSON of a list of messages."""
    return dump_json([message.as_json() for message in messages])


def parse_messages(text: str) -> tuple[Message, ...]:
    """Return the messages of a JSON list that `dump_messages` has written, or of the JSON of a conversation."""
    return Conversation.from_json(text).messages


def dump_json(value: Any) -> str:
    """Return the shortest JSON of a value, its keys in their order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
