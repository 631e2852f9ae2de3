"""Text from tokens that arrive one at a time, and strings that end it."""

from collections.abc import Callable, Iterable, Iterator, Sequence


def stream_text(
    tokens: Iterable[int], decode: Callable[[list[int]], str], stop_strings: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the text of the tokens as soon as it is certain, up to the first stop string.

    Incomplete characters, and text that may be the beginning of a stop string, wait for the next tokens.
    """
    seen: list[int] = []
    text, yielded = "", 0
    for token in tokens:
        seen.append(token)
        text = decode(seen)
        end = find_stop(text, stop_strings)
        if end is not None:
            yield text[yielded:end]
            return
        # The bytes of an incomplete character are decoded to the replacement character.
        certain = text.rstrip("\N{REPLACEMENT CHARACTER}")
        end = len(certain) - _longest_partial_stop(certain, stop_strings)
        if end > yielded:
            yield text[yielded:end]
            yielded = end
    if yielded < len(text):
        yield text[yielded:]


def find_stop(text: str, stop_strings: Sequence[str]) -> int | None:
    """Return the index of the first stop string in the text, or None."""
    return min((i for stop in stop_strings if (i := text.find(stop)) >= 0), default=None)


def _longest_partial_stop(text: str, stop_strings: Sequence[str]) -> int:
    """Return how many characters at the end of the text may begin a stop string."""
    return max(
        (n for stop in stop_strings for n in range(1, len(stop)) if text.endswith(stop[:n])),
        default=0,
    )
