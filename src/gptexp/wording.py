"""Parts of sentences that several messages have: a count with its noun, a shortened value, an error's first line."""


def format_count(count: int, noun: str) -> str:
    """Return a number with its noun, "1 example" or "2,000 examples"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def shorten(value: object, length: int = 40) -> str:
    """Return a value as Python writes it, cut to `length` characters."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."
