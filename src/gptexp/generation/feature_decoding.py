"""Generate rows of features instead of tokens, for example the frames of audio."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.generation.decode_state import DecodeState
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
    was_training = model.training
    model.eval()
    try:
        state = DecodeState(model, prompts, max_new_rows)
        answers: list[list[NDArray[np.uint8]]] = [[] for _ in prompts]
        batch = list(range(len(prompts)))  # number of the prompt in each row of the batch
        for step in range(max_new_rows):
            rows, has_ended = model.feature_head.argmax_rows(state.logits)
            unfinished = [row for row, ended in enumerate(has_ended.tolist()) if not ended]
            if not unfinished:
                break
            if len(unfinished) < len(batch):
                state.select(unfinished)
                rows, batch = rows[unfinished], [batch[row] for row in unfinished]
            for number, row in zip(batch, rows.cpu().numpy(), strict=True):
                answers[number].append(row)
            if step < max_new_rows - 1:
                state.step(torch.full((len(batch),), -1, device=rows.device), rows)
        empty = np.zeros((0, model.config.feature_size), np.uint8)
        return [np.stack(rows) if rows else empty for rows in answers]
    finally:
        model.train(was_training)
