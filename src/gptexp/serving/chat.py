"""Turn a conversation into tokens: by the chat template of the model's folder, or as "User: ...", "Assistant: ...".

Templates are Jinja, as in transformers: https://huggingface.co/docs/transformers/chat_templating. Special tokens of the
template become special tokens; the same characters in a message stay text.
"""

import base64
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from gptexp.data.tokenizers import NumericTokenizer, Tokenizer
from gptexp.errors import UserError
from gptexp.files import read_json_object
from gptexp.serving.request_error import RequestError

ROLES = ("system", "developer", "user", "assistant")
# A model without a template goes on with the next turn.
PLAIN_STOPS = tuple(f"\n{role.capitalize()}:" for role in ROLES)
# A noncharacter of Unicode: it marks where a special text inside of a message is cut in two.
CUT = "\ufdd0"


@dataclass(frozen=True)
class Message:
    role: str
    text: str
    image: bytes | None = None


def read_messages(body: dict[str, Any]) -> list[Message]:
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


def _read_message(message: Any, where: str) -> Message:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ROLES:
        raise RequestError(f"{where}.role: must be one of {', '.join(ROLES)}", where)
    content = message.get("content")
    if isinstance(content, str):
        return Message(role, content)
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
    return Message(role, "\n".join(texts), images[0] if images else None)


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


def format_plain(messages: list[Message]) -> str:
    """Return a conversation as a text that a model without a chat template continues."""
    lines = [f"{message.role.capitalize()}: {message.text}" for message in messages]
    return "\n".join([*lines, "Assistant:"])


class ChatTemplate:
    """A chat template with the special tokens that it may name.

    Raises:
        UserError: it is not valid Jinja.
    """

    def __init__(self, source: str, special_tokens: dict[str, str], tokenizer: Tokenizer) -> None:
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = time.strftime
        try:
            self.template = environment.from_string(source)
        except TemplateError as error:
            raise UserError(f"the model's chat template is not valid Jinja ({error})") from None
        self.special_tokens, self.tokenizer = special_tokens, tokenizer

    @classmethod
    def find(cls, folder: Path, tokenizer: Tokenizer) -> "ChatTemplate | None":
        """Return the template of a model's folder: chat_template.jinja, or an entry of tokenizer_config.json."""
        file, config_file = folder / "chat_template.jinja", folder / "tokenizer_config.json"
        config = read_json_object(config_file) if config_file.is_file() else {}
        source = file.read_text("utf8") if file.is_file() else config.get("chat_template")
        if isinstance(source, list):  # several templates by name
            source = {entry["name"]: entry["template"] for entry in source}.get("default")
        if not source or isinstance(tokenizer, NumericTokenizer):
            return None
        names = ("bos_token", "eos_token", "unk_token", "pad_token")
        tokens = {name: config[name] for name in names if config.get(name)}
        texts = {k: v["content"] if isinstance(v, dict) else v for k, v in tokens.items()}
        return cls(source, texts, tokenizer)

    def encode(self, messages: list[Message]) -> list[int]:
        """Return the tokens of a conversation, up to where the assistant's next message begins.

        Raises:
            RequestError: the template refuses the conversation.
        """
        values = [
            {"role": message.role, "content": self._mark_special_texts(message.text)}
            for message in messages
        ]
        try:
            text = self.template.render(
                messages=values, add_generation_prompt=True, tools=None, **self.special_tokens
            )
        except Exception as error:  # the template computes with what it was given
            raise RequestError(
                f"messages: the chat template refuses them ({error})", "messages"
            ) from None
        tokens: list[int] = []
        start = 0
        for special in self.tokenizer.special_text.finditer(text):
            tokens += self._encode_text(text[start : special.start()])
            token = self.tokenizer.backend.token_to_id(special[0])
            assert token is not None, special[0]
            tokens.append(token)
            start = special.end()
        return tokens + self._encode_text(text[start:])

    def _mark_special_texts(self, text: str) -> str:
        """Cut each special text of a message in two, so that it is not taken for one of the template's."""
        return self.tokenizer.special_text.sub(
            lambda special: f"{special[0][:1]}{CUT}{special[0][1:]}", text.replace(CUT, "")
        )

    def _encode_text(self, text: str) -> list[int]:
        """Encode a text between special tokens."""
        if CUT not in text:
            return self.tokenizer.encode(text) if text else []
        return self.tokenizer.encode(text.replace(CUT, ""))


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)
