"""Settings of the tasks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from gptexp.config.group import GroupConfig
from gptexp.config.registry import register
from gptexp.errors import UserError
from gptexp.sampling import OPTION_TEXTS
from gptexp.setting_field import setting

if TYPE_CHECKING:
    from gptexp.config.schema import Config


@dataclass
class TaskConfig(GroupConfig):
    """Settings of every task. `target` is a Task, built with (config, model)."""

    config_group: ClassVar[str] = "task"
    passed: ClassVar[tuple[str, ...]] = ("config", "model")
    kind: str = setting(MISSING, "name of the chosen task: task=NAME")
    test_examples: int = setting(
        400, "number of examples of a split that are answered and scored; 0: all", minimum=0
    )
    test_tokens: int | None = setting(
        None,
        "tokens of a held-out split that its loss in the result is computed from, of sequences spread evenly over a "
        "larger split; null: all of them",
        minimum=1,
    )
    score_before: bool = setting(
        False,
        "answer and score the same examples before training as well, with the weights of `init`; sharded weights "
        "(trainer.strategy=fsdp) are scored after training alone",
    )
    samples: int = setting(
        8, "number of examples whose answers are printed and kept", minimum=0, affects_result=False
    )
    metrics: list[str] = setting(
        [],
        "metrics in addition to those of the task: subclasses of Metric, for example [my_package.MyMetric]",
    )

    archs: ClassVar[tuple[str, ...]] = ("decoder", "prefix", "encoder_decoder")  # that it works on
    divides_sequences: ClassVar[bool] = False  # among processes: all have the same length
    starts_from_base: ClassVar[bool] = False  # True: by default, where the model has base's shape
    uses_reference: ClassVar[bool] = False  # its loss compares the model with the initial weights
    rows_per_example: ClassVar[int] = 1  # that the model computes: 2 for a pair of answers
    default_rates: ClassVar[
        dict[str, dict[str, float]]
    ] = {}  # optimizer -> learning rates where null
    base_rate_scale: ClassVar[float] = 0.1  # of these rates, where a run starts from base
    num_sequence_classes: ClassVar[int] = 0  # of the classification head
    num_token_classes: ClassVar[int] = 0  # of the tag head, in place of the vocabulary's
    feature_size: ClassVar[int] = 0  # channels of a feature row: a patch of pixels, an audio frame
    feature_bins: ClassVar[int] = 256  # values of a channel
    predicts_features: ClassVar[bool] = False  # the answer consists of feature rows

    def use_corpus(self, description: dict[str, Any]) -> None:
        """Fill in the settings that follow from the data of a trained model, as its corpus describes it."""

    def check_lengths(self, context: int) -> None:
        """Refuse sequences for which a context has no room, before PyTorch is loaded.

        Raises:
            UserError: there is no room.
        """

    def check(self, config: "Config") -> None:
        if config.model.arch not in self.archs:
            raise UserError(
                f"model.arch={config.model.arch}: task={self.kind} does not work on it. "
                f"Allowed: {', '.join(self.archs)}"
            )


@register
@dataclass
class PretrainConfig(TaskConfig):
    kind: str = "pretrain"
    target = "gptexp.tasks.pretrain:Pretrain"
    archs = ("decoder", "prefix")
    divides_sequences = True
    answers: bool = setting(
        False,
        "records may have a field `answer`, which follows their text behind a separator, as a summary does; a longer "
        "text is cut at its end to the rest of the context",
    )
    packing: str = setting(
        "stream",
        "stream: windows over the documents one after the other; best_fit: whole documents are packed into windows, "
        "and only those longer than the context are cut. Use it with document_mask=true",
        choices=("stream", "best_fit"),
    )
    document_mask: bool = setting(
        False, "tokens attend only to tokens of their own document, where a window has several"
    )
    lead_last_fraction: float = setting(
        0.0,
        "fraction of the training documents whose first sentence is moved to the end, behind a "
        "separator, where a summary would be",
        minimum=0,
        maximum=1,
    )
    max_new_tokens: int = setting(64, "length of the samples in tokens", minimum=1)


@dataclass
class ConversationConfig(TaskConfig):
    """Settings that chat and prefer share."""

    archs = ("decoder",)
    starts_from_base = True
    max_new_tokens: int = setting(
        96,
        "longest answer in tokens; a history that does not fit into the rest of the context loses its oldest turns",
        minimum=1,
    )

    def check_lengths(self, context: int) -> None:
        if self.max_new_tokens >= context:
            raise UserError(
                f"task.max_new_tokens={self.max_new_tokens} leaves no room for a question in model.context={context}; "
                f"use task.max_new_tokens={context // 2} or less, or a larger model.context"
            )


@register
@dataclass
class ChatConfig(ConversationConfig):
    kind: str = "chat"
    target = "gptexp.tasks.chat:Chat"
    base_rate_scale = 0.5  # base has never seen a chat
    packing: str = setting(
        "best_fit",
        "best_fit: several whole conversations are packed into a sequence, where none of them sees another; none: one "
        "conversation a sequence",
        choices=("best_fit", "none"),
    )


@register
@dataclass
class PreferConfig(ConversationConfig):
    kind: str = "prefer"
    target = "gptexp.tasks.prefer:Prefer"
    uses_reference = True
    rows_per_example = 2
    default_rates: ClassVar[dict[str, dict[str, float]]] = {
        "adamw": {"lr": 0.0005},
        "muon": {"lr": 0.002, "adamw_lr": 0.0005},
    }
    loss: str = setting(
        "sigmoid",
        "sigmoid: direct preference optimization (DPO); ipo: its squared variant, with the mean over the tokens of an "
        "answer; hinge: a margin of 1",
        choices=("sigmoid", "ipo", "hinge"),
    )
    beta: float = setting(
        0.1,
        "factor of the log ratios to the initial weights; a larger one keeps the model closer to them",
        minimum=0.0001,
    )
    sft_weight: float = setting(
        0.0,
        "weight of the cross-entropy of the chosen answers, which is added to the loss; above 0 it keeps them likely",
        minimum=0,
    )

    def check(self, config: "Config") -> None:
        super().check(config)
        if not (config.init or config.resume):
            raise UserError(
                "task=prefer compares the model with the weights that it starts from: name them with init=RUN, such as "
                "a run of task=chat"
            )
        if config.model.dropout:
            raise UserError(
                f"model.dropout={config.model.dropout}: task=prefer needs model.dropout=0, since the initial weights "
                f"that the model is compared with have none"
            )


@dataclass
class TextToTextConfig(TaskConfig):
    """Settings that summarize, translate and extract share."""

    loss_on_prompt: bool = setting(False, "compute the loss on the source text as well")
    max_target_tokens: int = setting(
        64, "longest answer in tokens; the source is cut to the rest of the context", minimum=1
    )
    num_beams: int = setting(1, OPTION_TEXTS["num_beams"], minimum=1)
    length_penalty: float = setting(1.0, OPTION_TEXTS["length_penalty"])
    mbr_samples: int = setting(1, OPTION_TEXTS["mbr_samples"], minimum=1)
    temperature: float = setting(
        0.6, "temperature of the samples of minimum Bayes risk decoding", minimum=0.01
    )
    no_repeat_ngram: int = setting(0, OPTION_TEXTS["no_repeat_ngram"], minimum=0)

    def check_lengths(self, context: int) -> None:
        if self.max_target_tokens > context - 2:
            raise UserError(
                f"task.max_target_tokens={self.max_target_tokens} leaves no room for a source in "
                f"model.context={context}; use task.max_target_tokens={context // 2} or less, or a larger model.context"
            )

    def check(self, config: "Config") -> None:
        super().check(config)
        if self.loss_on_prompt and config.model.arch != "decoder":
            raise UserError(
                f"task.loss_on_prompt=true needs model.arch=decoder: {config.model.arch} sees the "
                f"whole prompt at once"
            )


@register
@dataclass
class SummarizeConfig(TextToTextConfig):
    kind: str = "summarize"
    target = "gptexp.tasks.summarize:Summarize"
    starts_from_base = True


@register
@dataclass
class TranslateConfig(TextToTextConfig):
    kind: str = "translate"
    target = "gptexp.tasks.translate:Translate"
    max_target_tokens: int = setting(120, "longest answer in tokens", minimum=1)


@register
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

    archs = ("encoder",)
    mask_fraction: float = setting(
        0.15, "fraction of the tokens that are masked and predicted", minimum=0.01, maximum=0.9
    )
    whole_words: bool = setting(False, "mask all tokens of a word together")


@register
@dataclass
class MlmConfig(MaskedLMConfig):
    kind: str = "mlm"
    target = "gptexp.tasks.mlm:Mlm"


@register
@dataclass
class NspConfig(TaskConfig):
    kind: str = "nsp"
    target = "gptexp.tasks.nsp:Nsp"
    default_rates: ClassVar[dict[str, dict[str, float]]] = {
        "muon": {"lr": 0.004, "adamw_lr": 0.002}
    }
    num_sequence_classes = 2
    archs = ("encoder",)


@register
@dataclass
class BertConfig(MaskedLMConfig):
    kind: str = "bert"
    target = "gptexp.tasks.bert:Bert"
    default_rates: ClassVar[dict[str, dict[str, float]]] = {
        "muon": {"lr": 0.004, "adamw_lr": 0.004}
    }
    num_sequence_classes = 2
