"""Read the messages of a request, and write them as a text for a model without a chat format."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gptexp.data.conversation import ROLES, JsonObject, Message
from gptexp.data.corpora.message_lists import UnusableRecordError, read_tool_calls, read_tools
from gptexp.serving.request_error import RequestError

# A model without a chat format goes on with the next turn.
PLAIN_STOPS = tuple(f"\n{role.capitalize()}:" for role in ROLES)


@dataclass(frozen=True)
class RequestMessage(Message):
    image: bytes | None = None


def read_messages(body: dict[str, Any]) -> list[RequestMessage]:
    """Check the messages of a request.

    Raises:
        RequestError: there are none, or one has another form than OpenAI's.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError(
            'messages: must be a list such as [{"role": "user", "content": "..."}]', "messages"
        )
    return [_read_message(message, f"messages[{i}]") for i, message in enumerate(messages)]


def _read_message(message: Any, where: str) -> RequestMessage:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ROLES:
        raise RequestError(f"{where}.role: must be one of {', '.join(ROLES)}", where)
    content = message.get("content")
    calls = _read_calls(message, where)
    if content is None and calls:
        content = ""
    if isinstance(content, str):
        return RequestMessage(role, content, tool_calls=calls)
    if not isinstance(content, list):
        raise RequestError(f"{where}.content: must be a text, or a list of parts", where)
    texts, images = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            images.append(_read_image(part.get("image_url"), where))
        else:
            raise RequestError(
                f"{where}.content: its parts must be of type text or image_url", where
            )
    if len(images) > 1:
        raise RequestError(f"{where}.content: has {len(images)} images; give one", where)
    image = images[0] if images else None
    return RequestMessage(role, "\n".join(texts), tool_calls=calls, image=image)


def _read_calls(message: dict[str, Any], where: str) -> tuple[JsonObject, ...]:
    """Return the tool calls of an assistant's message, their arguments as a mapping."""
    try:
        return read_tool_calls(message["tool_calls"]) if message.get("tool_calls") else ()
    except UnusableRecordError as error:
        raise RequestError(f"{where}.tool_calls: {error}", where) from None


def read_request_tools(body: dict[str, Any]) -> tuple[JsonObject, ...]:
    """Return the tools that a request offers the model.

    Raises:
        RequestError: they have another form than OpenAI's.
    """
    try:
        return read_tools(body.get("tools"))
    except UnusableRecordError as error:
        raise RequestError(f"tools: {error}", "tools") from None


def _read_image(value: Any, where: str) -> bytes:
    """Decode an image of a data: URI; addresses are never fetched."""
    url = value.get("url") if isinstance(value, dict) else value
    head, _, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not head.startswith("data:image/") or not head.endswith(";base64"):
        raise RequestError(
            f"{where}: image_url.url must be a data: URI, data:image/png;base64,...", where
        )
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise RequestError(f"{where}: image_url.url is not valid base64", where) from None


def format_plain(messages: Iterable[Message]) -> str:
    """Return a conversation as a text that a model without a chat format continues."""
    lines = [f"{message.role.capitalize()}: {message.text}" for message in messages]
    return "\n".join([*lines, "Assistant:"])
