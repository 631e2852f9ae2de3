"""Text in, text out: `source <sep> target <eos>`, and generated answers. A task of this kind is mostly its metrics."""

from gptexp.config import schema
from gptexp.errors import UserError
from gptexp.sampling import Sampling
from gptexp.tasks.answerer import Answerer, GenerateText
from gptexp.tasks.layout import Layout, PromptCompletion
from gptexp.tasks.task import Task


class TextToText(Task):
    fields: tuple[str, str] = ("source", "target")  # of an example: the text, and its answer
    answerer_class: type[GenerateText] = GenerateText

    def __init__(self, config: schema.TextToTextConfig, model: schema.ModelConfig) -> None:
        super().__init__(config, model, *self.parts(config, model))

    @classmethod
    def parts(
        cls, config: schema.TextToTextConfig, model: schema.ModelConfig
    ) -> tuple[Layout, Answerer]:
        config.check_lengths(model.context)
        sampling = _sampling(config)
        layout = PromptCompletion(
            model.context, config.max_target_tokens, config.loss_on_prompt, cls.fields
        )
        return layout, cls.answerer_class(layout, config.max_target_tokens, sampling)

    def remarks(
        self, metrics: dict[str, float], split: str, baseline: str, init: str | None
    ) -> list[str]:
        remarks = super().remarks(metrics, split, baseline, init)
        if remarks and "NOT" in remarks[0] and init is None:
            remarks.append(
                "it started from random weights: train longer (trainer.max_steps), or pretrain first "
                "(task=pretrain with the same model) and add init=RUN to this command"
            )
        if remarks and isinstance(self.answerer, GenerateText):
            samples = self.answerer.sampling.mbr_samples
            if samples > 1:
                remarks.append(f"decoding: minimum Bayes risk, {samples} samples")
        return remarks


def _sampling(config: schema.TextToTextConfig) -> Sampling:
    if config.num_beams > 1 and config.mbr_samples > 1:
        raise UserError(
            f"task.num_beams={config.num_beams} searches, task.mbr_samples={config.mbr_samples} "
            f"samples: one of them must be 1"
        )
    return Sampling(
        config.temperature if config.mbr_samples > 1 else 0.0,
        num_beams=config.num_beams,
        length_penalty=config.length_penalty if config.num_beams > 1 else 1.0,
        mbr_samples=config.mbr_samples,
        no_repeat_ngram=config.no_repeat_ngram,
    )
