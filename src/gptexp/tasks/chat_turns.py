"""Lay conversations out as tokens, by the tokenizer's chat template or with our tags: the assistant's are learned."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gptexp.data.chat_format import (
    ChatFormat,
    RefusedConversationError,
    TaggedChat,
    add_chat_tags,
    find_chat_format,
)
from gptexp.data.conversation import SYSTEM_ROLES, Conversation, Message
from gptexp.data.corpora import Example
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.datasets.packed_conversations import ConversationDataset, PackedConversations
from gptexp.data.permutation import feistel_permutation
from gptexp.data.token_store import Cut, TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.generation.prompt import Prompt
from gptexp.tasks.layout import EvalExample, Layout, cut_beyond
from gptexp.tasks.training_answers import find_runs


@dataclass(frozen=True)
class ChatTurn:
    """A conversation up to a message that the assistant has to write.

    Attributes:
        kind: of its last question, as the data name it; "": they do not.
    """

    conversation: Conversation
    kind: str = ""

    def __str__(self) -> str:
        return _join_texts(list(self.conversation.messages))

    def __len__(self) -> int:
        return len(str(self))

    def outline(self) -> str:
        """Return the system prompt and the last message as a text, with "..." for the messages in between."""
        system, turns = split_turns(self.conversation)
        earlier = [message for turn in turns for message in turn][:-1]
        parts = [_join_texts(system), "..." if earlier else ""]
        return "\n".join([*filter(None, parts), _join_texts(turns[-1][-1:])])


class ChatTurns(Layout):
    """Conversations in the form of the tokenizer's chat template, or in ours; the loss is on the assistant's messages.

    Args:
        max_new_tokens: longest answer; a history is cut to the rest of the context.
        packing: best_fit or none, as in task.packing.
    """

    fields: tuple[str, ...] = ("conversation",)
    learned_fields = ()  # a part of a conversation is learned
    shows_example = True

    def __init__(self, context: int, max_new_tokens: int, packing: str) -> None:
        self.context, self.max_new_tokens = context, max_new_tokens
        self.document_mask = self.packs = packing == "best_fit"
        self._format: tuple[Tokenizer, ChatFormat] | None = None  # of the last tokenizer

    @property
    def has_fixed_lengths(self) -> bool:
        return self.packs

    def fingerprint(self) -> dict[str, Any]:
        return {"layout": "chat", "context": self.context}

    def format(self, tokenizer: Tokenizer) -> ChatFormat:
        """Return how this tokenizer writes a conversation."""
        if self._format is None or self._format[0] is not tokenizer:
            self._format = tokenizer, find_chat_format(tokenizer)
        return self._format[1]

    def extend_tokenizer(self, tokenizer: Tokenizer) -> Tokenizer:
        return add_chat_tags(tokenizer)

    def has_new_tokens(self, tokenizer: Tokenizer) -> bool:
        return isinstance(self.format(tokenizer), TaggedChat)

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        chat = self.format(tokenizer)
        return [self._sequence(example, chat) for example in examples]

    def _sequence(self, example: Example, chat: ChatFormat) -> TokenizedExample | None:
        conversation = Conversation.from_json(example.fields["conversation"])
        limit, setting = self.context + 1, f"model.context={self.context}"
        try:
            rendered = chat.render(conversation)
            length = len(rendered.tokens)
            if length > limit:
                fitting = keep_fitting_turns(conversation, chat, limit)
                if fitting is None:
                    reason = f"none of its questions fits with its answer into {setting}"
                    example.leave_out(reason, example.texts[0])
                    return None
                rendered = chat.render(fitting)
        except RefusedConversationError as error:
            example.leave_out(str(error), example.texts[0])
            return None
        targets = sum(rendered.learned[1:])
        if not targets:
            example.leave_out("it has no answer to learn", example.texts[0])
            return None
        setting = f"{setting}, into which its first turns fit"
        cuts = cut_beyond(len(rendered.tokens), length, "conversation", setting)
        for part in chat.unwritten_parts(conversation):
            example.notes = (*example.notes, f"the chat template does not write its {part}")
        return TokenizedExample(
            rendered.tokens, targets=targets, learned=rendered.learned, cuts=cuts
        )

    def dataset(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        if self.packs and seed is not None:
            return PackedConversations(store, split, self.context, seed)
        return ConversationDataset(store, split)

    def eval_examples(self, store: TokenStore, split: str, count: int) -> Iterator[EvalExample]:
        """Yield answers drawn from all conversations of a split, each with the true history before it."""
        turns = [
            (conversation, number)
            for fields in store.examples(split)
            for conversation in [Conversation.from_json(fields["conversation"])]
            for number, message in enumerate(conversation.messages)
            if message.is_learned and number
        ]
        if not turns:
            return
        count = min(count or len(turns), len(turns))
        for place in sorted(feistel_permutation(np.arange(count), len(turns), seed=0, epoch=0)):
            conversation, number = turns[place]
            answer = conversation.messages[number]
            history = replace(conversation, messages=conversation.messages[:number])
            reference = answer.content
            if answer.thinking or answer.tool_calls:  # as the chat format writes them
                until = replace(conversation, messages=conversation.messages[: number + 1])
                rendered = self.format(store.tokenizer).render(until)
                start, end = find_runs(np.array(rendered.learned))[-1]
                reference = store.tokenizer.decode(rendered.tokens[start:end])
            yield EvalExample(ChatTurn(history, answer.kind), reference)

    def parse_prompt(self, text: Any, tokenizer: Tokenizer) -> ChatTurn:
        """Return a text as the first message of a user. A conversation stays as it is."""
        if isinstance(text, Conversation):
            return ChatTurn(text)
        return ChatTurn(Conversation((Message("user", super().parse_prompt(text, tokenizer)),)))

    def texts(self, input: ChatTurn) -> list[str]:
        return [message.text for message in input.conversation.messages]

    def prompt_cuts(self, input: ChatTurn, tokenizer: Tokenizer) -> tuple[Cut, ...]:
        chat, room = self.format(tokenizer), self.context - self.max_new_tokens
        length = len(chat.render(input.conversation, reply=True).tokens)
        setting = f"model.context={self.context} leaves {room} tokens beside an answer"
        kept = len(
            chat.render(keep_latest_turns(input.conversation, chat, room), reply=True).tokens
        )
        return cut_beyond(kept, length, "history", setting)

    def prompt(self, input: ChatTurn, tokenizer: Tokenizer) -> Prompt:
        chat = self.format(tokenizer)
        history = keep_latest_turns(input.conversation, chat, self.context - self.max_new_tokens)
        return Prompt(tuple(chat.render(history, reply=True).tokens))


def _join_texts(messages: list[Message]) -> str:
    return "\n".join(f"{message.role}: {message.text}" for message in messages)


def split_turns(conversation: Conversation) -> tuple[list[Message], list[list[Message]]]:
    """Return the system messages at the start, and the rest in turns: each from a user's message to the last answer."""
    messages = list(conversation.messages)
    start = next((i for i, m in enumerate(messages) if m.role not in SYSTEM_ROLES), len(messages))
    turns: list[list[Message]] = []
    for previous, message in zip([None, *messages[start:]], messages[start:], strict=False):
        if previous is None or (message.role == "user" and previous.role == "assistant"):
            turns.append([])
        turns[-1].append(message)
    return messages[:start], turns


