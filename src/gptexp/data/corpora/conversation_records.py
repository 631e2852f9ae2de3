"""Read records as conversations, for task=chat: their columns say in which of the known layouts they are.

    OpenAI             {"messages": [{"role": ..., "content": ...}], "tools": [...]}
    ShareGPT           {"conversations": [{"from": ..., "value": ...}], "system": ..., "tools": ...}
    Alpaca             {"instruction": ..., "input": ..., "output": ..., "system": ..., "history": [[...], ...]}
    prompt/completion  {"prompt": ..., "completion": ...}, texts or lists of messages

`data.fields` renames: data.fields.conversation=dialog, data.fields.role=speaker, data.fields.user=customer.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from gptexp.data.conversation import ROLES, Conversation, Message
from gptexp.data.corpora.corpus import Example
from gptexp.data.corpora.fields import (
    MAX_RECORDS_WITHOUT_FIELD,
    MISSING,
    Record,
    find_value,
    nested_names,
)
from gptexp.data.corpora.message_lists import (
    MessageReader,
    UnusableRecordError,
    find_disorder,
    parse_json,
    read_text,
    read_tools,
    replace_surrogates,
    trim_unanswered,
)
from gptexp.errors import UserError, nearest

# Columns of lists of messages, the likelier ones first; without one of them, any such list is read.
CHAT_COLUMNS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat")
# Pairs of columns that are a question and its answer.
PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("query", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("source", "target"),
)
ALPACA_OUTPUTS = ("output", "response", "answer")
ALPACA_INPUTS = ("input", "context")
TOOL_COLUMNS = ("tools", "functions")
SYSTEM_COLUMNS = ("system", "system_prompt")
PREFERENCES = ("chosen", "rejected")
# Keys of data.fields that choose a layout, which then comes before those that other columns have.
NAMED_LAYOUTS = {
    "conversation": ("conversation",),
    "pairs": ("prompt", "completion"),
    "Alpaca": ("instruction", "output"),
}
COLUMNS = ("conversation", "system", "tools", "prompt", "instruction", "input", "history")
ANSWER_COLUMNS = ("completion", "output")
KEYS = ("role", "content")  # of a message
MAX_LISTED_COLUMNS = 20
LIST_OF_OBJECTS = re.compile(r"\s*\[\s*\{")  # how the JSON of a list of messages begins
FALSE_LABELS = ("false", "0", "0.0")


@dataclass(frozen=True)
class RecordLayout:
    """One of the known layouts, as the columns of a record show it."""

    label: str  # for people: "ShareGPT, conversations[].from and .value"
    read: Callable[[], list[Message]]  # its messages, without those of the column `system`
    columns: tuple[str, ...] = ()  # those that it is recognised by, in the names of this module


class RecordColumns:
    """Finds the columns of a record, and reads their values.

    Args:
        names: data.fields.
    """

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.messages = MessageReader(names)

    def value(self, record: Record, column: str) -> Any:
        """Return the value of a column; None where the record lacks it."""
        value = find_value(record, self.names.get(column, column))
        return None if value is MISSING else value

    def text(self, record: Record, column: str) -> str:
        return read_text(self.value(record, column))

    def first_of(self, record: Record, columns: tuple[str, ...]) -> str:
        """Return the first of the columns that holds something; "": none does."""
        return next((name for name in columns if self.value(record, name) not in (None, "")), "")

    def chat_column(self, record: Record) -> str:
        """Return the column that holds a list of messages; "": none does."""
        if "conversation" in self.names:
            columns = ["conversation"]
        else:
            columns = [*CHAT_COLUMNS, *(name for name in record if name not in PREFERENCES)]
        return next((name for name in columns if self.chat(record, name)), "")

    def chat(self, record: Record, column: str) -> list[dict[str, Any]]:
        """Return the list of messages of a column, which may be written as JSON; []: it holds none."""
        value = self._parse_list(self.value(record, column))
        return value if self.messages.keys(value) else []

    def _parse_list(self, value: Any) -> Any:
        """Return the list of messages in a text that is its JSON, or the value itself."""
        if not isinstance(value, str) or not LIST_OF_OBJECTS.match(value):
            return value
        try:
            parsed = parse_json(value)
        except UnusableRecordError:
            return value
        return parsed if self.messages.keys(parsed) else value

    def describe_chat(self, record: Record, column: str) -> str:
        """Return the name of the layout of a list of messages, with its column and keys."""
        keys = self.messages.keys(self.chat(record, column)) or KEYS
        layout = "ShareGPT" if keys == ("from", "value") else "OpenAI messages"
        return f"{layout}, {self.names.get(column, column)}[].{keys[0]} and .{keys[1]}"

    def read_question(self, record: Record) -> str:
        """Return the instruction of Alpaca, followed by its input where it has one."""
        added = self.text(record, self.first_of(record, ALPACA_INPUTS) or ALPACA_INPUTS[0])
        return _join_question(self.text(record, "instruction"), added)

    def read_prompt(self, record: Record, column: str) -> list[Message]:
        """Return the messages of the first column of a pair; a text is followed by that of the column `context`."""
        messages = self.read_side(self.value(record, column), "user")
        added = self.value(record, self.first_of(record, ALPACA_INPUTS) or ALPACA_INPUTS[0])
        if len(messages) == 1 and isinstance(added, str):
            messages[0] = replace(messages[0], content=_join_question(messages[0].content, added))
        return messages

    def read_history(self, record: Record) -> list[Message]:
        """Return the messages of the column `history`: pairs of a question and its answer.

        Raises:
            UnusableRecordError: it is something else.
        """
        history = parse_json(self.value(record, "history")) or []
        if not isinstance(history, list) or any(
            not isinstance(turn, list) or len(turn) != 2 for turn in history
        ):
            raise UnusableRecordError("its history is no list of pairs of texts")
        texts = [read_text(text) for turn in history for text in turn]
        return [
            Message("assistant" if number % 2 else "user", text)
            for number, text in enumerate(texts)
        ]

    def read_system(self, record: Record) -> list[Message]:
        columns = ("system",) if "system" in self.names else SYSTEM_COLUMNS
        text = self.text(record, self.first_of(record, columns) or "system")
        return [Message("system", text)] if text.strip() else []

    def read_side(self, value: Any, role: str) -> list[Message]:
        """Return the messages of one side of a pair: a text of that role, a message, or a list of messages."""
        value = [value] if isinstance(value, dict) else self._parse_list(value)
        if isinstance(value, list):
            if not self.messages.keys(value):
                raise UnusableRecordError("a list that holds no messages with roles")
            return list(self.messages.read(value))
        return [Message(role, read_text(value))]


def _join_question(question: str, added: str) -> str:
    return "\n".join(part for part in (question, added) if part.strip())


class ConversationReader:
    """Makes examples with the field `conversation` of the records of one pass over a source.

    A record without a usable conversation is left out, with the reason.
    """

    fields: ClassVar[tuple[str, ...]] = ("conversation",)
    accepted: ClassVar[str] = (
        "a list of messages ('messages' with role and content, 'conversations' with from and value), 'instruction' "
        "and 'output', or 'prompt' and 'completion'. Name other columns with data.fields.conversation=..., or "
        "data.fields.prompt=... data.fields.completion=..."
    )
    task: ClassVar[str] = "a conversation"

    def __init__(self, names: dict[str, str]) -> None:
        check_names(names)
        self.columns = RecordColumns(names)
        self.first: tuple[str, Record] | None = None
        self.layout: tuple[RecordLayout, str] | None = (
            None  # that of the first record, and its place
        )
        self.num_records = 0
        self.unseen = {key for key in names if key in (*COLUMNS, *ANSWER_COLUMNS, *PREFERENCES)}

    @property
    def source_names(self) -> list[str]:
        """Names that records may have: an object of a JSON file that has one of them is a record."""
        names = {*COLUMNS, *CHAT_COLUMNS, *(name for pair in PAIRS for name in pair)}
        return sorted({*names, *PREFERENCES, *self.columns.names.values()})

    def example(self, record: Record, where: str, split: str | None = None) -> Example:
        """Return the example of a record.

        Raises:
            UserError: it is in another layout than the records before it.
        """
        self.first = self.first or (where, record)
        self.num_records += 1
        if self.unseen:
            self.unseen = {key for key in self.unseen if not self._has(record, key)}
        if self.layout is None and self.num_records == MAX_RECORDS_WITHOUT_FIELD:
            self.check_names()
        example = Example(dict.fromkeys(self.fields, ""), split, where=where)
        layout = self.recognize(record)
        if layout is None:
            example.leave_out(f"its columns hold no {self.task.partition(' ')[2]}")
            return example
        if self.layout is None:
            self.layout = layout, where
        first_layout, first_place = self.layout
        label = first_layout.label
        if label != layout.label:
            if empty := next((c for c in first_layout.columns if self._is_empty(record, c)), ""):
                example.leave_out(f"the column '{self.columns.names.get(empty, empty)}' is empty")
                return example
            raise UserError(
                f"{where}: is in the layout {layout.label}; {first_place} is in the layout {label}. Give one layout: "
                f"separate the files, or name the columns with data.fields.conversation=..."
            )
        try:
            self.fill(example, record, layout)
        except UnusableRecordError as error:
            example.leave_out(str(error))
        for field, text in example.fields.items():
            example.fields[field] = replace_surrogates(text)
            if example.fields[field] != text:
                example.notes = (*example.notes, "half of a surrogate pair is read as '?'")
        if example.group is not None:
            example.group = replace_surrogates(example.group)
        example.notes = (f"as {label}", *dict.fromkeys(example.notes))
        return example

    def _has(self, record: Record, key: str) -> bool:
        return find_value(record, self.columns.names[key]) is not MISSING

    def _is_empty(self, record: Record, column: str) -> bool:
        """Return whether a record has a column with nothing in it."""
        value = find_value(record, self.columns.names.get(column, column))
        is_text = isinstance(value, str)
        return value is None or value == [] or (is_text and not value.strip())

    def check_names(self) -> None:
        """Check after the last record that a layout was recognised, and that each named column was in a record.

        Raises:
            UserError: no record was in a known layout, or had a named column.
        """
        is_single = (
            self.num_records == 1
        )  # a row of a data set in memory may lack a column that others have
        if self.first is None or (self.layout is not None and (is_single or not self.unseen)):
            return
        where, record = self.first
        known = nested_names(record)
        if key := next((key for key in self.columns.names if key in self.unseen), ""):
            name = self.columns.names[key]
            listed = ", ".join(known[:MAX_LISTED_COLUMNS])
            raise UserError(
                f"data.fields.{key}={name}: no record has this column.{nearest(name, known)} {where} has: {listed}"
            )
        listed = ", ".join(known[:MAX_LISTED_COLUMNS])
        pairs = ""
        if all(name in record for name in PREFERENCES) and "prompt" not in self.fields:
            pairs = " These are pairs for task=prefer; data.fields.conversation=chosen reads one side of them."
        raise UserError(
            f"{where}: no {self.task.partition(' ')[2]} was recognised. It has: {listed}.{pairs} "
            f"This task reads {self.accepted}"
        )

    def recognize(self, record: Record) -> RecordLayout | None:
        """Return the layout of a record; None: it is in none that is known."""
        columns = self.columns
        pair = self._pair(record)
        column = columns.chat_column(record)
        named = self._named_layout()
        if column and named in ("", "conversation") and (column not in pair or named):
            return RecordLayout(
                columns.describe_chat(record, column),
                lambda: list(columns.messages.read(columns.chat(record, column))),
                (column,),
            )
        output = self._answer(record, "output", ALPACA_OUTPUTS)
        has_instruction = columns.value(record, "instruction") is not None
        if has_instruction and output and named in ("", "Alpaca"):
            return RecordLayout(
                f"Alpaca, instruction and {output}",
                lambda: [
                    *columns.read_history(record),
                    Message("user", columns.read_question(record)),
                    Message("assistant", columns.text(record, output)),
                ],
                ("instruction", output),
            )
        if pair and named in ("", "pairs"):
            prompt, completion = pair
            return RecordLayout(
                f"pairs, {columns.names.get(prompt, prompt)} and {columns.names.get(completion, completion)}",
                lambda: [
                    *columns.read_history(record),
                    *columns.read_prompt(record, prompt),
                    *columns.read_side(columns.value(record, completion), "assistant"),
                ],
                pair,
            )
        return None

    def fill(self, example: Example, record: Record, layout: RecordLayout) -> None:
        """Write the conversation of a record into its example.

        Raises:
            UnusableRecordError: the record holds no usable conversation.
        """
        if str(record.get("label")).strip().lower() in FALSE_LABELS:
            raise UnusableRecordError("its label is false: it is an example of a bad answer")
        messages = [*self.columns.read_system(record), *layout.read()]
        kept = trim_unanswered(messages)
        if problem := find_disorder(kept):
            raise UnusableRecordError(problem)
        if len(kept) < len(messages):
            example.notes = ("the messages after the last answer are not used",)
        example.notes += tuple(
            f"the text in the column '{name}' is not read"
            for name in self._unread_texts(record, layout)
        )
        tools = self.columns.value(record, self.columns.first_of(record, TOOL_COLUMNS) or "tools")
        conversation = Conversation(kept, read_tools(tools))
        example.fields["conversation"] = conversation.to_json()
        example.group = conversation.group_key

    def _answer(self, record: Record, field: str, usual: tuple[str, ...]) -> str:
        """Return the column of the answer: that which data.fields names, or one of the usual ones; "": none."""
        candidates = (field,) if field in self.columns.names else usual
        return next((n for n in candidates if self.columns.value(record, n) is not None), "")

    def _unread_texts(self, record: Record, layout: RecordLayout) -> list[str]:
        """Return the columns of a record that hold texts of several words and belong to nothing that is read."""
        read = [*layout.columns, *SYSTEM_COLUMNS, *TOOL_COLUMNS]
        if len(layout.columns) > 1:  # a question and its answer
            read += ["history", *ALPACA_INPUTS]
        sources = {self.columns.names.get(name, name).partition(".")[0] for name in read}
        return [
            name
            for name, value in record.items()
            if isinstance(value, str) and name not in sources and " " in value.strip()
        ]

    def _named_layout(self) -> str:
        """Return the layout whose columns data.fields names; "": none."""
        named = self.columns.names.keys()
        return next((n for n, keys in NAMED_LAYOUTS.items() if not named.isdisjoint(keys)), "")

    def _pair(self, record: Record) -> tuple[str, ...]:
        """Return the columns of a question and its answer; (): the record has none."""
        named = [name for name in ("prompt", "completion") if name in self.columns.names]
        pairs = (("prompt", "completion"),) if named else PAIRS
        columns = self.columns
        return next(
            (p for p in pairs if all(columns.value(record, name) is not None for name in p)), ()
        )


def check_names(names: dict[str, str]) -> None:
    """Check data.fields of a task whose examples are conversations.

    Raises:
        UserError: a key is unknown, or a value is a template.
    """
    allowed = (*COLUMNS, *ANSWER_COLUMNS, *PREFERENCES, *KEYS, *(r for r in ROLES if r != "system"))
    for key, name in names.items():
        if key not in allowed:
            raise UserError(
                f"data.fields.{key}: this task has no such field.{nearest(key, allowed)} It has: {', '.join(allowed)}"
            )
        if "{" in name:
            raise UserError(
                f"data.fields.{key}={name}: a conversation is read from columns; give the name of one, not a template"
            )
