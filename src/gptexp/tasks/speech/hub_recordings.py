"""Recordings with texts from a data set that datasets.load_dataset takes: a name on the hub, or a local folder."""

import io
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora.fields import FieldReader, Record
from gptexp.data.corpora.hub_media import HubMedia
from gptexp.tasks.speech.audio import Audio


class HubRecordings(HubMedia):
    medium = "audio"
    supported_fields = (("voice", "text"),)

    def read(self, source: str | io.BytesIO) -> NDArray[np.int16]:
        return Audio.read(source).samples

    def describe(self) -> dict[str, Any]:
        voices = set()
        for name, part in self.parts.items():
            if not self._has_voices(part):
                continue
            reader = FieldReader(("voice",), self.config.fields)
            records = islice(self.records(part, reader.source_names), self.limit(name))
            for number, record in enumerate(records, 1):
                example = reader.example(record, f"{self.config.name}, {name}, row {number}")
                voices.add(example.fields["voice"].strip())
            reader.check_names()
        return {**super().describe(), "voices": sorted(voices - {""})}

    def records(self, part: Any, names: list[str]) -> Iterator[Record]:
        """Yield the rows. Without a column `voice`, the voice of every row is ""."""
        if self._has_voices(part):
            yield from super().records(part, names)
            return
        for record in super().records(part, [name for name in names if name != "voice"]):
            yield {"voice": "", **record}

    def _has_voices(self, part: Any) -> bool:
        return "voice" in self.config.fields or "voice" in (part.column_names or ())
