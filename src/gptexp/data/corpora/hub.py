"""Anything that datasets.load_dataset takes, of texts or pictures: a name on the hub, or a local folder."""

import io
import sys
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.data.corpora.corpus import (
    SPLIT_NAMES,
    TEXTS,
    Corpus,
    Example,
    check_field_names,
    select_fields,
)
from gptexp.data.media import Picture
from gptexp.errors import UserError
from gptexp.network import hub_is_reachable


class Hub(Corpus):
    supported_fields = (*TEXTS, ("caption",))

    def __init__(self, config: schema.HubConfig, fields: tuple[str, ...], cache: Path) -> None:
        self.config, self.fields = config, fields
        self.has_pictures = fields == ("caption",)
        check_field_names(config.fields, (*fields, "image") if self.has_pictures else fields)
        self.image = config.fields.get("image", "image")
        self.parts = _load(config)
        if self.has_pictures:
            self.parts = {name: self._undecoded(name, part) for name, part in self.parts.items()}

    def describe(self) -> dict[str, Any]:
        prints = {name: [part._fingerprint, part.num_rows] for name, part in self.parts.items()}
        licences = {name: part.info.license or "not stated" for name, part in self.parts.items()}
        return {
            "source": self.config.name,
            "config": self.config.config,
            "parts": prints,
            "licence": licences,
            "fields": dict(self.config.fields),
        }

    def __iter__(self) -> Iterator[Example]:
        for name, part in self.parts.items():
            split = SPLIT_NAMES[name] if len(self.parts) > 1 else None
            for number, record in enumerate(part, 1):
                where = f"{self.config.name}, {name}, row {number}"
                example = Example(
                    select_fields(_flat(record), self.fields, self.config.fields, where), split
                )
                if self.has_pictures:
                    stored = record[self.image]
                    if not stored:
                        raise UserError(f"{where}: has no picture")
                    example.media = partial(_picture, stored, where)
                    example.group = (
                        sha256(stored["bytes"]).hexdigest() if stored["bytes"] else stored["path"]
                    )
                yield example

    def _undecoded(self, name: str, part: Any) -> Any:
        """The part with pictures as bytes, which are decoded one at a time."""
        import datasets

        if not isinstance(part.features.get(self.image), datasets.Image):
            raise UserError(
                f"{self.config.name}, {name}: no pictures in field '{self.image}'. It has: {', '.join(part.features)}. "
                f"Name the right one with data.fields.image=..."
            )
        return part.cast_column(self.image, datasets.Image(decode=False))


def _picture(stored: dict[str, Any], where: str) -> NDArray[np.uint8]:
    try:
        return Picture.of(io.BytesIO(stored["bytes"]) if stored["bytes"] else stored["path"]).frames
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _load(config: schema.HubConfig) -> dict[str, Any]:
    import datasets

    folder = Path(config.name).expanduser()
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            loaded = datasets.load_from_disk(str(folder))
        else:
            if not folder.exists() and not hub_is_reachable():
                datasets.config.HF_HUB_OFFLINE = (
                    True  # what is in the local cache still loads, at once
                )
            loaded = datasets.load_dataset(config.name, config.config)
    except Exception as error:  # the library raises a dozen kinds; each of them means that the name cannot be loaded
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


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """{"translation": {"en": ..}} also as {"translation.en": ..}, which data.fields can name."""
    inner = {
        f"{key}.{name}": value
        for key, group in record.items()
        if isinstance(group, dict)
        for name, value in group.items()
    }
    return {**record, **inner}
