"""The user's own recordings, with what is said in them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora.tables import Table
from gptexp.data.media import Sound


class Recordings(Table):
    media, supported_fields = "audio", (("voice", "text"),)

    def read(self, path: Path) -> NDArray[np.int16]:
        return Sound.of(path).samples
