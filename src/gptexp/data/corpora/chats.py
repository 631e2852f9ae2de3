"""Explain how to read a chat, a list of messages with roles, as examples with the fields of a task."""

import json
from typing import Any

from gptexp.wording import shorten

ANSWERING_ROLES = ("assistant", "gpt", "model", "bot", "chatbot")
MESSAGE_KEYS = (("role", "content"), ("from", "value"))  # OpenAI's and ShareGPT's


def explain_chat(record: dict[str, Any], fields: tuple[str, ...]) -> str:
    """Say which settings name the messages of a chat, and which row can be written instead; "": it has no chat."""
    for name, value in record.items():
        for role, content in MESSAGE_KEYS:
            if _is_chat(value, role, content):
                return _suggest_settings(name, value, role, content, fields)
    return ""


def _is_chat(value: Any, role: str, content: str) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and role in item for item in value)
        and content in value[0]
    )


def _suggest_settings(
    name: str, chat: list[dict[str, Any]], role: str, content: str, fields: tuple[str, ...]
) -> str:
    """Name the first answer of a chat and the message before it."""
    answers = (number for number in range(1, len(chat)) if chat[number][role] in ANSWERING_ROLES)
    answer = next(answers, len(chat) - 1)
    numbers = (max(0, answer - 1), answer)
    paths, texts = [], []
    for number in numbers:
        path, text = _text_of_message(chat[number].get(content, ""))
        paths.append(f"{name}.{number}.{content}{path}")
        texts.append(shorten(text).strip("'\""))
    question_path, answer_path = paths
    if fields == ("source", "target"):
        keys = f"data.fields.source={question_path} data.fields.target={answer_path}"
        row = dict(zip(fields, texts, strict=True))
    else:
        keys = f"'data.fields.{fields[0]}={{{question_path}}}\\n{{{answer_path}}}'"
        row = {fields[0]: " ".join(texts), **dict.fromkeys(fields[1:], "...")}
    keys = f"Name its messages, {keys}, or write" if answer else "Write"
    example = json.dumps(row, ensure_ascii=False)
    return f". '{name}' is a chat, which task=chat reads. {keys} one row for each answer: {example}"


def _text_of_message(content: Any) -> tuple[str, str]:
    """Return the path of the first text in a message's content, which may be a list of parts, and that text.

    Where there is none, the path is that of the content.
    """
    parts = content if isinstance(content, list) else []
    for number, part in enumerate(parts):
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            return f".{number}.text", part["text"]
    return "", content if isinstance(content, str) else "..."
