"""Read records as pairs of a preferred and a rejected answer, for task=prefer.

{"prompt": ..., "chosen": ..., "rejected": ...}         texts, or lists of messages
{"chosen": [...], "rejected": [...]}                    whole conversations: the prompt is what both begin with
{"chosen": "\\n\\nHuman: ...\\n\\nAssistant: ...", ...}     the same in one text
{"conversations": [...], "chosen": {...}, "rejected": {...}}    as LLaMA-Factory has them
{"instruction": ..., "input": ..., "chosen": ..., "rejected": ...}
"""

import math
import re
from typing import Any, ClassVar

from gptexp.data.conversation import SYSTEM_ROLES, Conversation, Message, dump_messages
from gptexp.data.corpora.conversation_records import PREFERENCES, ConversationReader, RecordLayout
from gptexp.data.corpora.corpus import Example
from gptexp.data.corpora.fields import Record
from gptexp.data.corpora.message_lists import (
    CALLING_ROLES,
    UnusableRecordError,
    find_disorder,
    read_tools,
)

QUESTION_COLUMNS = ("prompt", "question", "query")
# Pairs of columns with a score or rating of the two answers.
SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
)
TURN = re.compile(r"\n\n(Human|Assistant): ?")


class PreferenceReader(ConversationReader):
    """Makes examples with the fields `prompt`, `chosen` and `rejected` of the records of one pass over a source.

    The fields hold lists of messages; those of the prompt end with a question.
    """

    fields: ClassVar[tuple[str, ...]] = ("prompt", "chosen", "rejected")
    accepted: ClassVar[str] = (
        "'chosen' and 'rejected', texts or lists of messages, with a 'prompt', an 'instruction' or 'conversations', "
        "or with the prompt in front of both. Name other columns with data.fields.prompt=... data.fields.chosen=... "
        "data.fields.rejected=..."
    )
    task: ClassVar[str] = "a pair of answers with a prompt"

    def recognize(self, record: Record) -> RecordLayout | None:
        """Return the layout of a record, whose `read` gives the messages of its prompt; None: it has no pair."""
        columns = self.columns
        if any(columns.value(record, name) is None for name in PREFERENCES):
            return None
        answers = " and ".join(columns.names.get(name, name) for name in PREFERENCES)
        prompt = self._recognize_prompt(record)
        if self._begins_with_prompt(record):
            # Columns of the prompt do not count: an empty cell makes no other layout.
            read = prompt.read if prompt else list
            return RecordLayout(f"{answers}, which begin with the prompt", read)
        if prompt is None:
            return None
        return RecordLayout(f"{prompt.label}, {answers}", prompt.read)

    def _recognize_prompt(self, record: Record) -> RecordLayout | None:
        """Return the layout of the prompt in columns of its own; None: a record has none."""
        columns = self.columns
        if columns.value(record, "instruction") is not None:
            return RecordLayout(
                "instruction",
                lambda: [
                    *columns.read_history(record),
                    Message("user", columns.read_question(record)),
                ],
            )
        candidates = ("prompt",) if "prompt" in columns.names else QUESTION_COLUMNS
        question = next((n for n in candidates if columns.value(record, n) is not None), "")
        if question:
            return RecordLayout(
                columns.names.get(question, question),
                lambda: [
                    *columns.read_history(record),
                    *self._read_texts(columns.value(record, question), "user"),
                ],
            )
        if column := columns.chat_column(record):
            return RecordLayout(
                columns.describe_chat(record, column),
                lambda: list(columns.messages.read(columns.chat(record, column))),
            )
        return None

    def _begins_with_prompt(self, record: Record) -> bool:
        """Return whether the answers are whole conversations, as the first message of the chosen one shows."""
        value = self.columns.value(record, PREFERENCES[0])
        if isinstance(value, str):
            return TURN.match(value) is not None
        keys = self.columns.messages.keys(value)
        if keys is None:
            return False
        role = str(value[0][keys[0]]).strip().lower()
        names = self.columns.messages.role_names
        return role not in CALLING_ROLES and names.get(role) != "assistant"

    def fill(self, example: Example, record: Record, layout: RecordLayout) -> None:
        """Write the prompt and both answers into the example.

        Raises:
            UnusableRecordError: the record holds no usable pair.
        """
        columns = self.columns
        prompt = [*columns.read_system(record), *layout.read()]
        chosen, rejected = (self._answer_messages(record, name) for name in PREFERENCES)
        if chosen[0].role != "assistant":  # the answers are whole conversations
            prompt = _join_prompts(prompt, chosen, rejected)
            shared = _count_shared(chosen, rejected)
            chosen, rejected = chosen[shared:], rejected[shared:]
        self._check(record, prompt, chosen, rejected)
        texts = map(dump_messages, (prompt, chosen, rejected))
        example.fields.update(zip(self.fields, texts, strict=True))
        conversation = Conversation(
            tuple(prompt),
            read_tools(columns.value(record, "tools") or columns.value(record, "functions")),
        )
        if conversation.tools:
            example.fields["prompt"] = conversation.to_json()
        example.group = conversation.group_key

    def _answer_messages(self, record: Record, name: str) -> list[Message]:
        """Return the messages of an answer, which may be a conversation in one text.

        Raises:
            UnusableRecordError: it has none.
        """
        value = self.columns.value(record, name)
        if not value:
            raise UnusableRecordError(f"'{self.columns.names.get(name, name)}' is empty")
        return self._read_texts(value, "assistant")

    def _read_texts(self, value: Any, role: str) -> list[Message]:
        """Return the messages of a text of that role, of a conversation in one text, or of a list of messages.

        Raises:
            UnusableRecordError: it is something else.
        """
        if not isinstance(value, str) or not TURN.match(value):
            return self.columns.read_side(value, role)
        _, *parts = TURN.split(value)
        roles = ("user" if speaker == "Human" else "assistant" for speaker in parts[::2])
        messages = [
            Message(role, text.strip()) for role, text in zip(roles, parts[1::2], strict=True)
        ]
        if role == "user" and not messages[-1].content:  # "Assistant:" at the end of a prompt
            messages.pop()
        return messages

    def _check(
        self, record: Record, prompt: list[Message], chosen: list[Message], rejected: list[Message]
    ) -> None:
        """Check that the answers differ, follow a question, and stand in their columns.

        Raises:
            UnusableRecordError: they do not.
        """
        if chosen == rejected:
            raise UnusableRecordError("the chosen and the rejected answer are the same")
        if not prompt:
            raise UnusableRecordError("it has no prompt")
        for messages in (chosen, rejected):
            if not messages or messages[-1].role != "assistant":
                raise UnusableRecordError("an answer does not end with a message of the assistant")
            if problem := find_disorder([*prompt, *messages]):
                raise UnusableRecordError(problem)
        for better, worse in SCORES:
            if _read_score(record.get(better)) <= _read_score(record.get(worse)):
                raise UnusableRecordError("its scores do not prefer the chosen answer")


