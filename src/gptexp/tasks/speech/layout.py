"""The sequences of speech: a voice and a text, then rows of frames of the audio (see spectrogram.py)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora import Example
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.token_store import TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError, unknown_value
from gptexp.generation.prompt import Prompt
from gptexp.model.features import CONTINUE
from gptexp.tasks.layout import EvalExample, Layout, sample_examples
from gptexp.tasks.speech import spectrogram
from gptexp.tasks.speech.audio import Audio
from gptexp.tasks.speech.dataset import TextToSpeechDataset
from gptexp.tasks.speech.settings import SpeakConfig

SEPARATOR = "|"  # between the name of a voice and a text


@dataclass(frozen=True)
class VoiceText:
    """A text, and the voice that speaks it."""

    voice: str  # "": the data has one voice without a name
    text: str

    def __len__(self) -> int:
        return len(self.text)

    def __str__(self) -> str:
        return f"{self.voice}{SEPARATOR}{self.text}" if self.voice else self.text


class VoiceTextFrames(Layout):
    """voice <sep> text <sep>, then rows of frames, with the loss on the rows."""

    medium = "audio"
    fields = ("voice", "text")
    predicts_next = targets_are_tokens = False

    def __init__(self, config: SpeakConfig, context: int) -> None:
        self.config, self.context = config, context

    def fingerprint(self) -> dict[str, Any]:
        return {
            "layout": "voice sep text sep frames",
            "frames": self.config.frames_per_step,
            "context": self.context,
            "spectra": [
                spectrogram.MELS,
                spectrogram.LEVELS,
                spectrogram.HOP,
                spectrogram.WINDOW,
                spectrogram.LOWEST,
                spectrogram.HIGHEST,
            ],
        }

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        return [self._sequence(example, tokenizer) for example in examples]

    def _sequence(self, example: Example, tokenizer: Tokenizer) -> TokenizedExample:
        line = VoiceText(example.fields["voice"], example.fields["text"])
        if not line.text.strip():
            raise UserError(
                f"a recording has no text (voice '{line.voice}'): fill it in, or leave the recording out"
            )
        prompt = self._prompt_tokens(line, tokenizer)
        assert example.media is not None
        audio = Audio(example.media())
        rows = self._rows(spectrogram.quantize(spectrogram.log_mel(audio)))
        if len(prompt) + len(rows) > self.context:
            raise UserError(
                f"'{line.text:.60}' takes {len(prompt)} tokens and {len(rows)} steps of audio: too long for "
                f"model.context={self.context}. Raise it, raise task.frames_per_step, or cut the recording"
            )
        return TokenizedExample(prompt, len(prompt), len(rows) + 1, rows)

    def _rows(self, levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Join levels [T, M] to rows of several frames [F, frames_per_step * M], with silence at the end."""
        missing = -len(levels) % self.config.frames_per_step
        return np.pad(levels, ((0, missing), (0, 0))).reshape(-1, self.config.feature_size)

    def parse_prompt(self, text: Any, tokenizer: Tokenizer) -> VoiceText:
        voice, separator, rest = super().parse_prompt(text, tokenizer).partition(SEPARATOR)
        if separator:
            return self.voice_text(rest, voice.strip(), tokenizer)
        return self.voice_text(text, None, tokenizer)

    def voice_text(self, text: str, voice: str | None, tokenizer: Tokenizer) -> VoiceText:
        """Check a text and the name of a voice; None is the first voice.

        Raises:
            UserError: the text is empty or has characters that the model has never seen, or there is no such voice.
        """
        voices, text = self.config.voices, text.strip()
        voice = voice or self.config.voice or next(iter(voices), "")
        if voices and voice not in voices:
            raise unknown_value("voice", voice, voices)
        if not text:
            raise UserError("there is no text to speak: give one, or 'VOICE|TEXT'")
        lost = tokenizer.count_lost(text)
        unseen = sorted(letter for letter in lost if not tokenizer.restore(letter).strip())
        if unseen:
            raise UserError(
                f"'{text}': the model has never seen {' '.join(unseen)}; spell it in other letters"
            )
        return VoiceText(voice, text)

    def prompt(self, input: VoiceText, tokenizer: Tokenizer) -> Prompt:
        return Prompt(tuple(self._prompt_tokens(input, tokenizer)))

    def _prompt_tokens(self, line: VoiceText, tokenizer: Tokenizer) -> list[int]:
        voice, text = line.voice.strip(), line.text.strip()
        before = [*tokenizer.encode(voice), tokenizer.sep] if voice else []
        return [*before, *tokenizer.encode(text), tokenizer.sep]

    def target_name(self, target: int) -> str:
        return "continue" if target == CONTINUE else "stop"

    def dataset(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return TextToSpeechDataset(store, split, seed)

    def eval_examples(self, store: TokenStore, split: str, count: int) -> Iterator[EvalExample]:
        for example in sample_examples(store, split, count):
            line = VoiceText(example["voice"], example["text"])
            yield EvalExample(line, Audio(example["media"]))
