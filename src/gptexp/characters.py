"""Signs that nobody sees, or takes for others: zero-width spaces, no-break spaces, curly quotes, long dashes."""

import re
import unicodedata

QUOTES = dict.fromkeys("“”„‟«»", '"') | dict.fromkeys("‘’‚‛", "'")
DASHES = dict.fromkeys("‐‑‒–—―−﹣－", "-")
OTHERS = {"＝": "=", "，": ",", "：": ":", "．": ".", "［": "[", "］": "]", "｛": "{", "｝": "}"}
LOOKALIKES = QUOTES | DASHES | OTHERS
# Joiners are letters of Persian, Hindi and emoji: they are left alone.
JOINERS = "\u200c\u200d"


def is_invisible(sign: str) -> bool:
    """Return whether a sign takes no room on a screen, or looks like a blank without being one."""
    if sign in JOINERS or sign in " \n\t":
        return False
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp")


def describe_sign(sign: str) -> str:
    """Return the name of a sign, such as `ZERO WIDTH SPACE (U+200B)`."""
    code = f"U+{ord(sign):04X}"
    if unicodedata.category(sign) == "Cs":  # Python's form of a byte that is no UTF-8
        return f"byte {ord(sign) & 0xFF:#04x}, which is not UTF-8"
    name = unicodedata.name(sign, "")
    return f"{name} ({code})" if name else code


def reveal_invisible(text: str) -> str:
    """Return a text in which each invisible sign is replaced by its name in angle brackets."""
    return "".join(f"<{describe_sign(sign)}>" if is_invisible(sign) else sign for sign in text)


def describe_signs(text: str) -> str:
    """Return "has NAME, NAME" for the invisible signs and lookalikes in a text that should be plain, or ""."""
    odd = dict.fromkeys(sign for sign in text if sign in LOOKALIKES or is_invisible(sign))
    return f"has {', '.join(map(describe_sign, odd))}" if odd else ""


def replace_signs(text: str) -> str:
    """Return a text with plain signs in place of lookalikes, and without invisible ones."""
    plain = "".join(LOOKALIKES.get(sign, sign) for sign in text)
    blanks = re.sub(r"[^\S \n\t]", " ", plain)
    return "".join(sign for sign in blanks if not is_invisible(sign)).strip()
