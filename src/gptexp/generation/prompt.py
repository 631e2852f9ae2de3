"""Prompts: the token sequences that a model continues."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
