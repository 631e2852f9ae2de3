"""Generate rows of features instead of tokens, for example the frames of audio."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.generation.decode_state import DecodeState, generation_mode
from gptexp.generation.host_copy import HostCopy
from gptexp.generation.prompt import Prompt
from gptexp.model.transformer import Transformer


@torch.inference_mode()
def generate_features(
    model: Transformer, prompts: Sequence[Prompt], max_new_rows: int
) -> list[NDArray[np.uint8]]:
    """Return the most likely rows [F, D] that follow each prompt, until the model predicts the end.

    Raises:
        ValueError: the model does not predict features, a prompt is empty, or max_new_rows does not fit into the
            context.
    """
    if model.feature_head is None:
        raise ValueError("predicts_features=False: this model predicts no features")
    if not prompts:
        return []
    with generation_mode(model):
        state = DecodeState(model, prompts, max_new_rows)
        answers: list[list[NDArray[np.uint8]]] = [[] for _ in prompts]
        batch = list(range(len(prompts)))  # number of the prompt in each row of the batch
        for step in range(max_new_rows):
            is_last = step == max_new_rows - 1
            rows, has_ended = model.feature_head.argmax_rows(state.logits)
            placeholders = torch.full_like(has_ended, -1, dtype=torch.long)
            copies = HostCopy(has_ended), HostCopy(rows)
            if state.runs_ahead and not is_last:
                state.step(placeholders, rows)
            ended, values = copies[0].tolist(), copies[1].numpy()
            unfinished = [row for row, has_row_ended in enumerate(ended) if not has_row_ended]
            if not unfinished:
                break
            for row in unfinished:
                answers[batch[row]].append(values[row])
            if len(unfinished) < len(batch):
                indices = state.select(unfinished)
                rows, placeholders = rows[indices], placeholders[indices]
                batch = [batch[row] for row in unfinished]
            if not (state.runs_ahead or is_last):
                state.step(placeholders, rows)
        empty = np.zeros((0, model.config.feature_size), np.uint8)
        return [np.stack(rows) if rows else empty for rows in answers]
