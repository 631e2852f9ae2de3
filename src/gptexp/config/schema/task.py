"""Settings of the tasks."""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from gptexp.config.setting import option


@dataclass
class TaskConfig:
    kind: str = option(MISSING, "which task: the task group's name")
    test_examples: int = option(
        400, "examples of a split that are generated and scored; 0: all", minimum=0
    )
    samples: int = option(
        8, "generated samples that are printed and kept", minimum=0, affects_result=False
    )
    target: ClassVar[str]  # MODULE:CLASS that does it
    archs: ClassVar[tuple[str, ...]] = (
        "decoder",
        "prefix",
        "encoder_decoder",
    )  # values of model.arch that it works on
    starts_from_base: ClassVar[bool] = (
        False  # where the model's shape fits the weights that gptexp brings
    )
    num_sequence_classes: ClassVar[int] = (
        0  # of a whole sequence that are told apart, by a head of its own
    )
    num_token_classes: ClassVar[int] = (
        0  # of a token that are told apart by an encoder, instead of the vocabulary
    )
    feature_size: ClassVar[int] = 0  # channels of a row of what is no text, a patch or a frame
    feature_bins: ClassVar[int] = 256  # values of a channel
    predicts_features: ClassVar[bool] = False  # such rows are the answer


@dataclass
class PretrainConfig(TaskConfig):
    kind: str = "pretrain"
    target = "gptexp.tasks.pretrain:Pretrain"
    archs = ("decoder", "prefix")
    document_mask: bool = option(False, "attention stays inside one document of a packed window")
    lead_last_fraction: float = option(
        0.0,
        "share of the documents, of those trained on, whose first sentence comes last, "
        "after a separator, as a summary does",
        minimum=0,
        maximum=1,
    )
    renamed: float = option(
        0.0, "share of those whose names are exchanged, to be copied", minimum=0, maximum=1
    )
    max_new_tokens: int = option(64, "length of the samples", minimum=1)


@dataclass
class TextToTextConfig(TaskConfig):
    """Settings that summarize, translate and extract share."""

    loss_on_prompt: bool = option(False, "learn to predict the source text too")
    max_target_tokens: int = option(
        64, "longest answer in tokens; the source is cut to what the context leaves", minimum=1
    )
    num_beams: int = option(1, "answers that are followed side by side; 1: greedy", minimum=1)
    length_penalty: float = option(
        1.0, "of beams: above 0 prefers long answers, below 0 short ones"
    )
    mbr_samples: int = option(
        1, "answers that are drawn, of which the one that most others resemble is given", minimum=1
    )
    temperature: float = option(
        0.6, "at which candidates are drawn, where there are several", minimum=0.01
    )
    no_repeat_ngram: int = option(
        0, "no n tokens in a row stand twice in an answer; 0: they may", minimum=0
    )


@dataclass
class SummarizeConfig(TextToTextConfig):
    kind: str = "summarize"
    target = "gptexp.tasks.summarize:Summarize"
    starts_from_base = True


@dataclass
class TranslateConfig(TextToTextConfig):
    kind: str = "translate"
    target = "gptexp.tasks.translate:Translate"
    max_target_tokens: int = option(120, "longest answer in tokens", minimum=1)


@dataclass
class ExtractConfig(TextToTextConfig):
    kind: str = "extract"
    target = "gptexp.tasks.extract:Extract"
    starts_from_base = True
    num_token_classes = 3
    archs = ("encoder", "decoder", "prefix", "encoder_decoder")


@dataclass
class MaskedLMConfig(TaskConfig):
    """Settings that mlm and bert share."""

    mask_fraction: float = option(
        0.15, "share of the tokens that are to be predicted", minimum=0.01, maximum=0.9
    )
    whole_words: bool = option(False, "mask all tokens of a word together")
    archs = ("encoder",)


@dataclass
class MlmConfig(MaskedLMConfig):
    kind: str = "mlm"
    target = "gptexp.tasks.mlm:Mlm"


@dataclass
class NspConfig(TaskConfig):
    kind: str = "nsp"
    target = "gptexp.tasks.nsp:Nsp"
    num_sequence_classes = 2
    archs = ("encoder",)


@dataclass
class BertConfig(MaskedLMConfig):
    kind: str = "bert"
    target = "gptexp.tasks.bert:Bert"
    num_sequence_classes = 2


@dataclass
class CaptionConfig(TaskConfig):
    kind: str = "caption"
    target = "gptexp.tasks.caption:Caption"
    archs = ("prefix", "decoder")
    image_size: int = option(32, "pixels that a picture is scaled to, each way", minimum=4)
    patch_size: int = option(
        8, "pixels of a patch, each way: one position of the sequence", minimum=1
    )
    frames: int = option(1, "frames of a clip, at equal distances of time", minimum=1)
    frames_per_patch: int = option(1, "frames that a patch goes through", minimum=1)
    max_target_tokens: int = option(24, "longest caption in tokens", minimum=1)

    @property
    def feature_size(self) -> int:  # type: ignore[override]
        return 3 * self.patch_size**2 * self.frames_per_patch


@dataclass
class SpeakConfig(TaskConfig):
    kind: str = "speak"
    target = "gptexp.tasks.speak:Speak"
    archs = ("prefix", "decoder")
    predicts_features = True
    feature_bins = 16  # of dMel
    voice: str | None = option(
        None, "voice of texts that name none; null: the first of the data's", affects_result=False
    )
    voices: list[str] = option(
        [], "filled in where a trained model is loaded: those of its data", affects_result=False
    )
    frames_per_step: int = option(
        4, "frames of 12.5 ms that are one position of the sequence", minimum=1
    )

    @property
    def feature_size(self) -> int:  # type: ignore[override]
        return 40 * self.frames_per_step
