"""Text to speech: from a voice and a text, predict the frames of the audio, several a step."""

from typing import Any

from gptexp.config import schema
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.generation.feature_decoding import generate_features
from gptexp.model import Transformer
from gptexp.tasks.answerer import Answerer
from gptexp.tasks.layout import EvalExample
from gptexp.tasks.speech import spectrogram
from gptexp.tasks.speech.audio import Audio
from gptexp.tasks.speech.layout import VoiceText, VoiceTextFrames
from gptexp.tasks.speech.metrics import SpeechQuality
from gptexp.tasks.speech.settings import SpeakConfig
from gptexp.tasks.task import Task


class SpeakTexts(Answerer):
    """Generate the frames of each text, and turn them into audio."""

    def __init__(self, layout: VoiceTextFrames) -> None:
        self.layout = layout

    def answer(
        self, model: Transformer, tokenizer: Tokenizer, inputs: list[VoiceText]
    ) -> list[Audio]:
        prompts = [self.layout.prompt(line, tokenizer) for line in inputs]
        max_rows = self.layout.context - max(map(len, prompts))
        if max_rows < 1:
            raise UserError(
                f"the text leaves no room for its audio in model.context={self.layout.context}: give a shorter one"
            )
        return [
            spectrogram.griffin_lim(spectrogram.dequantize(rows.reshape(-1, spectrogram.MELS)))
            for rows in generate_features(model, prompts, max_rows)
        ]


class Speak(Task):
    def __init__(self, config: SpeakConfig, model: schema.ModelConfig) -> None:
        self.metrics = (SpeechQuality(),)
        layout = VoiceTextFrames(config, model.context)
        super().__init__(config, model, layout, SpeakTexts(layout))

    def sample(self, example: EvalExample, output: Audio) -> dict[str, Any]:
        image = spectrogram.spectrogram_image([example.reference, output])
        return {**super().sample(example, output), "spectrograms": image}
