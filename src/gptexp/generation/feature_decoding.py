"""Generation where a step is a row of features and not a token: the frames of a sound."""

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.generation.decode_state import DecodeState
from gptexp.model.transformer import Transformer


@torch.inference_mode()
def generate_features(
    model: Transformer, prompts: list[list[int]], most: int
) -> list[NDArray[np.uint8]]:
    """The likeliest rows [F, D] that follow each prompt, up to the end that the model says, and at most `most`.

    Raises:
        ValueError: a prompt is empty, `most` does not fit into the context, or the model does not predict features.
    """
    if model.feature_head is None:
        raise ValueError("predicts_features=False: this model predicts no features")
    if not prompts:
        return []
    was_training = model.training
    model.eval()
    try:
        reading = DecodeState(model, prompts, most)
        said: list[list[NDArray[np.uint8]]] = [[] for _ in prompts]
        batch = list(range(len(prompts)))  # the prompt that each sequence of the batch goes on from
        for step in range(most):
            rows, has_ended = model.feature_head.chosen(reading.logits)
            going = [place for place, ended in enumerate(has_ended.tolist()) if not ended]
            if not going:
                break
            if len(going) < len(batch):
                reading.select(going)
                rows, batch = rows[going], [batch[place] for place in going]
            for number, row in zip(batch, rows.cpu().numpy(), strict=True):
                said[number].append(row)
            if step < most - 1:
                reading.step(torch.full((len(batch),), -1, device=rows.device), rows)
        return [
            np.stack(rows) if rows else np.zeros((0, model.config.feature_size), np.uint8)
            for rows in said
        ]
    finally:
        model.train(was_training)
