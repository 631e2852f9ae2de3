"""Prompts: the token sequences that a model continues."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.model.config import TransformerConfig


@dataclass(frozen=True, eq=False)
class Prompt:
    """Tokens, and for an image the rows of features that the negative tokens stand for.

    Prompts are compared and hashed by value, so that copies of a prompt are computed once.

    Args:
        features: [F, D] uint8; row i belongs to the i-th negative token.

    Raises:
        ValueError: the number of rows is not the number of negative tokens.
    """

    tokens: tuple[int, ...]
    features: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.features is not None:
            placeholders = sum(token < 0 for token in self.tokens)
            if placeholders != len(self.features):
                raise ValueError(
                    f"{len(self.features)} rows of features for {placeholders} negative tokens: "
                    f"a prompt needs one token for each row"
                )

    def _key(self) -> tuple[Any, ...]:
        features = self.features
        return self.tokens, None if features is None else (features.shape, features.tobytes())

    def __hash__(self) -> int:
        return hash(self._key())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prompt) and self._key() == other._key()

    def __len__(self) -> int:
        return len(self.tokens)


def fit_to_context(
    config: TransformerConfig, prompts: Sequence[Prompt], max_new_tokens: int
) -> list[Prompt]:
    """Drop the first tokens of prompts that leave no room for `max_new_tokens`.

    Raises:
        ValueError: the model does not generate, max_new_tokens does not fit into the context, or a prompt is empty,
            has a token outside of the vocabulary, or has features and would have to be cut.
    """
    if config.arch == "encoder":
        raise ValueError("arch=encoder: does not generate; decoder, prefix and encoder_decoder do")
    most = config.context - 1
    if not 1 <= max_new_tokens <= most:
        raise ValueError(
            f"max_new_tokens={max_new_tokens}: must be between 1 and {most}, one less than the context"
        )
    room = config.context if config.arch == "encoder_decoder" else config.context - max_new_tokens
    for prompt in prompts:
        if not prompt.tokens:
            raise ValueError("a prompt has no tokens")
        smallest = 0 if prompt.features is None else -1
        for token in prompt.tokens:
            if not smallest <= token < config.vocab_size:
                raise ValueError(
                    f"token {token} of a prompt: the vocabulary has 0 to {config.vocab_size - 1}"
                )
        if prompt.features is not None and len(prompt) > room:
            raise ValueError(
                f"max_new_tokens={max_new_tokens}: does not fit beside a prompt of {len(prompt)} tokens "
                f"into a context of {config.context}"
            )
    return [Prompt(prompt.tokens[-room:], prompt.features) for prompt in prompts]
