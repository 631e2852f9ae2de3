"""Parts of sentences that several messages have: a number with its noun, the first line of an error."""


def format_count(count: int, noun: str) -> str:
    """Return a number with its noun, "1 example" or "2,000 examples"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
