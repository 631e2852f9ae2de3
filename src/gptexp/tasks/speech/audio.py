"""Audio as values: read from files of any format, kept as samples, written as WAV or FLAC."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.errors import UserError
from gptexp.extras import require_extra
from gptexp.tasks.speech.settings import MODULES

require_extra("speech", MODULES)

RATE = 16000  # samples a second of all audio


@dataclass(frozen=True)
class Audio:
    """16-bit samples [N] of one channel, 16,000 a second."""

    samples: NDArray[np.int16]

    suffix = ".wav"

    def __len__(self) -> int:
        return len(self.samples)

    def __str__(self) -> str:
        return f"(audio, {self.seconds:.2f} s)"

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE

    @property
    def floats(self) -> NDArray[np.float32]:
        """The samples as [N] between -1 and 1."""
        return self.samples.astype(np.float32) / np.float32(32768)

    def save(self, path: Path | str) -> None:
        """Write a WAV or FLAC file, by the extension of its name.

        Raises:
            UserError: the file cannot be written, or has another extension.
        """
        import soundfile

        try:
            soundfile.write(str(path), self.samples, RATE)
        except (soundfile.SoundFileError, TypeError, OSError) as error:
            raise UserError(
                f"{path}: cannot be written as audio ({error}). Give a name that ends in .wav or .flac"
            ) from None

    @classmethod
    def read(cls, source: Any) -> "Audio":
        """Read a file (WAV, FLAC, ... of any rate, width and number of channels), or samples [N] at 16,000 a second.

        A file can be a path, or its content as io.BytesIO.

        Raises:
            UserError: the source is none of these, or it is damaged, empty or silent.
        """
        import soundfile
        import soxr

        if isinstance(source, Audio):
            return source
        rate, where = RATE, "an array"
        if isinstance(source, str | Path | io.BytesIO):
            is_file = isinstance(source, str | Path)
            where = str(source) if is_file else "the recording"
            try:
                values, rate = soundfile.read(
                    where if is_file else source, dtype="float32", always_2d=True
                )
            except (soundfile.SoundFileError, OSError) as error:
                is_missing = is_file and not Path(where).exists()
                reason = "there is no such file" if is_missing else "not audio, or damaged"
                raise UserError(f"{where}: {reason} ({str(error).strip()})") from None
            values = values.mean(axis=1)
        else:
            values = np.asarray(source)
            if values.dtype.kind not in "f" and values.dtype != np.int16:
                raise UserError(
                    f"{where} of {values.dtype}: audio is int16, or floats between -1 and 1"
                )
            values = values.astype(np.float32) / (32768 if values.dtype == np.int16 else 1)
        if values.ndim != 1:
            raise UserError(f"{where}: audio is [N] samples, not {list(values.shape)}")
        if len(values) < RATE // 100 or float(np.abs(values).max()) < 1e-4:
            raise UserError(f"{where}: is {'empty' if len(values) < RATE // 100 else 'silent'}")
        if not np.isfinite(values).all():
            raise UserError(f"{where}: has samples that are not finite")
        resampled = values if rate == RATE else soxr.resample(values, rate, RATE)
        return cls((np.clip(resampled, -1, 1) * 32767).round().astype(np.int16))
