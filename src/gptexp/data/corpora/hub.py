"""Texts from a data set that datasets.load_dataset takes: a name on the hub, or a local folder."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gptexp.config import schema
from gptexp.data.corpora.corpus import (
    SPLIT_NAMES,
    Corpus,
    Example,
    check_field_names,
    select_fields,
)
from gptexp.errors import UserError
from gptexp.network import hub_is_reachable


class Hub(Corpus):
    media_fields: tuple[str, ...] = ()  # columns with media that data.fields can name

    def __init__(self, config: schema.HubConfig, fields: tuple[str, ...], cache: Path) -> None:
        self.config, self.fields = config, fields
        check_field_names(config.fields, (*fields, *self.media_fields))
        self.parts = load_parts(config)

    def describe(self) -> dict[str, Any]:
        fingerprints = {
            name: [part._fingerprint, part.num_rows] for name, part in self.parts.items()
        }
        licences = {name: part.info.license or "not stated" for name, part in self.parts.items()}
        return {
            "source": self.config.name,
            "config": self.config.config,
            "parts": fingerprints,
            "licence": licences,
            "fields": dict(self.config.fields),
        }

    def __iter__(self) -> Iterator[Example]:
        for name, part in self.parts.items():
            split = SPLIT_NAMES[name] if len(self.parts) > 1 else None
            for number, record in enumerate(part, 1):
                yield self.example(record, split, f"{self.config.name}, {name}, row {number}")

    def example(self, record: dict[str, Any], split: str | None, where: str) -> Example:
        """Return the example of a row."""
        fields = select_fields(_flatten(record), self.fields, self.config.fields, where)
        return Example(fields, split)


def load_parts(config: schema.HubConfig) -> dict[str, Any]:
    """Load the splits of a data set that have a known name, `train` among them.

    Raises:
        UserError: the data set cannot be loaded, or has no split `train`.
    """
    import datasets

    folder = Path(config.name).expanduser()
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            loaded = datasets.load_from_disk(str(folder))
        else:
            if not folder.exists() and not hub_is_reachable():
                # Data sets in the local cache still load, and the others are refused at once.
                datasets.config.HF_HUB_OFFLINE = True
            loaded = datasets.load_dataset(config.name, config.config)
    except Exception as error:  # the library raises a dozen kinds of errors for a wrong name
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"data.name={config.name}: cannot be loaded ({reason}). Give a data set's name on the hub "
            f"(needs the network once) or a folder written by save_to_disk"
        ) from error
    parts = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    known = {name: part for name, part in parts.items() if name in SPLIT_NAMES}
    if unknown := set(parts) - set(known):
        print(
            f"data.name={config.name}: splits that are not read: {', '.join(sorted(unknown))}",
            file=sys.stderr,
        )
    if "train" not in known:
        raise UserError(f"data.name={config.name}: has no split 'train', only {', '.join(parts)}")
    return known


def _flatten(record: dict[str, Any]) -> dict[str, Any]:
    """Add {"translation.en": ..} for {"translation": {"en": ..}}, so that data.fields can name it."""
    inner = {
        f"{key}.{name}": value
        for key, group in record.items()
        if isinstance(group, dict)
        for name, value in group.items()
    }
    return {**record, **inner}
