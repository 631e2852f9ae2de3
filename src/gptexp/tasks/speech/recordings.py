"""The user's own recordings, with the text that is spoken in each and perhaps the name of its voice."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora.media_table import MediaTable
from gptexp.tasks.speech.audio import Audio


class Recordings(MediaTable):
    medium = "audio"
    supported_fields = (("voice", "text"),)

    def read(self, path: Path) -> NDArray[np.int16]:
        return Audio.read(path).samples
