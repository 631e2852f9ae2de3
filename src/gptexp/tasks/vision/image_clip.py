"""Images and clips as values: read from files of any format, kept as arrays, written as PNG or GIF."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.errors import UserError
from gptexp.extras import require_extra
from gptexp.tasks.vision.settings import MODULES

require_extra("vision", MODULES)

MAX_SIDE = 256  # pixels; larger images are scaled down
MAX_FRAMES = 16  # of a clip, at equal distances of time
CLIP_FORMATS = ("GIF", "PNG", "WEBP")  # whose frames are a clip


@dataclass(frozen=True)
class ImageClip:
    """RGB frames [F, H, W, 3] of bytes: one frame, or a clip."""

    frames: NDArray[np.uint8]

    @property
    def suffix(self) -> str:
        return ".png" if len(self.frames) == 1 else ".gif"

    def __len__(self) -> int:
        return len(self.frames)

    def __str__(self) -> str:
        frames, height, width, _ = self.frames.shape
        return f"({'image' if frames == 1 else f'clip of {frames} frames'}, {width} x {height})"

    def save(self, path: Path | str) -> None:
        """Write an image as PNG, a clip as GIF with four frames a second.

        Raises:
            UserError: the file cannot be written.
        """
        from PIL import Image

        first, *others = (Image.fromarray(frame) for frame in self.frames)
        more = (
            {"save_all": True, "append_images": others, "duration": 250, "loop": 0}
            if others
            else {}
        )
        try:
            first.save(path, **more)  # type: ignore[arg-type]
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be written as an image ({error})") from None

    def resize_square(self, side: int, frames: int) -> NDArray[np.uint8]:
        """Return [frames, side, side, 3]: images padded with black to a square, frames at equal distances of time."""
        from PIL import Image, ImageOps

        indices = np.linspace(0, len(self.frames) - 1, frames).round().astype(int)
        if self.frames.shape[1:3] == (side, side):
            return self.frames[indices]
        padded = (
            ImageOps.pad(Image.fromarray(self.frames[i]), (side, side), Image.Resampling.BOX)
            for i in indices
        )
        return np.stack([np.asarray(image) for image in padded])

    @classmethod
    def read(cls, source: Any) -> "ImageClip":
        """Read a file (PNG, JPEG, GIF, ...), a Pillow image, or an array [H, W, 3] or [F, H, W, 3] of bytes.

        Raises:
            UserError: the source is none of these, or damaged.
        """
        from PIL import Image

        if isinstance(source, ImageClip):
            return source
        if isinstance(source, np.ndarray):
            frames = source[None] if source.ndim == 3 else source
            if (
                frames.ndim != 4
                or frames.shape[-1] != 3
                or frames.dtype != np.uint8
                or not frames.size
            ):
                raise UserError(
                    f"an array {list(source.shape)} of {source.dtype}: an image is [H, W, 3] of uint8"
                )
            return cls(frames)
        if not isinstance(source, str | Path | io.BytesIO | Image.Image):
            raise UserError(f"{source!r:.80}: an image is a file, a Pillow image or an array")
        name = source if isinstance(source, str | Path) else "the image"
        try:
            if isinstance(source, Image.Image):
                return cls(_frames(source))
            with Image.open(source) as image:
                return cls(_frames(image))
        except FileNotFoundError:
            raise UserError(f"{name}: there is no such image") from None
        except Exception as error:  # a damaged file can raise anything
            reason = str(error).strip() or type(error).__name__
            raise UserError(f"{name}: is not an image, or damaged ({reason})") from None


def _frames(image: Any) -> NDArray[np.uint8]:
    """Return [F, H, W, 3]: at most MAX_FRAMES frames of a clip, the first image of a file with several."""
    from PIL import ImageOps

    count = getattr(image, "n_frames", 1) if image.format in CLIP_FORMATS else 1
    frames = []
    for number in np.linspace(0, count - 1, min(count, MAX_FRAMES)).round().astype(int).tolist():
        if count > 1:
            image.seek(number)
        frame = _to_rgb(ImageOps.exif_transpose(image))
        frame.thumbnail((MAX_SIDE, MAX_SIDE))
        frames.append(np.asarray(frame))
    return np.stack(frames)


def _to_rgb(image: Any) -> Any:
    """Convert to RGB, transparent parts to white."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a channel, or floats
        values = np.asarray(image, np.float64)
        if image.mode == "F" and values.max() <= 1:
            values = values * 255
        elif image.mode.startswith("I;16") or values.max() > 255:
            values = values * (1 / 257)
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
