"""Lay pairs of answers to one prompt out as tokens, in the form of a chat: the loss is on both answers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.data.chat_format import ChatFormat, RefusedConversationError
from gptexp.data.conversation import Conversation, Message, parse_messages
from gptexp.data.corpora import Example
from gptexp.data.datasets.preference_pairs import PairTokens, PreferencePairs
from gptexp.data.permutation import feistel_permutation
from gptexp.data.token_store import TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.loss import PreferenceLoss
from gptexp.tasks.chat_turns import ChatTurn, ChatTurns, keep_latest_turns
from gptexp.tasks.layout import EvalExample, cut_beyond

Messages = tuple[Message, ...]
NO_TOKENS = PairTokens((), (), ())


@dataclass(frozen=True, slots=True)
class AnswerPair(ChatTurn):
    """A prompt, and two answers to it.

    These fields are slots: the id of a held-out example is a hash of its __dict__, and depends on no weights.

    Attributes:
        tokens: of the prompt and of both answers, as they are trained on.
        rejected: the text of the rejected answer.
        reference: [2], log-probabilities of the answers before training; None: they are not known.
    """

    tokens: PairTokens = NO_TOKENS
    rejected: str = ""
    reference: NDArray[np.float32] | None = None


class AnswerPairs(ChatTurns):
    """Prompts with a chosen and a rejected answer, each an assistant's message.

    Attributes:
        reference: log-probabilities [N, 2] of the answers before training, by split, once they are known.
    """

    fields = ("prompt", "chosen", "rejected")

    def __init__(self, context: int, max_new_tokens: int, preference: PreferenceLoss) -> None:
        super().__init__(context, max_new_tokens, packing="none")
        self.preference = preference
        self.reference: dict[str, NDArray[np.float32]] = {}

    def fingerprint(self) -> dict[str, Any]:
        return {"layout": "pairs of answers", "context": self.context}

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        chat = self.format(tokenizer)
        encoded: list[TokenizedExample | None] = []
        for example in examples:
            try:
                encoded.append(self._encode_pair(example, chat))
            except RefusedConversationError as error:
                example.leave_out(str(error), example.texts[0])
                encoded.append(None)
        return encoded

    def _encode_pair(self, example: Example, chat: ChatFormat) -> TokenizedExample:
        """Encode a pair. A prompt that is too long loses its oldest turns; an answer is never cut.

        Raises:
            RefusedConversationError: the pair does not fit, or is none.
        """
        prompt, chosen, rejected = _parse_pair(example.fields)
        pair = _render_pair(chat, prompt, chosen, rejected)
        length = len(pair.prompt)
        room = self.context + 1 - max(len(pair.chosen), len(pair.rejected))
        if length > room:
            prompt = keep_latest_turns(prompt, chat, room)
            pair = _render_pair(chat, prompt, chosen, rejected)
        if len(pair.prompt) > room:
            raise RefusedConversationError(
                f"its longer answer and the last turn of its prompt do not fit into model.context={self.context}"
            )
        if pair.chosen == pair.rejected:
            raise RefusedConversationError("its answers have the same tokens")
        setting = f"model.context={self.context}, into which its last turns fit with both answers"
        return TokenizedExample(
            [*pair.prompt, *pair.chosen, *pair.rejected],
            prefix=len(pair.prompt),
            targets=len(pair.chosen),
            cuts=cut_beyond(len(pair.prompt), length, "prompt", setting),
        )

    def label_name(self, label: int) -> str:
        return ("chosen", "rejected")[label]

    def dataset(self, store: TokenStore, split: str, seed: int | None) -> PreferencePairs:
        return PreferencePairs(store, split, self.preference, self.reference.get(split))

    def eval_examples(self, store: TokenStore, split: str, count: int) -> Iterator[EvalExample]:
        pairs, reference = self.dataset(store, split, None), self.reference.get(split)
        total = len(pairs)
        count = min(count or total, total)
        sampled = set(feistel_permutation(np.arange(count), total, seed=0, epoch=0).tolist())
        for number, fields in enumerate(store.examples(split)):
            if number in sampled:
                prompt, chosen, rejected = _parse_pair(fields)
                pair = AnswerPair(
                    prompt,
                    chosen[-1].kind,
                    pairs.pair(number),
                    rejected[-1].text,
                    None if reference is None else reference[number],
                )
                yield EvalExample(pair, chosen[-1].text)


def _parse_pair(fields: dict[str, str]) -> tuple[Conversation, Messages, Messages]:
    """Return the prompt, with its tools, and both answers."""
    prompt = Conversation.from_json(fields["prompt"])
    return prompt, parse_messages(fields["chosen"]), parse_messages(fields["rejected"])


def _render_pair(
    chat: ChatFormat, prompt: Conversation, chosen: Messages, rejected: Messages
) -> PairTokens:
    """Return the tokens of a prompt, which ends with the header of the answer, and of both answers.

    Raises:
        RefusedConversationError: the chat format has no place for a message, or an answer is no single message.
    """
    start = chat.render(prompt, reply=True).tokens
    answers = []
    for answer in (chosen, rejected):
        rendered = chat.render(replace(prompt, messages=(*prompt.messages, *answer)))
        count = sum(rendered.learned[len(start) :])
        end = len(start) + count
        if rendered.tokens[: len(start)] != start or not all(rendered.learned[len(start) : end]):
            raise RefusedConversationError("one of its answers is not a single message")
        answers.append(rendered.tokens[len(start) : end])
    return PairTokens(start, *answers)
