"""Text from tokens: answers that continue a prompt, tokens that arrive one at a time, strings that end an answer."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile

Decode = Callable[[list[int]], str]


def decode_after(decode: Decode, prompt: Sequence[int]) -> Decode:
    """Return a function that decodes an answer to the text that follows the prompt's text.

    Tokenizers decode the first token of a text unlike the same token after others: some drop its leading space.
    """
    before = decode(list(prompt))

    def decode_answer(answer: list[int]) -> str:
        text = decode([*prompt, *answer])
        if text.startswith(before):
            return text[len(before) :]
        # The answer completes the last character of the prompt.
        same = takewhile(lambda pair: pair[0] == pair[1], zip(before, text, strict=False))
        return text[sum(1 for _ in same) :]

    return decode_answer


def stream_text(
    tokens: Iterable[int], decode: Decode, stop_strings: Sequence[str] = ()
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
