"""The character table of nanoGPT's character models, meta.pkl, as a tokenizer."""

import pickle
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models

from gptexp.data.tokenizers import SPLIT_CHARACTERS, UNK, Tokenizer
from gptexp.errors import UserError


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts and tables of them; a pickle that names a function or a class is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def load_character_table(path: Path) -> Tokenizer:
    """Load the character table that nanoGPT's prepare.py writes beside its .bin files.

    Raises:
        UserError: it is something else.
    """
    try:
        with path.open("rb") as stream:
            characters = _PlainUnpickler(stream).load()["stoi"]
        vocabulary = {str(text): int(number) for text, number in characters.items()}
        if not vocabulary or sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise ValueError("its numbers do not count its characters from 0 on")
    except Exception as error:  # whatever a damaged pickle leads to
        raise UserError(f"{path}: not a character table of nanoGPT ({error})") from None
    vocabulary.setdefault(UNK, max(vocabulary.values(), default=-1) + 1)
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    backend.pre_tokenizer = SPLIT_CHARACTERS
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([UNK])
    return Tokenizer(backend)
