"""The user's own images and clips, with captions."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora.media_table import MediaTable
from gptexp.tasks.vision.image_clip import ImageClip


class Images(MediaTable):
    medium = "image"
    supported_fields = (("caption",),)
    groups_by_file = True  # several captions of one image stay in one split

    def read(self, path: Path) -> NDArray[np.uint8]:
        return ImageClip.read(path).frames