def _read_score(value: Any) -> float:
    """Return a score, which may be a text; NaN, which compares with nothing: it is no number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _join_prompts(
    prompt: list[Message], chosen: list[Message], rejected: list[Message]
) -> list[Message]:
    """Return the prompt that both conversations begin with, behind the system messages of other columns.

    Args:
        prompt: the messages of other columns: those of the conversation, or some of them.

    Raises:
        UnusableRecordError: a message of the user or of the system stands in other columns alone.
    """
    has_system = chosen[0].role in SYSTEM_ROLES
    system = [] if has_system else [message for message in prompt if message.role in SYSTEM_ROLES]
    known = {(message.role, message.content.strip()) for message in (*chosen, *system)}
    given = [(message.role, message.content.strip()) for message in prompt]
    if any(r != "assistant" and text and (r, text) not in known for r, text in given):
        raise UnusableRecordError(
            "its prompt or system prompt is another one than that of its chosen conversation"
        )
    return [*system, *chosen[: _count_shared(chosen, rejected)]]


def _count_shared(chosen: list[Message], rejected: list[Message]) -> int:
    """Return the number of messages that both conversations begin with, at most all but the last of each."""
    most = min(len(chosen), len(rejected)) - 1
    return next((i for i in range(most) if chosen[i] != rejected[i]), most)
