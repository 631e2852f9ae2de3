"""Names of single tokens in an answer: their text, or where a token is a part of a character, its bytes."""

import re
from functools import cache

from tokenizers import decoders

from gptexp.data.tokenizers import NumericTokenizer, Tokenizer

BYTE_ENTRY = re.compile(r"<0x([0-9A-F]{2})>")  # a byte in vocabularies of SentencePiece


def token_bytes(token: int, tokenizer: Tokenizer) -> bytes:
    """Return the bytes that a token adds to a text; a special token has those of its name."""
    if isinstance(tokenizer, NumericTokenizer):
        return f" {token}".encode()
    entry = tokenizer.backend.id_to_token(token)
    if entry is None:
        return b""
    if tokenizer.special_text.fullmatch(entry):
        return entry.encode()
    decoder = tokenizer.backend.decoder
    if isinstance(decoder, decoders.ByteLevel):
        alphabet = _byte_alphabet()
        if all(character in alphabet for character in entry):
            return bytes(alphabet[character] for character in entry)
    if byte := BYTE_ENTRY.fullmatch(entry):
        return bytes.fromhex(byte[1])
    if "\N{LOWER ONE EIGHTH BLOCK}" in repr(decoder):  # SentencePiece's space
        entry = entry.replace("\N{LOWER ONE EIGHTH BLOCK}", " ")
    return entry.encode()


def token_name(token: int, tokenizer: Tokenizer) -> str:
    """Return the text of a token, or OpenAI's form of bytes that are no text: bytes:\\xe2\\x82."""
    data = token_bytes(token, tokenizer)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


@cache
def _byte_alphabet() -> dict[str, int]:
    """Return the byte of each character in a byte-level vocabulary (GPT-2's): printable bytes stand for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + number): byte for number, byte in enumerate(others)
    }
