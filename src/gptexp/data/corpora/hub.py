"""Texts from a data set that datasets.load_dataset takes: a name on the hub, or a local folder; also streamed."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gptexp.config import schema
from gptexp.data.corpora.arrow_tables import records_of_batch
from gptexp.data.corpora.corpus import SPLIT_NAMES, Corpus, Example
from gptexp.data.corpora.fields import Record
from gptexp.data.corpora.find_files import is_saved_dataset
from gptexp.data.corpora.record_readers import RecordReader, check_names_of_fields, make_reader
from gptexp.errors import UserError
from gptexp.network import hub_is_reachable
from gptexp.wording import first_line

BATCH_ROWS = 256  # that are converted at once


class Hub(Corpus):
    def __init__(self, config: schema.HubConfig, fields: tuple[str, ...], cache: Path) -> None:
        self.config, self.fields = config, fields
        self.media_names = {}  # the column of the images or recordings, by `medium`
        if self.medium:
            self.media_names[self.medium] = config.fields.get(self.medium, self.medium)
        check_names_of_fields(config, (*fields, *self.media_names))
        self.parts, self.versions = load_parts(config)
        self.only_train = len(self.parts) == 1

    def describe(self) -> dict[str, Any]:
        licences = {name: part.info.license or "not stated" for name, part in self.parts.items()}
        return {
            "source": self.config.name,
            "config": self.config.config,
            "parts": self.versions,
            "licence": licences,
            "fields": dict(self.config.fields),
        }

    def __iter__(self) -> Iterator[Example]:
        for name, part in self.parts.items():
            split = None if self.only_train else SPLIT_NAMES[name]
            limit = self.limit(name)
            reader = make_reader(self.fields, self.config)
            num_usable = 0
            names = [*reader.source_names, *self.media_names.values()]
            for number, record in enumerate(self.records(part, names), 1):
                if num_usable == limit:
                    break
                example = self.example(
                    reader, record, split, f"{self.config.name}, {name}, row {number}"
                )
                num_usable += not example.left_out
                yield example
            reader.check_names()

    def limit(self, name: str) -> int | None:
        """Return the number of examples after which a part ends; None: at its own end. A stream can be endless."""
        is_limited = self.config.streaming and SPLIT_NAMES[name] == "train"
        return self.config.limit if is_limited else None

    def example(
        self, reader: RecordReader, record: Record, split: str | None, where: str
    ) -> Example:
        """Return the example of a row."""
        return reader.example(record, where, split)

    def records(self, part: Any, names: list[str]) -> Iterator[Record]:
        """Yield the rows of a split, without columns that are not read. Images and audio stay encoded."""
        columns = {
            name: [
                column for column in part.column_names or () if f"{name}.".startswith(f"{column}.")
            ]
            for name in names
        }
        if all(columns.values()):
            part = part.select_columns(
                sorted({column for name in names for column in columns[name]})
            )
        try:
            for table in part.with_format("arrow").iter(batch_size=BATCH_ROWS):
                yield from records_of_batch(table)
        except Exception as error:  # of a server, a damaged file, or a package that decodes
            raise UserError(f"data.name={self.config.name}: {first_line(error)}") from None


def load_parts(config: schema.HubConfig) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Load the splits of a data set that have a known name, `train` among them, and what identifies their content.

    Raises:
        UserError: the data set cannot be loaded, or has no split `train`.
    """
    import datasets

    folder = Path(config.name).expanduser()
    version = []  # of a data set that is streamed
    try:
        if is_saved_dataset(folder):
            loaded = datasets.load_from_disk(str(folder))
        else:
            if not folder.exists() and not hub_is_reachable():
                # Data sets in the local cache still load, and the others are refused at once.
                datasets.config.HF_HUB_OFFLINE = True
            if config.streaming:
                builder = datasets.load_dataset_builder(config.name, config.config)
                loaded = builder.as_streaming_dataset()
                version = [builder.config_id, builder.hash]
            else:
                loaded = datasets.load_dataset(config.name, config.config)
    except Exception as error:  # the library raises a dozen kinds of errors for a wrong name
        raise UserError(
            f"data.name={config.name}: cannot be loaded ({first_line(error)}). Give a data set's name on the hub "
            f"(needs the network once) or a folder written by save_to_disk"
        ) from None
    parts = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    known = {name: part for name, part in parts.items() if name in SPLIT_NAMES}
    if unknown := set(parts) - set(known):
        print(
            f"data.name={config.name}: splits that are not read: {', '.join(sorted(unknown))}",
            file=sys.stderr,
        )
    if "train" not in known:
        raise UserError(f"data.name={config.name}: has no split 'train', only {', '.join(parts)}")
    versions = {name: version or [part._fingerprint, part.num_rows] for name, part in known.items()}
    return known, versions
