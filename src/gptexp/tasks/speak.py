"""Speech synthesis: a text and a voice are given, the frames of the sound are said, several a step (see spectra.py).

Word error rate by a small recogniser that has heard the training split (recogniser.py), beside its error on recordings
and on recordings that went to levels and back; mel-cepstral distortion in decibels (Kubichek 1993) along the best
warping of time, and the ratio of durations. The baseline is the recording of another text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torchmetrics.functional.text import word_error_rate

from gptexp.config import schema
from gptexp.data import spectra
from gptexp.data.corpora import Example
from gptexp.data.datasets.prompt_completion import Speech
from gptexp.data.datasets.windows import SequenceDataset
from gptexp.data.media import Sound
from gptexp.data.token_store import TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError, unknown
from gptexp.generation.feature_decoding import generate_features
from gptexp.generation.prompt import Prompt
from gptexp.model import Transformer
from gptexp.tasks.recognizer import Recognizer
from gptexp.tasks.task import Task, sample_examples

MARK = "|"  # between the name of a voice and a text


@dataclass(frozen=True)
class Line:
    voice: str  # "": there is one alone
    text: str

    def __len__(self) -> int:
        return len(self.text)

    def __str__(self) -> str:
        return f"{self.voice}{MARK}{self.text}" if self.voice else self.text


class Speak(Task):
    fields = ("voice", "text")
    headline = "word_error_rate"
    higher_is_better = False
    config: schema.SpeakConfig
    recognizer: Recognizer

    def settings(self) -> dict[str, Any]:
        return {
            "layout": "voice sep text sep frames",
            "frames": self.config.frames_per_step,
            "context": self.context,
            "spectra": [
                spectra.MELS,
                spectra.LEVELS,
                spectra.HOP,
                spectra.WINDOW,
                spectra.LOWEST,
                spectra.HIGHEST,
            ],
        }

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        return [self._sequence(example, tokenizer) for example in examples]

    def _sequence(self, example: Example, tokenizer: Tokenizer) -> TokenizedExample:
        line = Line(example.fields["voice"], example.fields["text"])
        if not line.text.strip():
            raise UserError(
                f"a recording has no text (voice '{line.voice}'): fill it in, or leave the recording out"
            )
        given = self._tokens(line, tokenizer)
        assert example.media is not None
        rows = self._rows(spectra.levels(spectra.log_mel(Sound(example.media()))))
        if len(given) + len(rows) > self.context:
            raise UserError(
                f"'{line.text:.60}' takes {len(given)} tokens and {len(rows)} steps of sound: too long for "
                f"model.context={self.context}. Raise it, raise task.frames_per_step, or cut the recording"
            )
        return TokenizedExample(given, len(given), len(rows) + 1, rows)

    def _rows(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Levels [T, M] as rows of several frames [F, frames_per_step * M], with silence at the end."""
        missing = -len(frames) % self.config.frames_per_step
        return np.pad(frames, ((0, missing), (0, 0))).reshape(-1, self.config.feature_size)

    def read(self, given: str, tokenizer: Tokenizer) -> Line:
        before, mark, after = given.partition(MARK)
        return (
            self.line(after, before.strip(), tokenizer)
            if mark
            else self.line(given, None, tokenizer)
        )

    def line(self, text: str, voice: str | None, tokenizer: Tokenizer) -> Line:
        """A text to be spoken by a voice; by the first one where none is named.

        Raises:
            UserError: it has characters that the model has never seen, or none; or there is no such voice.
        """
        voices, text = self.config.voices, text.strip()
        voice = voice or self.config.voice or next(iter(voices), "")
        if voices and voice not in voices:
            raise unknown("voice", voice, voices)
        if not text:
            raise UserError("there is no text to speak: give one, or 'VOICE|TEXT'")
        strange = sorted(
            {letter for letter in text if tokenizer.unknown_bytes(letter, tokenizer.encode(letter))}
        )
        if strange:
            raise UserError(
                f"'{text}': the model has never seen {' '.join(strange)}; spell it in other letters"
            )
        return Line(voice, text)

    def prompt(self, asked: Line, tokenizer: Tokenizer) -> Prompt:
        return Prompt(tuple(self._tokens(asked, tokenizer)))

    def _tokens(self, line: Line, tokenizer: Tokenizer) -> list[int]:
        voice, text = line.voice.strip(), line.text.strip()
        before = [*tokenizer.encode(voice), tokenizer.sep] if voice else []
        return [*before, *tokenizer.encode(text), tokenizer.sep]

    def sequences(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return Speech(store, split, seed)

    def held_out(self, store: TokenStore, split: str, count: int) -> Iterator[dict[str, Any]]:
        for example in sample_examples(store, split, count):
            yield {
                "source": Line(example["voice"], example["text"]),
                "target": Sound(example["media"]),
            }

    def answers(self, model: Transformer, tokenizer: Tokenizer, texts: list[Line]) -> list[Sound]:
        prompts = [self.prompt(text, tokenizer) for text in texts]
        most = self.context - max(map(len, prompts))
        if most < 1:
            raise UserError(
                f"the text leaves no room for its sound in model.context={self.context}"
            )
        rows = generate_features(model, prompts, most)
        frames = (row.reshape(-1, spectra.MELS) for row in rows)
        return [spectra.to_sound(spectra.from_levels(levels)) for levels in frames]

    def judge(self, store: TokenStore, examples: list[dict[str, Any]]) -> dict[str, float]:
        self.recognizer = Recognizer.of(store)
        recordings = [example["target"] for example in examples]
        quantised = [
            spectra.to_sound(spectra.from_levels(spectra.levels(spectra.log_mel(x))))
            for x in recordings
        ]
        return {
            "recordings/word_error_rate": self._word_error_rate(recordings, examples),
            "quantised/word_error_rate": self._word_error_rate(quantised, examples),
            "quantised/distortion": float(
                np.mean([distortion(a, b) for a, b in zip(quantised, recordings, strict=True)])
            ),
        }

    def score_each(
        self, outputs: list[Sound], examples: list[dict[str, Any]]
    ) -> dict[str, list[float]]:
        pairs = [
            (output, example["target"]) for output, example in zip(outputs, examples, strict=True)
        ]
        return {
            "distortion": [distortion(said, wanted) for said, wanted in pairs],
            "duration_ratio": [said.seconds / wanted.seconds for said, wanted in pairs],
        }

    def score_all(self, outputs: list[Sound], examples: list[dict[str, Any]]) -> dict[str, float]:
        return {"word_error_rate": self._word_error_rate(outputs, examples)}

    def _word_error_rate(self, sounds: list[Sound], examples: list[dict[str, Any]]) -> float:
        wanted = [example["source"].text.strip() for example in examples]
        return float(word_error_rate(self.recognizer.transcribe(sounds), wanted))

    def baselines(self, examples: list[dict[str, Any]]) -> dict[str, list[Sound]]:
        said = [example["source"].text for example in examples]
        around = [[*range(i + 1, len(said)), *range(i + 1)] for i in range(len(said))]
        others = [
            next((j for j in places if said[j] != said[i]), i) for i, places in enumerate(around)
        ]
        return {"the recording of another text": [examples[j]["target"] for j in others]}

    def sample(self, example: dict[str, Any], output: Sound) -> dict[str, Any]:
        spectrograms = spectra.spectrogram_image([example["target"], output])
        return {**super().sample(example, output), "spectrograms": spectrograms}


def distortion(one: Sound, other: Sound) -> float:
    """Mel-cepstral distortion: decibels over 13 coefficients, a frame of the longer, on the cheapest path in time."""
    first, second = (spectra.cepstra(sound) for sound in (one, other))
    apart = np.sqrt(2 * np.square(first[:, None] - second[None]).sum(axis=-1)) * (
        10 / np.log(10)
    )  # [S, T]
    row = np.cumsum(apart[0])
    for here in apart[1:]:  # dynamic time warping: from above, from the left, or from both
        along = np.cumsum(here)
        before = np.minimum(row, np.concatenate(([np.inf], row[:-1])))
        row = along + np.minimum.accumulate(before - along + here)
    return float(row[-1]) / max(len(first), len(second))
