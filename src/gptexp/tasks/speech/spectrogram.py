"""Audio to a quantized mel spectrogram and back.

dMel (arXiv 2407.15835): each channel of a log-mel spectrogram is rounded to one of 16 levels; no codec is trained.
The way back is the pseudo-inverse of the mel filters and Griffin-Lim (1984; made faster by Perraudin et al. 2013).

Legend: N samples, T frames, M = 40 mel channels.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptexp.tasks.speech.audio import RATE, Audio
from gptexp.tasks.vision.image_clip import ImageClip

MELS, LEVELS = 40, 16
HOP, WINDOW = 200, 512  # samples: a frame of 32 ms every 12.5 ms
LOWEST, HIGHEST = -5.0, 2.5  # range of the natural logarithm of a magnitude, at LOUDNESS
LOUDNESS = 0.1  # root mean square of the samples that are not silent
ITERATIONS, MOMENTUM = 32, 0.99  # of Griffin-Lim


def log_mel(audio: Audio) -> Tensor:
    """Return the log-mel spectrogram [T, M] of audio that is scaled to LOUDNESS."""
    samples = torch.from_numpy(audio.floats)
    loud = samples[samples.abs() > 0.02 * samples.abs().max()]
    if len(loud):
        samples = samples * (LOUDNESS / loud.square().mean().sqrt())
    magnitude = _stft(samples).abs()  # [WINDOW / 2 + 1, T]
    return (_filters() @ magnitude).clamp(min=1e-6).log().T


def quantize(log_mels: Tensor) -> NDArray[np.uint8]:
    """Round a log-mel spectrogram [T, M] to levels from 0 to 15."""
    fraction = (log_mels - LOWEST) / (HIGHEST - LOWEST)
    return (fraction * (LEVELS - 1)).round().clamp(0, LEVELS - 1).to(torch.uint8).numpy()


def dequantize(levels: NDArray[np.uint8]) -> Tensor:
    """Return the log-mel spectrogram that levels [T, M] stand for."""
    return LOWEST + torch.from_numpy(levels.astype(np.float32)) * (
        (HIGHEST - LOWEST) / (LEVELS - 1)
    )


def griffin_lim(log_mels: Tensor) -> Audio:
    """Synthesise audio with a log-mel spectrogram [T, M]; silence for less than two frames.

    The phases start from fixed noise, so that the same spectrogram always sounds the same.
    """
    length = HOP * (len(log_mels) - 1)
    if length <= 0:
        return Audio(np.zeros(HOP, np.int16))
    magnitude = (torch.linalg.pinv(_filters()) @ log_mels.exp().T).clamp(
        min=0
    )  # [WINDOW / 2 + 1, T]
    phase = torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0)) * (2 * torch.pi)
    previous = torch.zeros_like(magnitude, dtype=torch.complex64)
    angles = torch.polar(torch.ones_like(magnitude), phase)
    for _ in range(ITERATIONS):
        spectrum = _stft(_istft(magnitude * angles, length))
        angles = spectrum - previous * (MOMENTUM / (1 + MOMENTUM))
        angles, previous = angles / angles.abs().clamp(min=1e-8), spectrum
    samples = _istft(magnitude * angles, length)
    return Audio((samples.clamp(-1, 1) * 32767).to(torch.int16).numpy())


def requantize(audio: Audio) -> Audio:
    """Return audio as it sounds after quantization: the best that a model of the levels can do."""
    return griffin_lim(dequantize(quantize(log_mel(audio))))


def mfcc(audio: Audio) -> NDArray[np.float32]:
    """Return the mel-frequency cepstral coefficients 1 to 13, [T, 13]: the spectrum's shape without its loudness."""
    cosines = np.cos(np.pi / MELS * (np.arange(MELS) + 0.5)[:, None] * np.arange(1, 14)) * np.sqrt(
        2 / MELS
    )  # [M, 13]
    return (log_mel(audio).clamp(LOWEST, HIGHEST).numpy() @ cosines).astype(np.float32)


def spectrogram_image(recordings: list[Audio]) -> ImageClip:
    """Draw spectrograms beside each other, low tones at the bottom, a white line between them."""
    parts = []
    for audio in recordings:
        parts += [quantize(log_mel(audio)) * np.uint8(17), np.full((2, MELS), 255, np.uint8)]
    grey = np.concatenate(parts[:-1]).T[::-1].repeat(3, axis=0).repeat(3, axis=1)
    return ImageClip(np.ascontiguousarray(np.stack([grey] * 3, axis=-1))[None])


def _stft(samples: Tensor) -> Tensor:
    window = torch.hann_window(WINDOW)
    mode = "reflect" if len(samples) > WINDOW // 2 else "constant"
    return torch.stft(samples, WINDOW, HOP, window=window, return_complex=True, pad_mode=mode)


def _istft(spectrum: Tensor, length: int) -> Tensor:
    return torch.istft(spectrum, WINDOW, HOP, window=torch.hann_window(WINDOW), length=length)


@cache
def _filters() -> Tensor:
    """Return triangles [M, WINDOW / 2 + 1] at equal distances on the mel scale (O'Shaughnessy 1987), 0 to 8 kHz."""
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, MELS + 2) / 2595) - 1)  # Hz
    frequencies = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.clip(np.minimum(rising, falling), 0, None)
    return torch.from_numpy(triangles / triangles.sum(axis=1, keepdims=True).clip(min=1e-8)).float()
