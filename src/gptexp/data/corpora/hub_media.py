"""Images or recordings, with their texts, from a data set that datasets.load_dataset takes."""

import io
from abc import abstractmethod
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.data.corpora.corpus import Example
from gptexp.data.corpora.fields import Record
from gptexp.data.corpora.hub import Hub
from gptexp.data.corpora.record_readers import RecordReader
from gptexp.errors import UserError

MEDIA = {"image": "images", "audio": "audio"}  # by medium


class HubMedia(Hub):
    """The rows of a data set. A subclass sets `medium`, which is also the name of the column with the media."""

    groups_by_file: ClassVar[bool] = False  # True: the examples of one file stay in one split

    def __init__(self, config: schema.HubConfig, fields: tuple[str, ...], cache: Path) -> None:
        super().__init__(config, fields, cache)
        self.column = self.media_names[self.medium]
        for name, part in self.parts.items():
            if part.features is not None and self.column not in _media_columns(part, self.medium):
                raise UserError(
                    f"{config.name}, {name}: no {MEDIA[self.medium]} in field '{self.column}'. It has: "
                    f"{', '.join(part.features)}. Name the right one with data.fields.{self.medium}=..."
                )

    @abstractmethod
    def read(self, source: str | io.BytesIO) -> NDArray:
        """Read the frames of an image or the samples of audio from a file, or from its content."""

    def example(
        self, reader: RecordReader, record: Record, split: str | None, where: str
    ) -> Example:
        example = super().example(reader, record, split, where)
        encoded = record.get(self.column)
        if encoded is None:
            example.left_out = example.left_out or f"the field '{self.column}' is empty"
            return example
        if not isinstance(encoded, dict) or not {"bytes", "path"} <= encoded.keys():
            raise UserError(f"{where}: field '{self.column}' holds no {self.medium}")
        example.media = partial(self._read, encoded, where)
        if self.groups_by_file:
            content = encoded["bytes"]
            example.group = sha256(content).hexdigest() if content else encoded["path"]
        return example

    def _read(self, encoded: dict[str, Any], where: str) -> NDArray:
        try:
            return self.read(io.BytesIO(encoded["bytes"]) if encoded["bytes"] else encoded["path"])
        except UserError as error:
            raise UserError(f"{where}: {error}") from None


def _media_columns(part: Any, medium: str) -> list[str]:
    """Return the columns of a split that hold images or recordings."""
    return [
        name
        for name, feature in part.features.items()
        if type(feature).__name__ == medium.capitalize()  # datasets.Image, datasets.Audio
    ]
