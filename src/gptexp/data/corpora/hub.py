"""Anything that datasets.load_dataset takes, of texts or pictures: a name on the hub, or a local folder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.config.errors import UserError
from gptexp.config.network import hub_is_reachable
from gptexp.data.corpora.base import SPLIT_NAMES, Corpus, Example, pick
from gptexp.data.media import Picture


class Hub(Corpus):
    def __init__(self, config: schema.Hub, fields: tuple[str, ...], cache: Path) -> None:  # noqa: ARG002
        self.config, self.fields = config, fields
        self.parts = _load(config)

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
                flat = _flat(record)
                media = partial(self._picture, flat, where) if self.fields == ("caption",) else None
                yield Example(pick(flat, self.fields, self.config.fields, where), split, media=media)

    def _picture(self, record: dict[str, Any], where: str) -> NDArray[np.uint8]:
        name = self.config.fields.get("image", "image")
        if not hasattr(record.get(name), "convert"):
            raise UserError(
                f"{where}: no picture in field '{name}'. It has: {', '.join(record)}. "
                f"Name the right one with data.fields.image=..."
            )
        return Picture.of(record[name]).frames


def _load(config: schema.Hub) -> dict[str, Any]:
    import datasets

    folder = Path(config.name).expanduser()
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            loaded = datasets.load_from_disk(str(folder))
        else:
            if not folder.exists() and not hub_is_reachable():
                datasets.config.HF_HUB_OFFLINE = True  # what is in the local cache still loads, at once
            loaded = datasets.load_dataset(config.name, config.config)
    except Exception as error:  # the library raises a dozen kinds; each of them means that the name cannot be loaded
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"data.name={config.name}: cannot be loaded ({reason}). Give a data set's name on the hub "
            f"(needs the network once) or a folder written by save_to_disk"
        ) from error
    parts = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    known = {name: part for name, part in parts.items() if name in SPLIT_NAMES}
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
