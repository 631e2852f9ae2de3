"""Images with captions from a data set that datasets.load_dataset takes: a name on the hub, or a local folder."""

import io

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora.hub_media import HubMedia
from gptexp.tasks.vision.image_clip import ImageClip


class HubImages(HubMedia):
    medium = "image"
    supported_fields = (("caption",),)
    groups_by_file = True  # several captions of one image stay in one split

    def read(self, source: str | io.BytesIO) -> NDArray[np.uint8]:
        return ImageClip.read(source).frames
