"""Choose how records become the examples of a task: by named fields, or as conversations and pairs of answers."""

from typing import Protocol

from gptexp.config import schema
from gptexp.data.corpora import conversation_records
from gptexp.data.corpora.conversation_records import PREFERENCES, ConversationReader
from gptexp.data.corpora.corpus import Example
from gptexp.data.corpora.fields import FieldReader, Record, check_field_names
from gptexp.data.corpora.preference_records import PreferenceReader
from gptexp.errors import UserError

# Of tasks whose examples are read by the layout of their records.
READERS = {reader.fields: reader for reader in (ConversationReader, PreferenceReader)}


class RecordReader(Protocol):
    """Makes examples of the records of one pass over a source."""

    @property
    def source_names(self) -> list[str]:
        """Names of fields in the source that are read."""

    def example(self, record: Record, where: str, split: str | None = None) -> Example:
        """Return the example of a record."""

    def check_names(self) -> None:
        """Check after the last record that the fields of the task were in the records."""


def make_reader(fields: tuple[str, ...], config: schema.RecordsConfig) -> RecordReader:
    """Return a new reader for the examples of a task."""
    if reader := READERS.get(fields):
        return reader(config.fields)
    return FieldReader(fields, config.fields, config.template)


def check_names_of_fields(config: schema.RecordsConfig, fields: tuple[str, ...]) -> None:
    """Check data.fields and data.template.

    Args:
        fields: those of the task, and of its images or recordings.

    Raises:
        UserError: a key is not a field that the task has, or the task reads no templates.
    """
    if fields not in READERS:
        check_field_names(config.fields, fields)
        return
    if config.template is not None:
        answers = PREFERENCES if fields == PreferenceReader.fields else ("completion",)
        names = " ".join(f"data.fields.{name}=..." for name in ("prompt", *answers))
        raise UserError(
            f"data.template={config.template}: a conversation is read from columns. Leave it out, and name the columns "
            f"with {names}"
        )
    conversation_records.check_names(config.fields)
