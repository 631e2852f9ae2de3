"""Read the messages of a chat in the layouts that data sets have: OpenAI's, ShareGPT's, Harmony's channels.

    {"role": "user", "content": "Hi"}      {"from": "human", "value": "Hi"}
    {"role": "assistant", "channel": "analysis", "content": "A greeting."}

Tool calls get one form: their arguments are a mapping, and keys without a value are left out, since `datasets` adds
the arguments of all other tools as nulls (axolotl#2909).
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from typing import Any

from gptexp.data.conversation import ROLES, SYSTEM_ROLES, JsonObject, Message
from gptexp.data.corpora.fields import text_of_scalar
from gptexp.wording import shorten

KEYS_OF_MESSAGE = (("role", "content"), ("from", "value"))  # OpenAI's and ShareGPT's
ROLE_NAMES = {
    **{role: role for role in ROLES},
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "model", "bot", "chatbot", "ai"), "assistant"),
    **dict.fromkeys(("function", "observation", "function_response", "ipython"), "tool"),
}
CALLING_ROLES = ("function_call", "tool_call")  # an assistant's message that is a call
THINKING_KEYS = ("thinking", "reasoning_content", "reasoning")
TOOL_PREFIX = "functions."  # of the recipient of a call, in Harmony


class UnusableRecordError(ValueError):
    """A record holds no conversation that can be learned from; the text is the reason."""


class UnknownRoleError(UnusableRecordError):
    """A message has a role that is not known."""

    def __init__(self, role: Any) -> None:
        super().__init__(
            f"the role {shorten(role)} is not known: name it with data.fields.user=..., "
            f"data.fields.assistant=... or data.fields.tool=..."
        )
        self.role = role


class MessageReader:
    """Reads lists of messages.

    Args:
        names: data.fields: the keys `role` and `content` of a message, and the names of roles, where they are others.
    """

    def __init__(self, names: dict[str, str]) -> None:
        self.role_names = ROLE_NAMES | {
            names[role].lower(): role for role in ROLES if role in names
        }
        default_role, default_content = KEYS_OF_MESSAGE[0]
        self.named_keys = None
        if "role" in names or "content" in names:
            self.named_keys = names.get("role", default_role), names.get("content", default_content)

    def keys(self, value: Any) -> tuple[str, str] | None:
        """Return the keys of role and content in a list of messages; None: it is no such list."""
        if not isinstance(value, list) or not value:
            return None
        if not all(isinstance(item, dict) for item in value):
            return None
        candidates = [self.named_keys] if self.named_keys else KEYS_OF_MESSAGE
        return next((keys for keys in candidates if all(keys[0] in item for item in value)), None)

    def read(self, items: list[JsonObject]) -> tuple[Message, ...]:
        """Return the messages of a list for which `keys` returns the keys.

        Raises:
            UnusableRecordError: a role, a part of a content or a tool call is of an unknown form.
        """
        role_key, content_key = self.keys(items) or KEYS_OF_MESSAGE[0]
        messages = [self._message(item, role_key, content_key) for item in items]
        if not any(item.get("channel") for item in items):
            return tuple(messages)
        merged: list[Message] = []
        for role, group in groupby(messages, lambda message: message.role):
            of_role = list(group)
            merged += [_merge(of_role)] if role == "assistant" else of_role
        return tuple(merged)

    def _message(self, item: JsonObject, role_key: str, content_key: str) -> Message:
        role_name = str(item[role_key]).strip().lower()
        content = read_content(item.get(content_key))
        if role_name in CALLING_ROLES:
            calls_of_text = read_tool_calls(content)
            return Message("assistant", "", tool_calls=calls_of_text, weight=_read_weight(item))
        if role_name not in self.role_names:
            raise UnknownRoleError(item[role_key])
        role = self.role_names[role_name]
        thinking = next((read_content(item[key]) for key in THINKING_KEYS if item.get(key)), "")
        calls = item.get("tool_calls") or item.get("function_call")
        message = Message(
            role,
            content,
            thinking,
            read_tool_calls(calls) if calls else (),
            read_text(item.get("tool_call_id")),
            read_text(item.get("name")),
            weight=_read_weight(item) if role == "assistant" else 1,
        )
        return _read_channel(message, item) if item.get("channel") else message


def _read_weight(item: JsonObject) -> int:
    """Return 0 for a message that is not learned: OpenAI's "weight": 0, ShareGPT's "train": false; else 1.

    Raises:
        UnusableRecordError: the weight is another number.
    """
    weight = item.get("weight")
    if item.get("train") is False or weight == 0:
        return 0
    if weight in (None, 1):
        return 1
    raise UnusableRecordError(f"a message has the weight {shorten(weight)}; 0 and 1 are read")


def _read_channel(message: Message, item: JsonObject) -> Message:
    """Return a message of Harmony, whose channel says what its content is: thinking, a call or the answer."""
    if message.role != "assistant":
        return message
    if item["channel"] == "analysis":
        return replace(message, content="", thinking=message.content)
    recipient = read_text(item.get("recipient"))
    if recipient and recipient != "all":
        call = {"name": recipient.removeprefix(TOOL_PREFIX), "arguments": message.content}
        return replace(message, content="", tool_calls=read_tool_calls(call))
    return message


def _merge(messages: list[Message]) -> Message:
    """Return one message of those that an assistant sends through several channels.

    Raises:
        UnusableRecordError: some of them are learned, and some are not.
    """
    if len({message.weight for message in messages}) > 1:
        raise UnusableRecordError("the channels of one answer have different weights")
    return replace(
        messages[-1],
        content="\n".join(message.content for message in messages if message.content),
        thinking="\n".join(message.thinking for message in messages if message.thinking),
        tool_calls=tuple(call for message in messages for call in message.tool_calls),
    )


def read_text(value: Any) -> str:
    """Return the text of a value; "" for none.

    Raises:
        UnusableRecordError: it is a list or an object.
    """
    try:
        return text_of_scalar(value) or ""
    except TypeError:
        raise UnusableRecordError(f"a text is needed, not {shorten(value)}") from None


def read_content(value: Any) -> str:
    """Return the text of a message's content, whose parts are joined by line ends.

    Raises:
        UnusableRecordError: a part is no text.
    """
    if not isinstance(value, list):
        return read_text(value)
    texts = []
    for part in value:
        if isinstance(part, dict):
            if part.get("type", "text") not in ("text", "input_text", "output_text"):
                raise UnusableRecordError(
                    f"a message has a part of type {shorten(part['type'])}; only text is read"
                )
            part = part.get("text")
        texts.append(read_text(part))
    return "\n".join(texts)


def read_tool_calls(value: Any) -> tuple[JsonObject, ...]:
    """Return tool calls in OpenAI's form, their arguments as a mapping.

    Args:
        value: one call or a list of calls, or the JSON of it; a call may lack the outer {"function": ...}.

    Raises:
        UnusableRecordError: a call has no name, or its arguments are no JSON object.
    """
    value = parse_json(value)
    calls = []
    for call in value if isinstance(value, list) else [value]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UnusableRecordError("a tool call has no name")
        arguments = function.get("arguments")
        # On OpenAI's wire they are a JSON text, in which a null has a meaning.
        is_text = isinstance(arguments, str) and bool(arguments.strip())
        arguments = parse_json(arguments) if is_text else without_nulls(arguments or {})
        if not isinstance(arguments, dict):
            raise UnusableRecordError("the arguments of a tool call are no JSON object")
        inner = {"name": function["name"], "arguments": arguments}
        identity = {"id": call["id"]} if call.get("id") else {}
        calls.append({"type": "function", "function": inner, **identity})
    return tuple(calls)


def read_tools(value: Any) -> tuple[JsonObject, ...]:
    """Return the tools that a conversation may call, in OpenAI's form.

    Args:
        value: a list of tools or its JSON; a tool may lack the outer {"function": ...}; None or "": no tools.

    Raises:
        UnusableRecordError: it is something else.
    """
    tools = parse_json(value) or []
    if not isinstance(tools, list):
        raise UnusableRecordError(f"its tools are no list, but {shorten(tools)}")
    wrapped = []
    for tool in map(parse_json, tools):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not function.get("name"):
            raise UnusableRecordError("a tool has no name")
        wrapped.append({"type": "function", "function": without_nulls(function)})
    return tuple(wrapped)


def parse_json(value: Any) -> Any:
    """Return the value of a JSON text; any other value as it is, and None for "".

    Raises:
        UnusableRecordError: the text is not JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except (ValueError, RecursionError):
        raise UnusableRecordError(f"{shorten(value)} is not JSON") from None