def _join_turns(
    conversation: Conversation, system: list[Message], turns: list[list[Message]]
) -> Conversation:
    messages = (*system, *(message for turn in turns for message in turn))
    return replace(conversation, messages=messages)


def keep_fitting_turns(
    conversation: Conversation, chat: ChatFormat, limit: int
) -> Conversation | None:
    """Return the first turns of a conversation that fit into `limit` tokens; None: no turn fits.

    Where the first turn alone does not fit, it is left out, and so on.
    """
    system, turns = split_turns(conversation)

    def length(first: int, last: int) -> int:
        kept = _join_turns(conversation, system, turns[first:last])
        return len(chat.render(kept).tokens)

    for first in range(len(turns)):
        ends = range(first + 1, len(turns) + 1)
        count = bisect_left(ends, limit + 1, key=lambda end: length(first, end))
        if count:
            return _join_turns(conversation, system, turns[first : first + count])
    return None


def keep_latest_turns(conversation: Conversation, chat: ChatFormat, limit: int) -> Conversation:
    """Return a history without its oldest turns, as many as do not fit into `limit` tokens; the last one stays."""
    system, turns = split_turns(conversation)
    for first in range(len(turns)):
        history = _join_turns(conversation, system, turns[first:])
        if len(chat.render(history, reply=True).tokens) <= limit:
            return history
    return _join_turns(conversation, system, turns[-1:])
