"""Captions of images and clips: the prompt is patches, a prefix with bidirectional attention; the completion is text.

Exact match, BLEU and chrF next to the most frequent caption. As in ViT (Dosovitskiy et al. 2020, arXiv 2010.11929) one
linear layer embeds a patch; in a clip a patch can span several frames (Arnab et al. 2021, arXiv 2103.15691).
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.data.batch import FEATURE
from gptexp.data.corpora import Example
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.datasets.prompt_completion import PromptCompletionDataset
from gptexp.data.token_store import TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.generation.prompt import Prompt
from gptexp.tasks.answerer import GenerateText
from gptexp.tasks.layout import EvalExample, Layout, cut_beyond, sample_examples
from gptexp.tasks.metrics import Bleu, Chrf, ExampleMetric
from gptexp.tasks.task import Task
from gptexp.tasks.vision.image_clip import ImageClip
from gptexp.tasks.vision.settings import CaptionConfig


class PatchesCaption(Layout):
    """patches <sep> caption <eos>, with the loss on the caption."""

    medium = "image"
    fields = ("caption",)

    def __init__(self, config: CaptionConfig, context: int) -> None:
        self.config = config
        size, patch = config.image_size, config.patch_size
        if size % patch:
            raise UserError(f"task.image_size={size} must be a multiple of task.patch_size={patch}")
        if config.frames % config.frames_per_patch:
            raise UserError(
                f"task.frames={config.frames} must be a multiple of task.frames_per_patch"
            )
        config.check_lengths(context)
        self.num_patches = config.num_patches

    def fingerprint(self) -> dict[str, Any]:
        config = self.config
        sizes = [config.frames, config.image_size, config.patch_size, config.frames_per_patch]
        return {
            "layout": "patches sep caption eos",
            "patches": sizes,
            "caption": config.max_target_tokens,
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
        limit = self.config.max_target_tokens
        completion = [*caption[:limit], tokenizer.eos]
        cuts = cut_beyond(limit, len(caption), "caption", f"task.max_target_tokens={limit}")
        assert example.media is not None
        patches = self.patches(ImageClip(example.media()))
        return TokenizedExample([tokenizer.sep, *completion], 1, len(completion), patches, cuts)

    def parse_prompt(self, text: Any, tokenizer: Tokenizer) -> ImageClip:
        return ImageClip.read(text)

    def patches(self, clip: ImageClip) -> NDArray[np.uint8]:
        """Return the patches [times * rows * columns, frames_per_patch * patch * patch * 3] of a clip."""
        config = self.config
        size, columns = config.patch_size, config.image_size // config.patch_size
        frames = clip.resize_square(config.image_size, config.frames)
        patches = frames.reshape(-1, config.frames_per_patch, columns, size, columns, size, 3)
        patches = patches.transpose(0, 2, 4, 1, 3, 5, 6)
        return np.ascontiguousarray(patches).reshape(self.num_patches, config.feature_size)

    def prompt(self, input: ImageClip, tokenizer: Tokenizer) -> Prompt:
        return Prompt((FEATURE,) * self.num_patches + (tokenizer.sep,), self.patches(input))

    def dataset(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return PromptCompletionDataset(store, split)

    def eval_examples(self, store: TokenStore, split: str, count: int) -> Iterator[EvalExample]:
        for example in sample_examples(store, split, count):
            yield EvalExample(ImageClip(example["media"]), example["caption"])


class CaptionMatch(ExampleMetric):
    """Whether an output has the words of its reference, however they are spaced."""

    name = "exact_match"

    def score(self, output: str, example: EvalExample) -> float:
        return float(output.split() == example.reference.split())


class WordAccuracy(ExampleMetric):
    """The share of the words that are equal at the same position."""

    name = "word_accuracy"

    def score(self, output: str, example: EvalExample) -> float:
        words, expected = output.split(), example.reference.split()
        if words == expected:
            return 1.0
        return sum(map(str.__eq__, words, expected)) / max(1, len(words), len(expected))


class Caption(Task):
    metrics = (CaptionMatch(), WordAccuracy(), Bleu("13a"), Chrf())

    def __init__(self, config: CaptionConfig, model: schema.ModelConfig) -> None:
        layout = PatchesCaption(config, model.context)
        super().__init__(config, model, layout, GenerateText(layout, config.max_target_tokens))

    def baselines(self, examples: list[EvalExample]) -> dict[str, list[str]]:
        [(caption, _)] = Counter(example.reference for example in examples).most_common(1)
        return {f"always '{caption}'": [caption] * len(examples)}
