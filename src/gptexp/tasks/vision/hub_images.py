"""Images with captions from a data set that datasets.load_dataset takes: a name on the hub, or a local folder."""

import io
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora.corpus import Example
from gptexp.data.corpora.hub import Hub
from gptexp.errors import UserError
from gptexp.tasks.vision.image_clip import ImageClip
from gptexp.tasks.vision.settings import HubImagesConfig


class HubImages(Hub):
    medium = "image"
    supported_fields = (("caption",),)
    media_fields = ("image",)

    def __init__(self, config: HubImagesConfig, fields: tuple[str, ...], cache: Path) -> None:
        super().__init__(config, fields, cache)
        self.column = config.fields.get("image", "image")
        self.parts = {name: self._keep_encoded(name, part) for name, part in self.parts.items()}

    def example(self, record: dict[str, Any], split: str | None, where: str) -> Example:
        example = super().example(record, split, where)
        encoded = record[self.column]
        if not encoded:
            raise UserError(f"{where}: has no image")
        example.media = partial(_decode, encoded, where)
        example.group = encoded["path"]
        if encoded["bytes"]:
            example.group = sha256(encoded["bytes"]).hexdigest()
        return example

    def _keep_encoded(self, name: str, part: Any) -> Any:
        """Keep the images of a split as bytes: they are decoded one at a time."""
        import datasets

        if not isinstance(part.features.get(self.column), datasets.Image):
            raise UserError(
                f"{self.config.name}, {name}: no images in field '{self.column}'. It has: {', '.join(part.features)}. "
                f"Name the right one with data.fields.image=..."
            )
        return part.cast_column(self.column, datasets.Image(decode=False))


def _decode(encoded: dict[str, Any], where: str) -> NDArray[np.uint8]:
    source = encoded["path"]
    if encoded["bytes"]:
        source = io.BytesIO(encoded["bytes"])
    try:
        return ImageClip.read(source).frames
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
