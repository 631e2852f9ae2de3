"""Pictures, clips and sound as values: read from any files, kept as arrays, written to files that anyone opens."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.config.errors import UserError

LONGEST_SIDE = 256  # pixels of a picture that are kept
MOST_FRAMES = 64  # of a clip
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
        """As PNG; a clip as GIF, four frames a second."""
        from PIL import Image

        first, *others = (Image.fromarray(frame) for frame in self.frames)
        more = {"save_all": True, "append_images": others, "duration": 250, "loop": 0} if others else {}
        first.save(path, **more)  # type: ignore[arg-type]

    def squared(self, side: int, frames: int) -> NDArray[np.uint8]:
        """[frames, side, side, 3]: the whole picture on black, and frames at equal distances of time."""
        from PIL import Image, ImageOps

        chosen = np.linspace(0, len(self.frames) - 1, frames).round().astype(int)
        if self.frames.shape[1:3] == (side, side):
            return self.frames[chosen]
        fitted = (ImageOps.pad(Image.fromarray(self.frames[i]), (side, side), Image.Resampling.BOX) for i in chosen)
        return np.stack([np.asarray(image) for image in fitted])

    @classmethod
    def of(cls, given: Any) -> Picture:
        """From a file (PNG, JPEG, GIF, ...), an image of Pillow's, or an array [H, W, 3] or [F, H, W, 3] of bytes.

        Raises:
            UserError: it is none of these, or damaged.
        """
        from PIL import Image, ImageOps, ImageSequence

        if isinstance(given, Picture):
            return given
        if isinstance(given, np.ndarray):
            frames = given[None] if given.ndim == 3 else given
            if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
                raise UserError(f"an array {list(given.shape)} of {given.dtype}: a picture is [H, W, 3] of uint8")
            return cls(frames)
        if not isinstance(given, str | Path | Image.Image):
            raise UserError(f"{given!r:.80}: a picture is a file, an image of Pillow's or an array")
        try:
            with nullcontext(given) if isinstance(given, Image.Image) else Image.open(given) as image:
                sequence = ImageSequence.all_frames(image, lambda frame: ImageOps.exif_transpose(frame).convert("RGB"))
        except FileNotFoundError:
            raise UserError(f"{given}: there is no such picture") from None
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise UserError(
                f"{given}: is no picture, or damaged ({str(error).strip() or type(error).__name__})"
            ) from error
        chosen = np.linspace(0, len(sequence) - 1, min(len(sequence), MOST_FRAMES)).round().astype(int)
        for frame in sequence:
            frame.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        return cls(np.stack([np.asarray(sequence[i]) for i in chosen]))


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
            raise UserError(f"{path}: cannot be written as sound ({error}). Give a name that ends in .wav") from error

    @classmethod
    def of(cls, given: Any) -> Sound:
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
                reason = "there is no such file" if not Path(given).exists() else "no sound, or damaged"
                raise UserError(f"{given}: {reason} ({str(error).strip()})") from error
            values = values.mean(axis=1)
        else:
            values = np.asarray(given)
            values = values.astype(np.float32) / (32768 if values.dtype == np.int16 else 1)
        if values.ndim != 1:
            raise UserError(f"{where}: sound is [N] samples, not {list(values.shape)}")
        if len(values) < RATE // 100 or float(np.abs(values).max()) < 1e-4:
            raise UserError(f"{where}: is {'empty' if len(values) < RATE // 100 else 'silent'}")
        if not np.isfinite(values).all():
            raise UserError(f"{where}: has samples that are not finite")
        resampled = values if rate == RATE else soxr.resample(values, rate, RATE)
        return cls((np.clip(resampled, -1, 1) * 32767).round().astype(np.int16))


Media = Picture | Sound


def as_media(array: NDArray) -> Media:
    """What an array that was kept is: sound has one dimension."""
    return Sound(array) if array.ndim == 1 else Picture(array)
