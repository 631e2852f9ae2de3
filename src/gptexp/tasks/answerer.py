"""An answerer computes a model's outputs: it generates text, or does what the task needs instead."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from gptexp.data.tokenizers import Tokenizer
from gptexp.generation.generator import CandidateWeight, Generator
from gptexp.generation.prompt import Prompt
from gptexp.generation.stream_text import Decode, decode_after, find_stop
from gptexp.model import Transformer
from gptexp.sampling import Sampling
from gptexp.tasks.layout import Layout


class Answerer(ABC):
    num_beams = 1  # sequences that are computed at once for each input

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
        self.num_beams = self.sampling.num_beams

    def answer(self, model: Transformer, tokenizer: Tokenizer, inputs: list[Any]) -> list[str]:
        prompts = [self.layout.prompt(text, tokenizer) for text in inputs]
        # Equal prompts get equal answers, and an answer does not depend on the other prompts.
        distinct = list(dict.fromkeys(prompts))
        rows = Generator(model, tokenizer.eos_ids).generate(
            distinct,
            self.max_new_tokens,
            self.sampling,
            seeds=self.sampling.seeds(1) * len(distinct),
            candidate_weight=self.candidate_weight(tokenizer),
        )
        texts = {
            prompt: self.decoder(prompt, tokenizer)(row)
            for prompt, row in zip(distinct, rows, strict=True)
        }
        return [texts[prompt] for prompt in prompts]

    def generate(
        self,
        generator: Generator,
        tokenizer: Tokenizer,
        prompt: Prompt,
        count: int,
        max_new_tokens: int,
        sampling: Sampling,
        stop_strings: Sequence[str] = (),
    ) -> list[str]:
        """Return `count` answers to a prompt, each up to the first of the stop strings.

        Raises:
            ValueError: see `Generator.generate`.
        """
        decode = self.decoder(prompt, tokenizer)

        def contains_stop(tokens: list[int]) -> bool:
            return find_stop(decode(tokens), stop_strings) is not None

        rows = generator.generate(
            [prompt] * count,
            max_new_tokens,
            sampling,
            stopping_criteria=contains_stop if stop_strings else None,
            candidate_weight=self.candidate_weight(tokenizer),
        )
        texts = [decode(row) for row in rows]
        return [text[: find_stop(text, stop_strings)] for text in texts]

    def candidate_weight(self, tokenizer: Tokenizer) -> CandidateWeight | None:
        """Return the function that weighs the candidates of minimum Bayes risk decoding; None: all weigh the same."""
        return None

    def decoder(self, prompt: Prompt, tokenizer: Tokenizer) -> Decode:
        """Return the function that decodes an answer: as a text of its own, or in a stream as what follows a prompt."""
        if self.layout.stream:
            return decode_after(tokenizer.decode, prompt.tokens)
        return tokenizer.decode
