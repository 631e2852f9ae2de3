"""Read a conversation that waits for an answer, as requests and files write it. No torch here."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from gptexp.data.conversation import ROLES, SYSTEM_ROLES, Conversation, Message
from gptexp.data.corpora.message_lists import (
    MessageReader,
    UnknownRoleError,
    UnusableRecordError,
    find_disorder,
    read_tools,
    replace_surrogates,
)
from gptexp.errors import UserError
from gptexp.wording import shorten

ACCEPTED = '[{"role": "user", "content": "..."}], or {"messages": [...], "tools": [...]}'


def read_conversation(value: Any, where: str = "messages") -> Conversation:
    """Return the conversation in JSON values of OpenAI's form.

    Args:
        value: a text as the user's only message, a list of messages, or {"messages": [...], "tools": [...]}.
        where: that a message names.

    Raises:
        UserError: it is of another form, or has no message to answer.
    """
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    rows, tools = value, None
    if isinstance(value, dict):
        rows, tools = value.get("messages"), value.get("tools")
    reader = MessageReader({})
    if reader.keys(rows) is None:
        raise UserError(f"{where}: must be {ACCEPTED}")
    try:
        conversation = Conversation(reader.read(rows), read_tools(tools))
        conversation = Conversation.from_json(replace_surrogates(conversation.to_json()))
    except UnknownRoleError as error:
        raise UserError(
            f"{where}: the role {shorten(error.role)} is not known; it must be one of {', '.join(ROLES)}"
        ) from None
    except UnusableRecordError as error:
        raise UserError(f"{where}: {error}") from None
    if conversation.messages[-1].role not in ("user", "tool"):
        raise UserError(f"{where}: the last message must be the user's, or a tool's")
    if disorder := find_disorder((*conversation.messages, Message("assistant", "..."))):
        raise UserError(f"{where}: {disorder}")
    return conversation


def read_conversation_file(path: Path) -> Conversation:
    """Return the conversation in a JSON file.

    Raises:
        UserError: there is no such file, it is not JSON, or not of this form.
    """
    where = f"--messages {path}"
    try:
        value = json.loads(path.read_text("utf8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: {getattr(error, 'strerror', None) or error}") from None
    return read_conversation(value, where)


def with_system(conversation: Conversation, text: str | None) -> Conversation:
    """Return a conversation whose system prompt is `text`; "": it has none; None: it keeps its own."""
    if text is None:
        return conversation
    rest = (message for message in conversation.messages if message.role not in SYSTEM_ROLES)
    system = (Message("system", text),) if text else ()
    return replace(conversation, messages=(*system, *rest))
