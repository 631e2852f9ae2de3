"""Tokenizer files as others publish them: find, convert and describe them."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import tokenizers

from gptexp.errors import UserError
from gptexp.files import read_json_object
from gptexp.network import hub_is_reachable
from gptexp.wording import first_line

CHAT_TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_FILES = ("token*", "vocab*", "merges*", "special_tokens*", "*.model", "*.tiktoken")


@dataclass(frozen=True)
class PublishedTokenizer:
    """A tokenizer as transformers loads it, with the texts of the special tokens that its files name."""

    backend: tokenizers.Tokenizer
    eos_token: str | None
    bos_token: str | None
    chat_template: str  # in Jinja; "": it has none

    @classmethod
    def from_transformers(cls, loaded: Any) -> Self:
        template = _choose_template(loaded.chat_template)
        return cls(loaded.backend_tokenizer, loaded.eos_token, loaded.bos_token, template)


def load_from_hub(name: str) -> PublishedTokenizer:
    """Load a tokenizer from the hub or from its cache.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoTokenizer

    local = not hub_is_reachable()  # without a network the library would retry for minutes
    try:
        loaded = AutoTokenizer.from_pretrained(name, local_files_only=local)
    except (OSError, ValueError) as error:
        reason = "no network, and not in the local cache" if local else first_line(error)
        raise UserError(
            f"tokenizer.name={name}: neither a folder with tokenizer files nor a tokenizer on the Hugging Face hub "
            f"({reason})"
        ) from None
    return PublishedTokenizer.from_transformers(loaded)


def convert_by_transformers(folder: Path) -> PublishedTokenizer:
    """Convert the tokenizer files of a folder without a tokenizer.json, for instance a SentencePiece model.

    Raises:
        UserError: there are none, or transformers cannot convert them.
    """
    files = sorted({path.name for pattern in TOKENIZER_FILES for path in folder.glob(pattern)})
    if not files:
        raise UserError(f"{folder}: has no tokenizer.json and no other tokenizer file")
    models = [name for name in files if name.endswith(".model")]
    if models and importlib.util.find_spec("sentencepiece") is None:
        raise UserError(
            f"{folder}: has its tokenizer as {models[0]}, not as tokenizer.json. Install what converts it, "
            f"pip install sentencepiece protobuf, and repeat the command"
        )
    import transformers

    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # its advice concerns settings of its own
    try:
        loaded = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        published = PublishedTokenizer.from_transformers(loaded)
    except Exception as error:  # whatever the reader of the format raises
        raise UserError(
            f"{folder}: transformers cannot convert its tokenizer ({', '.join(files)}) to a tokenizer.json: "
            f"{first_line(error)}"
        ) from None
    finally:
        transformers.logging.set_verbosity(verbosity)
    if not published.backend.encode("the river", add_special_tokens=False).ids:
        raise UserError(f"{folder}: transformers finds no vocabulary in {', '.join(files)}")
    return published


def read_eos_ids(folder: Path) -> list[int]:
    """Return the tokens at which transformers ends generation: generation_config.json goes before config.json."""
    for name in ("generation_config.json", "config.json"):
        token_ids = _read_json(folder / name).get("eos_token_id")
        if token_ids is None:
            continue
        token_ids = token_ids if isinstance(token_ids, list) else [token_ids]
        if not all(type(token) is int for token in token_ids):
            raise UserError(
                f"{folder / name}: eos_token_id={token_ids}: must be a token number or a list of them"
            )
        return token_ids
    return []


def read_eos_token(folder: Path, backend: tokenizers.Tokenizer) -> str | None:
    """Return the end-of-text token that the files beside a tokenizer.json name; None: they name none."""
    if token := read_named_token(folder, "eos_token"):
        return token
    token_ids = read_eos_ids(folder)
    return backend.id_to_token(token_ids[0]) if token_ids else None


def read_named_token(folder: Path, role: str) -> str | None:
    """Return the text of the special token that the files beside a tokenizer.json name for a role, as "bos_token"."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = _read_json(folder / name).get(role)
        if isinstance(token, dict):
            token = token.get("content")
        if token and not isinstance(token, str):
            raise UserError(f"{folder / name}: {role}={token!r}: must be the text of a token")
        if token:
            return token
    return None


def read_chat_template(folder: Path) -> str:
    """Return the chat template of a folder: chat_template.jinja goes before tokenizer_config.json; "": it has none."""
    file = folder / CHAT_TEMPLATE_FILE
    if file.is_file():
        try:
            return file.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{file}: is not a UTF-8 text ({error}). Write it as UTF-8, or remove it to use the template of "
                f"tokenizer_config.json or the tags of gptexp"
            ) from None
    try:
        return _choose_template(_read_json(folder / "tokenizer_config.json").get("chat_template"))
    except (KeyError, TypeError):
        raise UserError(
            f"{folder / 'tokenizer_config.json'}: chat_template: must be a template, or a list such as "
            f'[{{"name": "default", "template": "..."}}]'
        ) from None


def _choose_template(templates: Any) -> str:
    """Return the chat template, or the one named "default" where there are several."""
    if isinstance(templates, list):
        templates = {entry["name"]: entry["template"] for entry in templates}
    if isinstance(templates, dict):
        templates = templates.get("default")
    if templates is not None and not isinstance(templates, str):
        raise TypeError(type(templates))
    return templates or ""


def _read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; {} if there is no such file."""
    try:
        return read_json_object(path) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path}: is not a JSON object ({error})") from None
