"""Read records as pairs of a preferred and a rejected answer, for task=prefer.

{"prompt": ..., "chosen": ..., "rejected": ...}         texts, or lists of messages
{"chosen": [...], "rejected": [...]}                    whole conversations: the prompt is what both begin with
{"chosen": "\\n\\nHuman: ...\\n\\nAssistant: ...", ...}     the same in one text
{"conversations": [...], "chosen": {...}, "rejected": {...}}    as LLaMA-Factory has them
{"instruction": ..., "input": ..., "chosen": ..., "rejected": ...}
"""

import re
from typing import ClassVar

from gptexp.data.conversation import Conversation, Message, dump_messages
from gptexp.data.corpora.conversation_records import PREFERENCES, ConversationReader, RecordLayout
from gptexp.data.corpora.corpus import Example
from gptexp.data.corpora.fields import Record
from gptexp.data.corpora.message_lists import UnusableRecordError, find_disorder

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
    task: ClassVar[str] = "a pair of answers"

    def recognize(self, record: Record) -> RecordLayout | None:
        """Return the layout of a record, whose `read` gives the messages of its prompt; None: it has no pair."""
        columns = self.columns
        if any(columns.value(record, name) is None for name in PREFERENCES):
            return None
        answers = " and ".join(columns.names.get(name, name) for name in PREFERENCES)
        if columns.value(record, "instruction") is not None:
            return RecordLayout(
                f"instruction, {answers}",
                lambda: [
                    *columns.read_history(record),
                    Message("user", columns.read_question(record)),
                ],
            )
        question = "prompt"
        if "prompt" not in columns.names:
            in_record = (n for n in QUESTION_COLUMNS if columns.value(record, n) is not None)
            question = next(in_record, "")
        if question:
            return RecordLayout(
                f"{columns.names.get(question, question)}, {answers}",
                lambda: columns.read_side(columns.value(record, question), "user"),
            )
        if column := columns.chat_column(record):
            return RecordLayout(
                f"{columns.describe_chat(record, column)}, {answers}",
                lambda: list(columns.messages.read(columns.chat(record, column))),
            )
        return RecordLayout(f"{answers}, which begin with the prompt", list)

    def fill(self, example: Example, record: Record, layout: RecordLayout) -> None:
        """Write the prompt and both answers into the example.

        Raises:
            UnusableRecordError: the record holds no usable pair.
        """
        columns = self.columns
        prompt = [*columns.read_system(record), *layout.read()]
        chosen, rejected = (self._answer_messages(record, name) for name in PREFERENCES)
        if chosen[0].role != "assistant":  # the answers are whole conversations
            shared = _count_shared(chosen, rejected)
            system = columns.read_system(record) if chosen[0].role == "user" else []
            prompt = [*system, *chosen[:shared]]
            chosen, rejected = chosen[shared:], rejected[shared:]
        self._check(record, prompt, chosen, rejected)
        texts = map(dump_messages, (prompt, chosen, rejected))
        example.fields.update(zip(self.fields, texts, strict=True))
        example.group = Conversation(tuple(prompt)).group_key

    def _answer_messages(self, record: Record, name: str) -> list[Message]:
        """Return the messages of an answer, which may be a conversation in one text.

        Raises:
            UnusableRecordError: it has none.
        """
        value = self.columns.value(record, name)
        if isinstance(value, str) and TURN.match(value):
            _, *parts = TURN.split(value)
            roles = ("user" if speaker == "Human" else "assistant" for speaker in parts[::2])
            return [
                Message(role, text.strip()) for role, text in zip(roles, parts[1::2], strict=True)
            ]
        if not value:
            raise UnusableRecordError(f"'{self.columns.names.get(name, name)}' is empty")
        return self.columns.read_side(value, "assistant")

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
            match record.get(better), record.get(worse):
                case int() | float() as high, int() | float() as low if high <= low:
                    raise UnusableRecordError("its scores do not prefer the chosen answer")


def _count_shared(chosen: list[Message], rejected: list[Message]) -> int:
    """Return the number of messages that both conversations begin with, at most all but the last of each."""
    most = min(len(chosen), len(rejected)) - 1
    return next((i for i in range(most) if chosen[i] != rejected[i]), most)
