"""Score texts that continue others: the sum of their tokens' log-probabilities, and whether each is the likeliest.

Legend: B sequences, T tokens, N targets of a batch, C width, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gptexp.data.progress import track_progress
from gptexp.model import Transformer

MAX_BATCH_TOKENS = {"cpu": 1 << 12, "cuda": 1 << 16}  # of a forward pass, padding included
MAX_LOGITS = {"cpu": 1 << 24, "cuda": 1 << 28}  # that are computed at once

Row = tuple[int, ...]  # of tokens


class Continuation(NamedTuple):
    context: Row  # at least one token
    tokens: Row  # at least one, and at most as many as the model's context holds


class Score(NamedTuple):
    log_probability: float  # of the whole continuation, in nats
    is_greedy: bool  # whether greedy decoding of the context gives the continuation


@torch.inference_mode()
def score_continuations(
    model: Transformer, continuations: Sequence[Continuation], description: str = "scoring"
) -> list[Score]:
    """Return the score of each continuation; a context that is too long is cut at its start.

    Continuations with equal inputs, such as the letters of a multiple choice, share a row of a batch.
    """
    owners: dict[Row, list[int]] = defaultdict(list)  # inputs -> numbers of continuations
    for number, (context, tokens) in enumerate(continuations):
        owners[(context + tokens)[-model.config.context - 1 : -1]].append(number)
    device = model.embedding.weight.device.type
    batches = _make_batches(sorted(owners, key=len, reverse=True), MAX_BATCH_TOKENS[device])
    scores: dict[int, Score] = {}
    for batch in track_progress(batches, description, "batches", len(batches)):
        numbers = [(row, number) for row, input in enumerate(batch) for number in owners[input]]
        targets = [continuations[number].tokens for _, number in numbers]
        places = [
            (row, position)
            for (row, _), tokens in zip(numbers, targets, strict=True)
            for position in range(len(batch[row]) - len(tokens), len(batch[row]))
        ]
        flat = [token for tokens in targets for token in tokens]
        values, is_likeliest = _score_tokens(model, batch, places, flat)
        start = 0
        for (_, number), tokens in zip(numbers, targets, strict=True):
            own = slice(start, start + len(tokens))
            scores[number] = Score(sum(values[own]), all(is_likeliest[own]))
            start += len(tokens)
    return [scores[number] for number in range(len(continuations))]


def _make_batches(rows: list[Row], max_tokens: int) -> list[list[Row]]:
    """Return batches of at most `max_tokens` of rows that are sorted by falling length."""
    batches: list[list[Row]] = []
    for row in rows:
        if batches and (len(batches[-1]) + 1) * len(batches[-1][0]) <= max_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _score_tokens(
    model: Transformer, batch: list[Row], places: list[tuple[int, int]], targets: list[int]
) -> tuple[list[float], list[bool]]:
    """Return the log-probability of each target, and whether it is the likeliest token.

    Args:
        places: row and position of the token that each target follows.
    """
    device = model.embedding.weight.device
    tokens = pad_sequence([torch.tensor(row) for row in batch], batch_first=True)  # [B, T]
    states = model(tokens.to(device))  # causal attention never sees the padding
    rows, positions = torch.tensor(places, device=device).T
    followed = states[rows, positions]  # [N, C]
    ids = torch.tensor(targets, device=device)
    size = max(1, MAX_LOGITS[device.type] // model.config.vocab_size)
    values: list[Tensor] = []
    is_likeliest: list[Tensor] = []
    for part, part_ids in zip(followed.split(size), ids.split(size), strict=True):
        logits = model.logits(part).float()  # [n, V]
        values.append(logits.log_softmax(dim=-1).gather(1, part_ids[:, None])[:, 0])
        is_likeliest.append(logits.argmax(dim=-1) == part_ids)
    return torch.cat(values).tolist(), torch.cat(is_likeliest).tolist()
