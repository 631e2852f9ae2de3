"""Pairs of answers that need no network: data=preferences, on questions about functions as in data=chats.

The chosen answer is right and in few words. The rejected one is right and a whole sentence, or is long-winded, or is in
few words and wrong: with a name, a number or a summary of another function. So a model that learns from them answers in
fewer words, and keeps its names. The `kind` of the rejected message says which of these it is.
"""

import random
from collections.abc import Iterator
from typing import Any

from gptexp.data.conversation import Conversation, Message, dump_messages
from gptexp.data.corpora.corpus import Example
from gptexp.data.corpora.documented_functions import DocumentedFunctions, Function
from gptexp.data.corpora.function_questions import Question, ask_questions
from gptexp.data.corpora.made_chats import exchange, show_documentation

OPENINGS = (
    "Let me look at the documentation that you have shown me.",
    "That is a good question.",
    "I have read the documentation of {name}.",
    "Thank you for your question about {name}.",
)
CLOSINGS = (
    "I hope that this answers your question.",
    "Please ask me if you would like to know more about {name}.",
    "Is there anything else that I can tell you?",
)
MAX_QUESTIONS = 2


class Preferences(DocumentedFunctions):
    supported_fields = (("prompt", "chosen", "rejected"),)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "view": "preferences"}

    def read_examples(self) -> Iterator[Example]:
        for function, other, split, rng in self.read_functions("writing pairs of answers"):
            *before, last = ask_questions(function, other, rng, rng.randint(1, MAX_QUESTIONS))
            prompt: list[Message] = []
            for question in (*before, last):
                text = question.text
                if not prompt:
                    text = show_documentation(function.documentation, text, rng)
                prompt += exchange(text, question.brief, question.kind)
            *prompt, chosen = prompt
            rejected = _reject(last, function, rng)
            fields = {
                "prompt": dump_messages(prompt),
                "chosen": dump_messages([chosen]),
                "rejected": dump_messages([rejected]),
            }
            yield Example(fields, split, group=Conversation(tuple(prompt)).group_key)


def _reject(question: Question, function: Function, rng: random.Random) -> Message:
    """Return the answer that is worse: a wrong one, a whole sentence or a long-winded one."""
    number = rng.random()
    if question.wrong not in ("", question.brief) and number < 0.35:
        return Message("assistant", question.wrong, kind="wrong")
    if question.sentence != question.brief and number < 0.65:
        return Message("assistant", question.sentence, kind="sentence")
    opening, closing = (rng.choice(c).format(name=function.name) for c in (OPENINGS, CLOSINGS))
    parts = [opening, question.sentence, *([closing] if rng.random() < 0.7 else [])]
    return Message("assistant", " ".join(parts), kind="long-winded")
