"""An answerer computes a model's outputs: it generates text, or does what the task needs instead."""

from abc import ABC, abstractmethod
from typing import Any

from gptexp.data.tokenizers import Tokenizer
from gptexp.generation.generator import Generator
from gptexp.model import Transformer
from gptexp.sampling import Sampling
from gptexp.tasks.layout import Layout


class Answerer(ABC):
    @abstractmethod
    def answer(self, model: Transformer, tokenizer: Tokenizer, inputs: list[Any]) -> list[Any]:
        """Return the model's output for each input."""


class GenerateText(Answerer):
    """Continue the prompt of each input token by token, by default greedily."""

    def __init__(
        self, layout: Layout, max_new_tokens: int, sampling: Sampling | None = None
    ) -> None:
        self.layout, self.max_new_tokens = layout, max_new_tokens
        self.sampling = sampling or Sampling()

    def answer(self, model: Transformer, tokenizer: Tokenizer, inputs: list[Any]) -> list[str]:
        prompts = [self.layout.prompt(text, tokenizer) for text in inputs]
        # Equal prompts get equal answers, and an answer does not depend on the other prompts.
        distinct = list(dict.fromkeys(prompts))
        rows = Generator(model, tokenizer.eos).generate(
            distinct,
            self.max_new_tokens,
            self.sampling,
            seeds=self.sampling.seeds(1) * len(distinct),
        )
        texts = dict(zip(distinct, map(tokenizer.decode, rows), strict=True))
        return [texts[prompt] for prompt in prompts]
