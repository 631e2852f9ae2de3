"""A batch of prompts that a model has read, and goes on from token by token.

Legend: B sequences, T tokens, V vocabulary.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gptexp.generation.cpu.decoder import CpuDecoder
from gptexp.model.attention import EncoderMemory
from gptexp.model.masks import SequenceLayout
from gptexp.model.transformer import Transformer


class DecodeState:
    """The cache of a batch, and the logits [B, V] of the token that comes next.

    Prompts of unequal length are padded on the left; a prompt that leaves no room in the context loses its beginning.
    Copies of a prompt, that go on in different ways, are read once.
    An encoder reads its prompts padded on the right, and the decoder beside it starts with their last token.

    Args:
        features: of each prompt, rows [F, D] that stand where its tokens are negative.
        weights: of single tokens; "float32", "bfloat16", "int8" or "auto" (see fast.py), or a Fast to use again.

    Raises:
        ValueError: a prompt is empty or no token of the vocabulary, max_new_tokens does not fit into the context, or
            the model does not generate.
    """

    def __init__(
        self,
        model: Transformer,
        prompts: list[list[int]],
        max_new_tokens: int,
        weights: str | CpuDecoder = "float32",
        features: list[NDArray[np.uint8]] | None = None,
    ) -> None:
        longest, context = max(map(len, prompts)), model.config.context
        if features is not None and longest + max_new_tokens > context:
            raise ValueError(
                f"max_new_tokens={max_new_tokens}: does not fit beside {longest} into a context of {context}"
            )
        first, rows = deduplicate_prompts(prompts, features)
        prompts, features = picked(first, prompts, features)
        prompts = _truncate_to_context(model, prompts, max_new_tokens)
        self.fast = CpuDecoder.of(model, weights, len(rows))
        device = model.embedding.weight.device
        self.model = model
        self.memory: EncoderMemory | None = None
        if model.encoder is not None:
            lengths = torch.tensor([len(prompt) for prompt in prompts])
            source = torch.tensor(
                [prompt + [0] * (int(lengths.max()) - len(prompt)) for prompt in prompts]
            )
            self.memory = model.encode(source.to(device), lengths.to(device))
            prompts = [prompt[-1:] for prompt in prompts]
        longest = max(map(len, prompts))
        tokens = torch.tensor(
            [[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=device
        )
        padding = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
        self.layout = SequenceLayout(left_padding=padding if bool(padding.any()) else None)
        self.cache = model.new_cache(len(prompts), longest + max_new_tokens)
        hidden = model(
            tokens,
            replace(self.layout, prefix=torch.full_like(padding, longest)),
            cache=self.cache,
            memory=self.memory,
            features=None if features is None else _padded(features).to(device),
        )
        self.logits = model.outputs(hidden[:, -1])
        if len(first) < len(rows):
            self.select(rows)

    def step(self, tokens: Tensor, features: Tensor | None = None) -> None:
        """Read one token more of each sequence, [B], or a row of features [B, D] where they are negative."""
        if self.fast is not None:
            self.logits = self.fast.step(
                tokens, self.cache, self.layout, self.memory.mask if self.memory else None
            )
        else:
            rows = None if features is None else features[:, None]
            hidden = self.model(
                tokens[:, None], self.layout, cache=self.cache, memory=self.memory, features=rows
            )
            self.logits = self.model.outputs(hidden[:, -1])

    def select(self, rows: list[int]) -> None:
        """Sequence i goes on from what sequence rows[i] was."""
        places = torch.tensor(rows, device=self.logits.device)
        self.cache.select(places)
        self.logits = self.logits[places]
        self.layout = self.layout.select(places)
        self.memory = self.memory and self.memory.select(places)


def deduplicate_prompts(
    prompts: list[list[int]], features: list[NDArray[np.uint8]] | None
) -> tuple[list[int], list[int]]:
    """Where each different prompt stands first, and which of these every prompt is."""
    given = [b""] * len(prompts) if features is None else [rows.tobytes() for rows in features]
    places: dict[Any, int] = {}
    which = [
        places.setdefault(key, len(places)) for key in zip(map(tuple, prompts), given, strict=True)
    ]
    return [which.index(place) for place in range(len(places))], which


def picked(
    numbers: list[int], prompts: list[list[int]], features: list[NDArray[np.uint8]] | None
) -> tuple[list[list[int]], list[NDArray[np.uint8]] | None]:
    """Some of the prompts, with what they have beside them."""
    return [prompts[number] for number in numbers], features and [
        features[number] for number in numbers
    ]


def _padded(features: list[NDArray[np.uint8]]) -> Tensor:
    """[B, F, D]; zeros stand for rows that a prompt does not have."""
    return pad_sequence([torch.from_numpy(rows) for rows in features], batch_first=True)


def _truncate_to_context(
    model: Transformer, prompts: list[list[int]], max_new_tokens: int
) -> list[list[int]]:
    config = model.config
    if config.arch == "encoder":
        raise ValueError("arch=encoder: does not generate; decoder, prefix and encoder_decoder do")
    most = config.context - 1
    if not 1 <= max_new_tokens <= most:
        raise ValueError(
            f"max_new_tokens={max_new_tokens}: must be between 1 and {most}, one less than the context"
        )
    if not all(prompts):
        raise ValueError("a prompt has no tokens")
    least = -1 if config.feature_size else 0
    if unknown := {
        token for prompt in prompts for token in prompt if not least <= token < config.vocab_size
    }:
        raise ValueError(
            f"token {min(unknown)} of a prompt: the vocabulary has 0 to {config.vocab_size - 1}"
        )
    room = config.context if model.encoder is not None else config.context - max_new_tokens
    return [prompt[-room:] for prompt in prompts]
