"""The user's own pictures and clips, with captions."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora.tables import Table
from gptexp.data.media import Picture


class Images(Table):
    media, supported_fields = "image", (("caption",),)

    def read(self, path: Path) -> NDArray[np.uint8]:
        return Picture.of(path).frames
