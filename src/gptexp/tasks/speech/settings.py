"""Settings of task=speak and of the recordings that it learns from."""

from dataclasses import dataclass
from typing import Any

from gptexp.config.registry import register
from gptexp.config.schema import Config, GeneratedConfig, HubConfig, MediaTableConfig, TaskConfig
from gptexp.errors import UserError, unknown_value
from gptexp.extras import require_extra
from gptexp.setting_field import setting

MODULES = ("soundfile", "soxr", "num2words", "espeakng_loader", "PIL")  # of gptexp[speech]


@register
@dataclass
class SpeakConfig(TaskConfig):
    kind: str = "speak"
    target = "gptexp.tasks.speech.speak:Speak"
    archs = ("prefix", "decoder")
    predicts_features = True
    feature_bins = 16  # LEVELS of spectrogram.py, which imports torch
    voice: str | None = setting(
        None,
        "voice of a text that names none; null: the first voice of the data",
        affects_result=False,
    )
    voices: list[str] = setting(
        [],
        "filled in where a trained model is loaded: the voices of its data",
        affects_result=False,
    )
    frames_per_step: int = setting(
        4, "frames of 12.5 ms in one position of the sequence", minimum=1
    )

    @property
    def feature_size(self) -> int:  # type: ignore[override]
        return 40 * self.frames_per_step  # MELS of spectrogram.py

    def check(self, config: Config) -> None:
        super().check(config)
        require_extra("speech", MODULES)
        data = config.data
        if isinstance(data, SpokenConfig) and self.voice and self.voice not in data.voices:
            raise unknown_value("task.voice", self.voice, data.voices)

    def use_corpus(self, description: dict[str, Any]) -> None:
        self.voices = description.get("voices", [])


@register
@dataclass
class SpokenConfig(GeneratedConfig):
    kind: str = "spoken"
    target = "gptexp.tasks.speech.spoken:Spoken"
    content: str = setting("numbers", "what is spoken", choices=("numbers", "dates"))
    voices: list[str] = setting(
        ["en-us", "en-us+f2", "en+m3"], "voices of espeak-ng, used in turns"
    )
    examples: int = setting(4000, "number of texts, each spoken once", minimum=100)

    def check(self, config: Config) -> None:
        super().check(config)
        require_extra("speech", MODULES)
        if not self.voices:
            raise UserError(
                "data.voices=[]: name a voice of espeak-ng, for example data.voices=[en-us,en+m3]"
            )


@register
@dataclass
class RecordingsConfig(MediaTableConfig):
    kind: str = "recordings"
    target = "gptexp.tasks.speech.recordings:Recordings"

    def check(self, config: Config) -> None:
        super().check(config)
        require_extra("speech", MODULES)


@register
@dataclass
class HubRecordingsConfig(HubConfig):
    kind: str = "hub_recordings"
    target = "gptexp.tasks.speech.hub_recordings:HubRecordings"

    def check(self, config: Config) -> None:
        super().check(config)
        require_extra("speech", MODULES)
