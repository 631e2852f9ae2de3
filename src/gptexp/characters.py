"""Characters that nobody sees, or takes for others: zero-width spaces, no-break spaces, curly quotes, long dashes."""

import re
import unicodedata

QUOTES = dict.fromkeys("“”„‟«»", '"') | dict.fromkeys("‘’‚‛", "'")
DASHES = dict.fromkeys("‐‑‒–—―−﹣－", "-")
OTHERS = {"＝": "=", "，": ",", "：": ":", "．": ".", "［": "[", "］": "]", "｛": "{", "｝": "}"}
LOOKALIKES = QUOTES | DASHES | OTHERS
# Joiners are letters of Persian, Hindi and emoji: they are left alone.
JOINERS = "\u200c\u200d"


def is_invisible(character: str) -> bool:
    """Return whether a character takes no room on a screen, or looks like a blank without being one."""
    if character in JOINERS or character in " \n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp")


def describe_character(character: str) -> str:
    """Return the name of a character, such as `ZERO WIDTH SPACE (U+200B)`."""
    code = f"U+{ord(character):04X}"
    if unicodedata.category(character) == "Cs":  # Python's form of a byte that is no UTF-8
        return f"byte {ord(character) & 0xFF:#04x}, which is not UTF-8"
    name = unicodedata.name(character, "")
    return f"{name} ({code})" if name else code


def reveal_invisible(text: str) -> str:
    """Return a text in which each invisible character is replaced by its name in angle brackets."""
    return "".join(
        f"<{describe_character(character)}>" if is_invisible(character) else character
        for character in text
    )


def describe_odd_characters(text: str) -> str:
    """Return "has NAME, NAME" for the invisible characters and lookalikes in a text that should be plain, or ""."""
    odd = dict.fromkeys(
        character for character in text if character in LOOKALIKES or is_invisible(character)
    )
    return f"has {', '.join(map(describe_character, odd))}" if odd else ""


def replace_odd_characters(text: str) -> str:
    """Return a text with plain characters in place of lookalikes, and without invisible ones."""
    plain = "".join(LOOKALIKES.get(character, character) for character in text)
    blanks = re.sub(r"[^\S \n\t]", " ", plain)
    return "".join(character for character in blanks if not is_invisible(character)).strip()
