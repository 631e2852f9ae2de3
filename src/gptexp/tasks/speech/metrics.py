"""Metrics of speech: how well it can be understood, and how close it is to a recording."""

import numpy as np
from numpy.typing import NDArray
from torchmetrics.functional.text import word_error_rate

from gptexp.data.token_store import TokenStore
from gptexp.tasks.layout import EvalExample
from gptexp.tasks.metrics import Metric, jackknife
from gptexp.tasks.speech.audio import Audio
from gptexp.tasks.speech.recognizer import Recognizer
from gptexp.tasks.speech.spectrogram import mfcc, requantize


class SpeechQuality(Metric):
    """Word error rate by a small recognizer, mel-cepstral distortion in decibels, and the ratio of durations.

    `prepare` measures the same on recordings, and on recordings after quantization: the limits of the scores.
    """

    name = "word_error_rate"
    higher_is_better = False
    recognizer: Recognizer

    def prepare(self, store: TokenStore, examples: list[EvalExample]) -> dict[str, float]:
        self.recognizer = Recognizer.load_or_train(store)
        recordings = [example.reference for example in examples]
        quantised = [requantize(audio) for audio in recordings]
        distances = [distortion(*pair) for pair in zip(quantised, recordings, strict=True)]
        return {
            "recordings/word_error_rate": self._word_error_rate(recordings, examples),
            "quantised/word_error_rate": self._word_error_rate(quantised, examples),
            "quantised/distortion": float(np.mean(distances)),
        }

    def score_each(
        self, outputs: list[Audio], examples: list[EvalExample]
    ) -> dict[str, list[float]]:
        pairs = [(a, example.reference) for a, example in zip(outputs, examples, strict=True)]
        return {
            "distortion": [distortion(output, recording) for output, recording in pairs],
            "duration_ratio": [output.seconds / recording.seconds for output, recording in pairs],
        }

    def score_all(self, outputs: list[Audio], examples: list[EvalExample]) -> dict[str, float]:
        return {"word_error_rate": self._word_error_rate(outputs, examples)}

    def contributions(
        self, outputs: list[Audio], examples: list[EvalExample]
    ) -> dict[str, list[float]]:
        counts = []
        for text, example in zip(self.recognizer.transcribe(outputs), examples, strict=True):
            words = len(example.input.text.split())
            rate = float(word_error_rate([text], [example.input.text.strip()]))
            counts.append((rate * words, words))
        return {"word_error_rate": jackknife(np.array(counts), _error_rate)}

    def baselines(self, examples: list[EvalExample]) -> dict[str, list[Audio]]:
        texts = [example.input.text for example in examples]
        if len(set(texts)) < 2:
            return {}
        others = []
        for i, text in enumerate(texts):
            order = [*range(i + 1, len(texts)), *range(i + 1)]
            others.append(next((j for j in order if texts[j] != text), i))
        return {"the recording of another text": [examples[j].reference for j in others]}

    def _word_error_rate(self, recordings: list[Audio], examples: list[EvalExample]) -> float:
        texts = [example.input.text.strip() for example in examples]
        return float(word_error_rate(self.recognizer.transcribe(recordings), texts))


def _error_rate(counts: NDArray) -> float:
    errors, words = counts.tolist()
    return errors / words if words else 0.0


def distortion(one: Audio, other: Audio) -> float:
    """Return the mel-cepstral distortion (Kubichek 1993) in decibels: 13 coefficients, dynamic time warping.

    The cost of the cheapest path is divided by the frames of the longer recording.
    """
    first, second = mfcc(one), mfcc(other)
    squares = np.square(first[:, None] - second[None]).sum(axis=-1)
    distances = np.sqrt(2 * squares) * (10 / np.log(10))  # [S, T]
    costs = np.cumsum(distances[0])
    for row in distances[1:]:  # a path comes from above, from the left, or from both
        along = np.cumsum(row)
        before = np.minimum(costs, np.concatenate(([np.inf], costs[:-1])))
        costs = along + np.minimum.accumulate(before - along + row)
    return float(costs[-1]) / max(len(first), len(second))
