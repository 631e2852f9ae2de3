"""Pictures, clips and sound as values: read from any files, kept as arrays, written to files that anyone opens."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.errors import UserError

LONGEST_SIDE = 256  # pixels of a picture that are kept
MOST_FRAMES = 16  # of a clip
CLIPS = ("GIF", "PNG", "WEBP")  # formats whose frames are a clip
RATE = 16000  # samples a second of all sound


@dataclass(frozen=True)
class Picture:
    """Frames [F, H, W, 3] of bytes: red, green, blue; one frame, or a clip."""

    frames: NDArray[np.uint8]

    @property
    def suffix(self) -> str:
        return ".png" if len(self.frames) == 1 else ".gif"

    def __len__(self) -> int:
        return len(self.frames)

    def __str__(self) -> str:
        frames, height, width, _ = self.frames.shape
        return f"({'picture' if frames == 1 else f'clip of {frames} frames'}, {width} x {height})"

    def save(self, path: Path | str) -> None:
        """As PNG; a clip as GIF, four frames a second.

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
            raise UserError(f"{path}: cannot be written as a picture ({error})") from error

    def resize_square(self, side: int, frames: int) -> NDArray[np.uint8]:
        """[frames, side, side, 3]: the whole picture on black, and frames at equal distances of time."""
        from PIL import Image, ImageOps

        chosen = np.linspace(0, len(self.frames) - 1, frames).round().astype(int)
        if self.frames.shape[1:3] == (side, side):
            return self.frames[chosen]
        fitted = (
            ImageOps.pad(Image.fromarray(self.frames[i]), (side, side), Image.Resampling.BOX)
            for i in chosen
        )
        return np.stack([np.asarray(image) for image in fitted])

    @classmethod
    def of(cls, given: Any) -> "Picture":
        """From a file (PNG, JPEG, GIF, ...), an image of Pillow's, or an array [H, W, 3] or [F, H, W, 3] of bytes.

        Raises:
            UserError: it is none of these, or damaged.
        """
        from PIL import Image

        if isinstance(given, Picture):
            return given
        if isinstance(given, np.ndarray):
            frames = given[None] if given.ndim == 3 else given
            if (
                frames.ndim != 4
                or frames.shape[-1] != 3
                or frames.dtype != np.uint8
                or not frames.size
            ):
                raise UserError(
                    f"an array {list(given.shape)} of {given.dtype}: a picture is [H, W, 3] of uint8"
                )
            return cls(frames)
        if not isinstance(given, str | Path | io.BytesIO | Image.Image):
            raise UserError(f"{given!r:.80}: a picture is a file, an image of Pillow's or an array")
        name = given if isinstance(given, str | Path) else "the picture"
        try:
            if isinstance(given, Image.Image):
                return cls(_frames(given))
            with Image.open(given) as image:
                return cls(_frames(image))
        except FileNotFoundError:
            raise UserError(f"{name}: there is no such picture") from None
        except Exception as error:  # a damaged file can raise anything
            reason = str(error).strip() or type(error).__name__
            raise UserError(f"{name}: is no picture, or damaged ({reason})") from error


def _frames(image: Any) -> NDArray[np.uint8]:
    """[F, H, W, 3]: of a clip at most MOST_FRAMES, of a file with several pictures the first."""
    from PIL import ImageOps

    count = getattr(image, "n_frames", 1) if image.format in CLIPS else 1
    frames = []
    for number in np.linspace(0, count - 1, min(count, MOST_FRAMES)).round().astype(int).tolist():
        if count > 1:
            image.seek(number)
        frame = _in_colours(ImageOps.exif_transpose(image))
        frame.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        frames.append(np.asarray(frame))
    return np.stack(frames)


def _in_colours(image: Any) -> Any:
    """As red, green and blue; on white where it is transparent."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":  # more than 8 bits: 16, or 0 to 1
        values = np.asarray(image, np.float64)
        is_wide = image.mode.startswith("I;16") or values.max() > 255
        values = values * (
            255 if image.mode == "F" and values.max() <= 1 else 1 / 257 if is_wide else 1
        )
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return image.convert("RGB")


@dataclass(frozen=True)
class Sound:
    """Samples [N] of 16 bits, one channel, 16,000 a second."""

    samples: NDArray[np.int16]

    suffix = ".wav"

    def __len__(self) -> int:
        return len(self.samples)

    def __str__(self) -> str:
        return f"(sound, {self.seconds:.2f} s)"

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE

    @property
    def floats(self) -> NDArray[np.float32]:
        """[N] between -1 and 1."""
        return self.samples.astype(np.float32) / np.float32(32768)

    def save(self, path: Path | str) -> None:
        """As WAV (or FLAC, by the ending).

        Raises:
            UserError: the file cannot be written, or has another ending.
        """
        import soundfile

        try:
            soundfile.write(str(path), self.samples, RATE)
        except (soundfile.SoundFileError, TypeError, OSError) as error:
            raise UserError(
                f"{path}: cannot be written as sound ({error}). Give a name that ends in .wav"
            ) from error

    @classmethod
    def of(cls, given: Any) -> "Sound":
        """From a file (WAV, FLAC, ... of any rate, width and number of channels), or samples [N] at 16,000 a second.

        Raises:
            UserError: it is none of these, damaged, empty or silent.
        """
        import soundfile
        import soxr

        if isinstance(given, Sound):
            return given
        rate, where = RATE, "an array"
        if isinstance(given, str | Path):
            where = str(given)
            try:
                values, rate = soundfile.read(where, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, OSError) as error:
                reason = (
                    "there is no such file" if not Path(given).exists() else "no sound, or damaged"
                )
                raise UserError(f"{given}: {reason} ({str(error).strip()})") from error
            values = values.mean(axis=1)
        else:
            values = np.asarray(given)
            if values.dtype.kind not in "f" and values.dtype != np.int16:
                raise UserError(
                    f"{where} of {values.dtype}: sound is of int16, or of floats between -1 and 1"
                )
            values = values.astype(np.float32) / (32768 if values.dtype == np.int16 else 1)
        if values.ndim != 1:
            raise UserError(f"{where}: sound is [N] samples, not {list(values.shape)}")
        if len(values) < RATE // 100 or float(np.abs(values).max()) < 1e-4:
            raise UserError(f"{where}: is {'empty' if len(values) < RATE // 100 else 'silent'}")
        if not np.isfinite(values).all():
            raise UserError(f"{where}: has samples that are not finite")
        resampled = values if rate == RATE else soxr.resample(values, rate, RATE)
        return cls((np.clip(resampled, -1, 1) * 32767).round().astype(np.int16))
