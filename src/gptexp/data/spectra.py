"""Sound to levels of a mel spectrogram and back.

dMel (arXiv 2407.15835): each channel of a log-mel spectrogram, rounded to one of 16 levels; no codec is trained.
Back to sound with the pseudo-inverse of the mel filters and Griffin-Lim (1984; made faster by Perraudin et al. 2013).

Legend: N samples, T frames, M = 40 mel channels.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptexp.data.media import RATE, Picture, Sound

MELS, LEVELS = 40, 16
HOP, WINDOW = 200, 512  # samples: a frame each 12.5 ms, of 32 ms
LOWEST, HIGHEST = -5.0, 2.5  # natural logarithm of a channel's magnitude, at a loudness of LOUDNESS
LOUDNESS = 0.1  # root mean square of the samples that are not silent
ROUNDS, MOMENTUM = 32, 0.99  # of Griffin-Lim


def log_mel(sound: Sound) -> Tensor:
    """Natural logarithms of magnitudes, [T, M], of the sound at a loudness of its own."""
    samples = torch.from_numpy(sound.floats)
    loud = samples[samples.abs() > 0.02 * samples.abs().max()]
    if len(loud):
        samples = samples * (LOUDNESS / loud.square().mean().sqrt())
    magnitude = _stft(samples).abs()  # [WINDOW / 2 + 1, T]
    return (_filters() @ magnitude).clamp(min=1e-6).log().T


def levels(log_mels: Tensor) -> NDArray[np.uint8]:
    """[T, M] to levels from 0 to 15."""
    share = (log_mels - LOWEST) / (HIGHEST - LOWEST)
    return (share * (LEVELS - 1)).round().clamp(0, LEVELS - 1).to(torch.uint8).numpy()


def from_levels(rows: NDArray[np.uint8]) -> Tensor:
    """The logarithms that levels [T, M] stand for."""
    return LOWEST + torch.from_numpy(rows.astype(np.float32)) * ((HIGHEST - LOWEST) / (LEVELS - 1))


def to_sound(log_mels: Tensor) -> Sound:
    """Sound with this spectrogram [T, M]; of less than two frames, silence.

    Its phases are found by Griffin-Lim, from those of a fixed noise.
    """
    length = HOP * (len(log_mels) - 1)
    if length <= 0:
        return Sound(np.zeros(HOP, np.int16))
    magnitude = (torch.linalg.pinv(_filters()) @ log_mels.exp().T).clamp(
        min=0
    )  # [WINDOW / 2 + 1, T]
    phase = torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0)) * (2 * torch.pi)
    before = torch.zeros_like(magnitude, dtype=torch.complex64)
    angles = torch.polar(torch.ones_like(magnitude), phase)
    for _ in range(ROUNDS):
        now = _stft(_inverse(magnitude * angles, length))
        angles = now - before * (MOMENTUM / (1 + MOMENTUM))
        angles, before = angles / angles.abs().clamp(min=1e-8), now
    samples = _inverse(magnitude * angles, length)
    return Sound((samples.clamp(-1, 1) * 32767).to(torch.int16).numpy())


def cepstra(sound: Sound) -> NDArray[np.float32]:
    """Mel-frequency cepstral coefficients 1 to 13, [T, 13]: the shape of the spectrum without its loudness."""
    waves = np.cos(np.pi / MELS * (np.arange(MELS) + 0.5)[:, None] * np.arange(1, 14)) * np.sqrt(
        2 / MELS
    )  # [M, 13]
    return (log_mel(sound).clamp(LOWEST, HIGHEST).numpy() @ waves).astype(np.float32)


def spectrogram_image(sounds: list[Sound]) -> Picture:
    """The spectrograms of sounds beside each other, low tones at the bottom, a white line between them."""
    parts = []
    for sound in sounds:
        parts += [levels(log_mel(sound)) * np.uint8(17), np.full((2, MELS), 255, np.uint8)]
    grey = np.concatenate(parts[:-1]).T[::-1].repeat(3, axis=0).repeat(3, axis=1)
    return Picture(np.ascontiguousarray(np.stack([grey] * 3, axis=-1))[None])


def _stft(samples: Tensor) -> Tensor:
    window = torch.hann_window(WINDOW)
    mode = "reflect" if len(samples) > WINDOW // 2 else "constant"
    return torch.stft(samples, WINDOW, HOP, window=window, return_complex=True, pad_mode=mode)


def _inverse(spectrum: Tensor, length: int) -> Tensor:
    return torch.istft(spectrum, WINDOW, HOP, window=torch.hann_window(WINDOW), length=length)


@cache
def _filters() -> Tensor:
    """Triangles [M, WINDOW / 2 + 1] at equal distances on the mel scale (O'Shaughnessy 1987), 0 to 8 kHz."""
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, MELS + 2) / 2595) - 1)  # Hz
    frequencies = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.clip(np.minimum(rising, falling), 0, None)
    return torch.from_numpy(triangles / triangles.sum(axis=1, keepdims=True).clip(min=1e-8)).float()
