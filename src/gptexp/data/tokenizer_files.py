"""Tokenizer files as others publish them: find, convert and describe them."""

import importlib.util
from pathlib import Path
from typing import Any

import tokenizers

from gptexp.errors import UserError
from gptexp.files import read_json_object
from gptexp.network import hub_is_reachable
from gptexp.wording import first_line

TOKENIZER_FILES = ("token*", "vocab*", "merges*", "special_tokens*", "*.model", "*.tiktoken")


def load_from_hub(name: str) -> tuple[tokenizers.Tokenizer, str | None]:
    """Load a tokenizer and the end-of-text token that it names, from the hub or from its cache.

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
    return loaded.backend_tokenizer, loaded.eos_token


def convert_by_transformers(folder: Path) -> tuple[tokenizers.Tokenizer, str | None]:
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
        backend = loaded.backend_tokenizer
    except Exception as error:  # whatever the reader of the format raises
        raise UserError(
            f"{folder}: transformers cannot convert its tokenizer ({', '.join(files)}) to a tokenizer.json: "
            f"{first_line(error)}"
        ) from None
    finally:
        transformers.logging.set_verbosity(verbosity)
    if not backend.encode("the river", add_special_tokens=False).ids:
        raise UserError(f"{folder}: transformers finds no vocabulary in {', '.join(files)}")
    return backend, loaded.eos_token


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
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = _read_json(folder / name).get("eos_token")
        if isinstance(token, dict):
            token = token.get("content")
        if token and not isinstance(token, str):
            raise UserError(f"{folder / name}: eos_token={token!r}: must be the text of a token")
        if token:
            return token
    token_ids = read_eos_ids(folder)
    return backend.id_to_token(token_ids[0]) if token_ids else None


def _read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; {} if there is no such file."""
    try:
        return read_json_object(path) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path}: is not a JSON object ({error})") from None
