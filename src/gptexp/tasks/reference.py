"""The weights that training starts from, for tasks that compare the model with them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gptexp.model import Transformer


@dataclass
class Reference:
    """What a task knows of the initial weights.

    Attributes:
        log_probs: [N, 2] of the answers of each pair, by split.
        load: loads the weights as a model; its argument says whether it is sharded: then all ranks call it together.
            It returns None, after it has said so, where the weights are gone or have changed.
        autocast: the context in which log_probs were computed.
    """

    log_probs: dict[str, NDArray[np.float32]]
    load: Callable[[bool], Transformer | None]
    autocast: Callable[[], AbstractContextManager[None]]
    _model: Transformer | None = field(default=None, init=False)
    _is_loaded: bool = field(default=False, init=False)

    def model(self, is_sharded: bool) -> Transformer | None:
        """Return the model, which is loaded once until it is released; None: the weights are no longer there."""
        if not self._is_loaded:
            self._model, self._is_loaded = self.load(is_sharded), True
        return self._model

    def release(self) -> None:
        """Free the memory of the model."""
        self._model, self._is_loaded = None, False