def replace_surrogates(text: str) -> str:
    """Return a text with "?" in place of each half of a surrogate pair, which UTF-8 cannot write."""
    return text.encode("utf8", "replace").decode()


def without_nulls(value: Any) -> Any:
    """Return a JSON value without the keys whose value is null, at any depth."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def trim_unanswered(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Return the messages up to the last one of the assistant."""
    kept = list(messages)
    while kept and kept[-1].role != "assistant":
        kept.pop()
    return tuple(kept)


def find_disorder(messages: Iterable[Message]) -> str:
    """Return why the messages are no conversation with answers, as a reason to leave it out; "": they are one."""
    previous = ""  # role of the message before; "" for the instructions of the system
    has_answer = False
    for message in messages:
        role = message.role
        if role in SYSTEM_ROLES:
            if previous:
                return "a message of the system stands behind other messages"
            continue
        if role == "assistant":
            has_answer = True
            if not (message.content.strip() or message.tool_calls):
                return "a message of the assistant is empty"
        if role == previous and role != "tool":
            return f"two messages of the {role} follow each other"
        if not previous and role != "user":
            return f"its first message is not of the user, but of the {role}"
        if (previous, role) in (("user", "tool"), ("tool", "user")):
            return f"a message of the {role} follows one of the {previous}"
        if role == "user" and not message.content.strip():
            return "a message of the user is empty"
        previous = role
    return "" if has_answer else "it has no message of the assistant"
