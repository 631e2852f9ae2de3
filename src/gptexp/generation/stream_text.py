"""Text from tokens that come one at a time, and strings that end it."""

from collections.abc import Callable, Iterable, Iterator, Sequence

Decode = Callable[[list[int]], str]


def pieces(tokens: Iterable[int], decode: Decode, stops: Sequence[str] = ()) -> Iterator[str]:
    """The text of the tokens, as soon as it is certain: no half characters, and nothing from a stop string on.

    What may be the beginning of a stop string waits for the next tokens.
    """
    said: list[int] = []
    text, shown = "", 0
    for token in tokens:
        said.append(token)
        text = decode(said)
        end = find_stop(text, stops)
        if end is not None:
            yield text[shown:end]
            return
        certain = text.rstrip(
            "\N{REPLACEMENT CHARACTER}"
        )  # what bytes of half a character are decoded to
        begun = [n for stop in stops for n in range(1, len(stop)) if certain.endswith(stop[:n])]
        end = len(certain) - max(begun, default=0)
        if end > shown:
            yield text[shown:end]
            shown = end
    if shown < len(text):
        yield text[shown:]


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first of the stop strings begins, None where there is none."""
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)
