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


class AnswerText:
    """The text of an answer whose tokens arrive one at a time, up to the first stop string.

    Attributes:
        tokens: all tokens so far.
        certain: length of the text that further tokens do not change.
        has_stopped: whether the text has a stop string, behind which nothing follows.
    """

    def __init__(self, decode: Decode, stop_strings: Sequence[str] = ()) -> None:
        self.decode, self.stop_strings = decode, stop_strings
        self.tokens: list[int] = []
        self.text, self.certain, self.has_stopped = "", 0, False

    def add(self, token: int) -> str:
        """Take a token, and return the text that is certain now and was not before.

        Incomplete characters, and text that may be the beginning of a stop string, wait for the next tokens.
        """
        self.tokens.append(token)
        self.text = self.decode(self.tokens)
        end = find_stop(self.text, self.stop_strings)
        if end is not None:
            self.has_stopped = True
            self.text = self.text[:end]
            return self.finish()
        # The bytes of an incomplete character are decoded to the replacement character.
        complete = self.text.rstrip("\N{REPLACEMENT CHARACTER}")
        return self._release(len(complete) - _longest_partial_stop(complete, self.stop_strings))

    def finish(self) -> str:
        """Return the rest of the text, after the last token."""
        return self._release(len(self.text))

    def _release(self, end: int) -> str:
        piece = self.text[self.certain : end]
        self.certain = max(self.certain, end)
        return piece


def stream_text(
    tokens: Iterable[int], decode: Decode, stop_strings: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the text of the tokens as soon as it is certain, up to the first stop string."""
    answer = AnswerText(decode, stop_strings)
    for token in tokens:
        if piece := answer.add(token):
            yield piece
        if answer.has_stopped:
            return
    if rest := answer.finish():
        yield rest


def find_stop(text: str, stop_strings: Sequence[str]) -> int | None:
    """Return the index of the first stop string in the text, or None."""
    return min((i for stop in stop_strings if (i := text.find(stop)) >= 0), default=None)


def _longest_partial_stop(text: str, stop_strings: Sequence[str]) -> int:
    """Return how many characters at the end of the text may begin a stop string."""
    return max(
        (
            length
            for stop in stop_strings
            for length in range(1, min(len(stop), len(text) + 1))
            if text.endswith(stop[:length])
        ),
        default=0,
    )
