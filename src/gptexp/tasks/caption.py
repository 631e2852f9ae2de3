"""Captions of pictures and clips: patches are given, as a prefix that sees all of itself, and words are said.

Exact match, BLEU (Papineni et al. 2002) and chrF (Popović 2015) next to the caption that is said most often. As in ViT
(Dosovitskiy et al. 2020, arXiv 2010.11929) a patch is embedded by one linear layer; in a clip it can go through several
frames (Arnab et al. 2021, arXiv 2103.15691).
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import BLEU, CHRF

from gptexp.config import schema
from gptexp.data.batch import FEATURE
from gptexp.data.corpora import Example
from gptexp.data.datasets.prompt_completion import Examples
from gptexp.data.datasets.windows import SequenceDataset
from gptexp.data.media import Picture
from gptexp.data.token_store import TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.generation.prompt import Prompt
from gptexp.tasks.task import Task, sample_examples


class Caption(Task):
    fields = ("caption",)
    headline = "exact_match"
    config: schema.CaptionConfig

    def __init__(self, config: schema.CaptionConfig, context: int) -> None:
        super().__init__(config, context)
        if config.image_size % config.patch_size:
            raise UserError(
                f"task.image_size={config.image_size} must be a multiple of task.patch_size={config.patch_size}"
            )
        if config.frames % config.frames_per_patch:
            raise UserError(
                f"task.frames={config.frames} must be a multiple of task.frames_per_patch"
            )
        self.patches = (
            config.frames // config.frames_per_patch * (config.image_size // config.patch_size) ** 2
        )
        if self.patches + config.max_target_tokens + 1 > context:
            raise UserError(
                f"model.context={context}: too short for {self.patches} patches and "
                f"task.max_target_tokens={config.max_target_tokens}"
            )

    @property
    def max_new_tokens(self) -> int:
        return self.config.max_target_tokens

    def settings(self) -> dict[str, Any]:
        return {
            "layout": "patches sep caption eos",
            "patches": [
                self.config.frames,
                self.config.image_size,
                self.config.patch_size,
                self.config.frames_per_patch,
            ],
            "caption": self.config.max_target_tokens,
        }

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        captions = tokenizer.encode_batch([example.fields["caption"] for example in examples])
        return [
            self._sequence(example, caption, tokenizer)
            for example, caption in zip(examples, captions, strict=True)
        ]

    def _sequence(
        self, example: Example, caption: list[int], tokenizer: Tokenizer
    ) -> TokenizedExample:
        said = [*caption[: self.config.max_target_tokens], tokenizer.eos]
        assert example.media is not None
        return TokenizedExample(
            [tokenizer.sep, *said], 1, len(said), self.features(Picture(example.media()))
        )

    def read(self, given: str, tokenizer: Tokenizer) -> Picture:
        return Picture.of(given)

    def features(self, asked: Picture) -> NDArray[np.uint8]:
        """Patches [times * rows * columns, frames_per_patch * patch * patch * 3] of a picture."""
        size, across, deep = (
            self.config.patch_size,
            self.config.image_size // self.config.patch_size,
            self.config.frames_per_patch,
        )
        frames = asked.resize_square(self.config.image_size, self.config.frames)
        cut = frames.reshape(-1, deep, across, size, across, size, 3).transpose(0, 2, 4, 1, 3, 5, 6)
        return np.ascontiguousarray(cut).reshape(self.patches, self.config.feature_size)

    def prompt(self, asked: Picture, tokenizer: Tokenizer) -> Prompt:
        return Prompt((FEATURE,) * self.patches + (tokenizer.sep,), self.features(asked))

    def sequences(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return Examples(store, split)

    def held_out(self, store: TokenStore, split: str, count: int) -> Iterator[dict[str, Any]]:
        for example in sample_examples(store, split, count):
            yield {"source": Picture(example["media"]), "target": example["caption"]}

    def score_each(
        self, outputs: list[str], examples: list[dict[str, Any]]
    ) -> dict[str, list[float]]:
        pairs = [
            (output.split(), example["target"].split())
            for output, example in zip(outputs, examples, strict=True)
        ]
        return {
            "exact_match": [float(said == wanted) for said, wanted in pairs],
            "word_accuracy": [
                sum(map(str.__eq__, said, wanted)) / max(1, len(said), len(wanted))
                for said, wanted in pairs
            ],
        }

    def score_all(self, outputs: list[str], examples: list[dict[str, Any]]) -> dict[str, float]:
        wanted = [[example["target"] for example in examples]]
        return {
            "bleu": BLEU().corpus_score(outputs, wanted).score,
            "chrf": CHRF().corpus_score(outputs, wanted).score,
        }

    def baselines(self, examples: list[dict[str, Any]]) -> dict[str, list[str]]:
        [(often, _)] = Counter(example["target"] for example in examples).most_common(1)
        return {f"always '{often}'": [often] * len(examples)}
